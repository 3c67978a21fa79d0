"""What a value in a file may be: JSON as its standard has it, and of that what a collection can store.

Python reads and writes NaN and Infinity, which no other program takes for JSON; half a surrogate pair and NUL are JSON,
and can be stored nowhere. Let in, one such line would make the index of a whole data set fail. So they are refused
here, where file and line are known.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from hashret._json import MAX_DEPTH
from hashret._text import is_text
from hashret.errors import DataError

_CONSTANTS = ("NaN", "Infinity", "-Infinity")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|NaN|-?Infinity|-?\d[\d.eE+-]*', re.DOTALL)


class NotJson(ValueError):
    """A text that is no JSON value, or one that cannot be read.

    Attributes:
        position: of the fault in the text; None where it is unknown.
        is_syntax: whether the text is no JSON at all, and not a value that JSON or Python does not have.
    """

    def __init__(self, reason: str, *, position: int | None = None, is_syntax: bool = False) -> None:
        super().__init__(reason)
        self.position, self.is_syntax = position, is_syntax


def parse_json(text: str) -> Any:
    """The JSON value in ``text``.

    Raises:
        NotJson: it is not valid JSON, or holds NaN, infinity or an integer of more digits than Python reads.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise NotJson(f"not valid JSON ({error.msg})", position=error.pos, is_syntax=True) from error
    except RecursionError as error:
        raise NotJson("not valid JSON (nested too deeply)", is_syntax=True) from error
    except ValueError as error:  # a constant, or an integer: Python names neither's place
        raise _unreadable(text) from error


def load_json(text: str, path: Path) -> Any:
    """The JSON value in ``text``, the content of the file ``path``.

    Raises:
        DataError: as ``NotJson``; file, line and column are named.
    """
    try:
        return parse_json(text)
    except NotJson as error:
        at, place = error.position, ""
        if at is not None:
            place = f", line {text.count(chr(10), 0, at) + 1}, column {at - text.rfind(chr(10), 0, at)}"
        raise DataError(f"{path}{place}: {error}") from error


def check_text(text: str, what: str, where: str) -> None:
    """Refuse a text that cannot be stored.

    Args:
        text: a caption, a label, a name.
        what: it is, for the message: "caption".
        where: ``"file, line 3"``.

    Raises:
        DataError: it holds a NUL character or half a surrogate pair.
    """
    if "\0" in text:
        raise DataError(
            f"{where}: the {what} {text[:60]!r} holds a NUL character, which cannot be stored; leave it out"
        )
    if not is_text(text):
        raise DataError(f"{where}: the {what} {text[:60]!r} holds half a surrogate pair; give one that is UTF-8")


def check_metadata(metadata: Mapping[str, Any], where: str) -> None:
    """Refuse metadata that cannot be stored.

    Args:
        metadata: JSON values.
        where: ``"file, line 3"``.

    Raises:
        DataError: a key or a text within holds a NUL character or half a surrogate pair, a number is infinite (1e999)
            or NaN, or something is nested deeper than ``MAX_DEPTH``; the key is named.
    """
    for key, value in metadata.items():
        check_text(key, "key", where)
        level, depth = [value], 1
        while level:
            if depth > MAX_DEPTH:
                raise DataError(f"{where}: the metadata {key!r} are nested deeper than {MAX_DEPTH}; make them flatter")
            inner: list[Any] = []
            for one in level:
                if isinstance(one, str):
                    check_text(one, f"metadata {key!r} with", where)
                elif isinstance(one, float) and not math.isfinite(one):
                    raise DataError(f"{where}: the metadata {key!r} hold {one}; write null, or leave the key out")
                elif isinstance(one, Mapping):
                    inner += [*one, *one.values()]
                elif isinstance(one, list):
                    inner += one
            level, depth = inner, depth + 1


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _unreadable(text: str) -> NotJson:
    """What ``parse_json`` stumbled over, found by looking at everything outside of strings."""
    most = sys.get_int_max_str_digits()
    for token in _TOKEN.finditer(text):
        found = token[0]
        if found in _CONSTANTS:
            return NotJson(f"{found} is no JSON value; write null, or leave the key out", position=token.start())
        digits = len(found.lstrip("-"))
        if digits > most and found.lstrip("-").isdecimal():
            return NotJson(
                f"an integer of {digits:,} digits, more than the {most:,} that are read; write it as a string",
                position=token.start(),
            )
    return NotJson("not valid JSON", is_syntax=True)


_DECODER = json.JSONDecoder(parse_constant=_refuse)
