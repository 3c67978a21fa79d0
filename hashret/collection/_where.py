"""Filters on metadata: a dict in, one parameterised SQL condition out.

    {"year": 2019}                                    equal; also {"year": {"eq": 2019}}
    {"year": {"gte": 2019, "lt": 2022}}               gt, gte, lt, lte, ne, in, exists, contains; several mean "and"
    {"tag": {"in": ["a", "b"]}}                       one of several
    {"tags": {"contains": "a"}}                       a list that holds the value
    {"camera.make": {"exists": True}}                 a dot walks into an object; "\\\\." is a dot of the name itself
    {"year": {"not": {"lt": 2000}}}                   the condition does not hold (a missing field does not hold any)
    {"or": [{"year": 2019}, {"not": {"tag": "a"}}]}   and, or take lists of filters, not takes one; fields side by
                                                      side mean "and". No filter names a field that is called so

Numbers compare with numbers and strings with strings (by code point); true and false are 1 and 0, as in Python; a
value of another kind does not match. ``None`` equals a null that is there. A whole number of a filter has to fit 64
bits with a sign; a stored one that does not compares as the nearest float, so such numbers are better kept as strings.
Every value is bound as a parameter; a field's name becomes a JSON path in quotes, and a name that could leave them is
refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from hashret._text import INT_MAX, INT_MIN, is_field_name, is_text
from hashret.errors import InputError
from hashret.registry import nearest

MAX_CONDITIONS = 400
MAX_DEPTH = 20  # SQLite's parser takes about 100 brackets, and each level opens several

LOGIC = ("and", "or", "not")
_COMPARE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_OPERATORS = ("eq", "ne", *_COMPARE, "in", "contains", "exists", "not")


class Condition(NamedTuple):
    """SQL over the column ``metadata`` of ``items``, and what its question marks stand for."""

    sql: str
    parameters: tuple[Any, ...]


def compile_filter(where: Any) -> Condition | None:
    """The SQL of a filter; None where everything matches.

    Raises:
        InputError: an unknown operator (the message has the nearest), a value of the wrong kind, a whole number
            beyond 64 bits, a field name that cannot be searched, or a filter that is too large.
    """
    if where is None:
        return None
    compiler = _Compiler()
    try:
        sql = compiler.filter(where, 0)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # of repr, which a message wanted: 4,300 digits, or 1,000 brackets
        raise InputError(f"the filter holds a value that cannot be used ({error}); give strings and numbers") from None
    return Condition(sql, tuple(compiler.parameters)) if sql else None


def field_sql(field: Any) -> str:
    """The SQL of a field's value; the same text in filters and indexes, or SQLite would not use the index."""
    return f"json_extract(metadata, {_path(field)})"


