"""Which metadata fields a collection has, as a sample of its items tells: what a page offers as filters."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import islice
from typing import Any, NamedTuple

from hashret._text import is_field_name
from hashret.collection import Collection
from hashret.indexing.known import LISTING
from hashret.server.schemas import EXACT

SAMPLE = 1000
MAX_VALUES = 12
MAX_FIELDS = 12
HIDDEN = (*LISTING, "captions", "credits")  # files, and prose
_LOGIC = ("and", "or", "not")  # a filter reads them as words of its own
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


class Field(NamedTuple):
    """A field and what it holds; attributes as of ``schemas.FieldFacts``."""

    name: str
    kind: str
    values: tuple[Any, ...]
    low: float | None
    high: float | None


def fields_of(collection: Collection) -> tuple[Field, ...]:
    """The fields that are worth filtering by, the most frequent first."""
    with collection.snapshot() as fixed:  # an item may be removed before it is looked at
        ids = list(islice(fixed, SAMPLE))
        sample = fixed.get(ids).metadata if ids else []
    found: dict[str, list[Any]] = defaultdict(list)
    for metadata in sample:
        for name, value in metadata.items():
            if name not in (*HIDDEN, *_LOGIC) and is_field_name(name):
                found[name].append(value)
    fields = [
        field for name in sorted(found, key=lambda name: -len(found[name])) if (field := _field(name, found[name]))
    ]
    return tuple(fields[:MAX_FIELDS])


def _field(name: str, values: list[Any]) -> Field | None:
    if all(value == values[0] for value in values) and not isinstance(values[0], list):
        return None  # nothing to choose
    if all(isinstance(value, bool) for value in values):
        return Field(name, "flag", (True, False), None, None)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        if max(map(abs, values)) > EXACT:
            return None
        few = sorted(set(values))
        shown = tuple(few) if len(few) <= MAX_VALUES else ()
        return Field(name, "number", shown, float(min(values)), float(max(values)))
    if all(isinstance(value, str) for value in values):
        if all(_DATE.match(value) for value in values):
            return Field(name, "date", (min(values)[:10], max(values)[:10]), None, None)
        return _worded(name, "text", values)
    if all(isinstance(value, list) for value in values):
        flat = [entry for value in values for entry in value]
        if flat and all(isinstance(entry, str) for entry in flat):
            return _worded(name, "list", flat)
    return None


def _worded(name: str, kind: str, words: list[str]) -> Field | None:
    """A field of words is offered where some of them recur: a field of prose or of names would be no help."""
    counted = Counter(word for word in words if 0 < len(word) <= 40)
    if len(counted) > max(MAX_VALUES, len(words) // 4):
        return None
    values = tuple(word for word, _ in counted.most_common(MAX_VALUES))
    return Field(name, kind, values, None, None) if values else None