class _Compiler:
    def __init__(self) -> None:
        self.parameters: list[Any] = []
        self._count = 0

    def filter(self, where: Any, depth: int) -> str:
        if not isinstance(where, Mapping):
            raise InputError(f"a filter is a dict such as {{'year': {{'gte': 2019}}}}, not {where!r}")
        if depth > MAX_DEPTH:
            raise InputError(f"the filter is nested deeper than {MAX_DEPTH}; make it flatter")
        if not where:
            self._count_one()
        return self._all([self._part(key, value, depth) for key, value in where.items()])

    def _part(self, key: Any, value: Any, depth: int) -> str:
        if key == "not":
            return f"NOT ifnull({self.filter(value, depth + 1) or '1'}, 0)"
        if key in LOGIC:
            if not isinstance(value, list | tuple):
                raise InputError(f"{key!r} takes a list of filters, not {value!r}")
            if not value:
                self._count_one()
            parts = [self.filter(part, depth + 1) or "1" for part in value]
            return self._all(parts) or "1" if key == "and" else "(" + (" OR ".join(parts) or "0") + ")"
        _path(key)
        return self._field(key, value, depth) if isinstance(value, Mapping) else self._operator(key, "eq", value, depth)

    def _field(self, field: str, conditions: Mapping[Any, Any], depth: int) -> str:
        if not conditions:
            raise InputError(f"the filter on {field!r} is empty; give a value or {{operator: value}}")
        return self._all([self._operator(field, name, value, depth) for name, value in conditions.items()])

    def _all(self, parts: list[str]) -> str:
        return "(" + " AND ".join(parts) + ")" if parts else ""

    def _count_one(self) -> None:
        """Count a condition, or an empty filter: SQLite's time grows with the square, and no interrupt ends it."""
        self._count += 1
        if self._count > MAX_CONDITIONS:
            raise InputError(f"the filter has more than {MAX_CONDITIONS} conditions; use 'in' for many values")

    def _operator(self, field: str, name: Any, value: Any, depth: int) -> str:
        self._count_one()
        if name not in _OPERATORS:
            raise InputError(f"a filter has no operator {name!r}{nearest(str(name), _OPERATORS)}")
        path = _path(field)
        if name == "exists":
            if not isinstance(value, bool | np.bool_):
                raise InputError(f"'exists' takes True or False, not {value!r}")
            return f"json_type(metadata, {path}) IS {'NOT ' if value else ''}NULL"
        if name == "not":
            if depth >= MAX_DEPTH:
                raise InputError(f"the filter is nested deeper than {MAX_DEPTH}; make it flatter")
            inner = self._negated(field, value, depth + 1)
            return f"NOT ifnull({inner}, 0)"
        if name == "ne":
            return f"NOT ifnull({self._equal(field, value)}, 0)"
        if name == "eq":
            return self._equal(field, value)
        if name == "in":
            return self._one_of(field, value)
        if name == "contains":
            return self._contains(path, value)
        return self._compare(field, name, value)

    def _negated(self, field: str, value: Any, depth: int) -> str:
        if isinstance(value, Mapping):
            return self._field(field, value, depth)
        return self._operator(field, "eq", value, depth)

    def _equal(self, field: str, value: Any) -> str:
        path, extract = _path(field), field_sql(field)
        if value is None:
            return f"json_type(metadata, {path}) = 'null'"
        equal = f"{extract} = {self._bind(value, 'eq')}"
        return f"({equal} AND {_is_text(path)})" if _like_json(value) else f"({equal})"

    def _one_of(self, field: str, values: Any) -> str:
        if isinstance(values, set | frozenset | range):
            values = list(values)
        elif isinstance(values, np.ndarray) and values.ndim == 1:
            values = values.tolist()
        if not isinstance(values, list | tuple):
            raise InputError(f"'in' takes a list of values, not {values!r}")
        plain = [_scalar(value, "in") for value in values]
        given = [value for value in plain if value is not None]
        bracketed = [value for value in given if _like_json(value)]
        rest = [value for value in given if not _like_json(value)]
        parts = [self._equal(field, None)] if len(given) < len(plain) else []
        if bracketed:
            parts.append(f"({self._among(field, bracketed)} AND {_is_text(_path(field))})")
        if rest or not parts:
            parts.append(self._among(field, rest))
        return "(" + " OR ".join(parts) + ")"

    def _among(self, field: str, values: list[str | int | float]) -> str:
        """One part of the SQL, and one parameter, for however many values."""
        self.parameters.append(json.dumps(values, ensure_ascii=False))
        return f"{field_sql(field)} IN (SELECT value FROM json_each(?))"

    def _compare(self, field: str, name: str, value: Any) -> str:
        extract, path = field_sql(field), _path(field)
        if value is None or isinstance(value, list | tuple | Mapping):
            raise InputError(f"{name!r} takes a number or a string, not {value!r}")
        compare = f"{extract} {_COMPARE[name]} {self._bind(value, name)}"
        # SQLite sorts NULL < numbers < text < blobs; the second bound keeps to one kind, and to the index
        if isinstance(value, str):
            bound = f"{extract} < x''" if name in ("gt", "gte") else f"{extract} >= ''"
            return f"({compare} AND {bound} AND {_is_text(path)})"
        return f"({compare} AND {extract} < '')" if name in ("gt", "gte") else f"({compare})"

    def _contains(self, path: str, value: Any) -> str:
        value = _scalar(value, "contains")
        if value is None:
            test = "type = 'null'"
        else:
            kinds = "type = 'text'" if isinstance(value, str) else "type IN ('integer', 'real', 'true', 'false')"
            test = f"{kinds} AND value = {self._bind(value, 'contains')}"
        return (
            f"(json_type(metadata, {path}) = 'array' AND EXISTS "
            f"(SELECT 1 FROM json_each(metadata, {path}) WHERE {test}))"
        )

    def _bind(self, value: Any, name: str) -> str:
        value = _scalar(value, name)
        if isinstance(value, str | int):
            self.parameters.append(value)
            return "?"
        self.parameters.append(json.dumps(value))  # read by the reader that reads the metadata: equal text, equal value
        return "json_extract(?, '$')"


def _scalar(value: Any, name: str) -> str | int | float | None:
    """``value`` as a plain scalar; bools are ints, as the database has them."""
    item = getattr(value, "item", None)
    value = item() if item is not None and getattr(value, "ndim", None) == 0 else value
    if isinstance(value, str):
        if "\0" in value or not is_text(value):
            raise InputError(f"the filter value {value!r} is no text that metadata can hold")
        return str.__str__(value)  # of an enum its text, not its name
    if isinstance(value, bool | int):
        if not INT_MIN <= value <= INT_MAX:  # SQLite would make it a float, which equals other whole numbers
            raise InputError(f"{name!r} takes whole numbers that fit 64 bits with a sign; keep larger ones as strings")
        return int(value)
    if value is None or (isinstance(value, float) and value == value and abs(value) != float("inf")):
        return value
    hint = "; for several values use 'in'" if isinstance(value, list | tuple | set) else ""
    raise InputError(f"{name!r} takes a string, a finite number, a bool or None, not {value!r}{hint}")


def _like_json(value: Any) -> bool:
    """Whether a value is text as that which lists and objects come out as."""
    return isinstance(value, str) and value[:1] in ("[", "{")


def _is_text(path: str) -> str:
    return f"json_type(metadata, {path}) = 'text'"


def _path(field: Any) -> str:
    r"""The JSON path of a field as an SQL literal: ``a.b`` is ``'$."a"."b"'``, ``a\.b`` is ``'$."a.b"'``."""
    if not isinstance(field, str):
        raise InputError(f"a field's name is a str, not {field!r}")
    names = [name.replace("\\.", ".") for name in re.split(r"(?<!\\)\.", field)]
    for name in names:
        if not is_field_name(name):
            raise InputError(
                f"a filter or an index cannot name the field {field!r}: a name is not empty and has no quotes, "
                "backslashes or control characters"
            )
    path = "$" + "".join(f'."{name}"' for name in names)
    return "'" + path.replace("'", "''") + "'"
