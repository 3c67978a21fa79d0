"""What callers give as ids and metadata, checked and brought into the form in which it is stored.

An id is a str or an int (64 bits, signed); 1 and "1" are different ids. Metadata are one JSON object an item. Knows
nothing of files.
"""

from __future__ import annotations

import json
import operator
import re
from binascii import hexlify
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import islice
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from hashret._json import MAX_DEPTH
from hashret._text import INT_MAX, INT_MIN, is_text
from hashret.errors import InputError

Id = str | int
Ids = npt.NDArray[np.int64] | list[Id]
"""Integers only: an array. Anything else: a list."""

_HEX_BYTES = 1 << 20
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def check_items(ids: Any, metadata: Any, *, count: int) -> tuple[Ids | None, list[str | None] | None]:
    """Ids and metadata of items, such as they would be stored.

    Args:
        ids: see ``check_ids``; None: they are not given.
        metadata: see ``check_metadata``.
        count: of items.

    Raises:
        InputError: something cannot be stored, or an id occurs twice; the message names the item.
    """
    checked = None if ids is None else check_ids(ids, count=count)
    if checked is not None:
        check_distinct(checked)
    return checked, check_metadata(metadata, count=count, ids=checked)


def check_ids(ids: Any, *, count: int | None = None) -> Ids:
    """Ids as an int64 array, or as a list where not all are integers.

    Args:
        ids: a sequence or array of str and int; a single id counts as a sequence of one.
        count: how many there must be.

    Raises:
        InputError: an id of another type, out of range, or text that cannot be stored; or not ``count`` ids.
    """
    if isinstance(ids, str | int | np.integer):
        ids = [ids]
    given = _size(ids)
    if isinstance(ids, range) and count is not None:
        ids = ids[: count + 1]
    whole = _integers(ids) if isinstance(ids, np.ndarray | range) else None
    if not isinstance(ids, Iterable) or isinstance(ids, bytes | Mapping):
        raise InputError(f"ids must be a sequence of str or int, not {type(ids).__name__}")
    if count is not None and isinstance(ids, Set):
        raise InputError("ids of codes must be in an order, and a set has none; give a list")
    if whole is None and not isinstance(ids, np.ndarray):
        ids = list(ids if count is None else islice(ids, count + 1))  # they may have no end
    checked = whole if whole is not None else _mixed(ids if isinstance(ids, list) else ids.tolist())
    if count is not None and len(checked) != count:
        given = given if given is not None else len(checked) if len(checked) < count else "more"
        raise InputError(f"{count} codes need {count} ids, and {given} were given")
    return checked


def check_distinct(ids: Ids) -> None:
    """Refuse ids that occur twice.

    Raises:
        InputError: the message names one that does.
    """
    if isinstance(ids, np.ndarray):
        if is_contiguous(ids):
            return
        ids = ids.tolist()
    if len(set(ids)) < len(ids):
        seen: set[Id] = set()
        for id in ids:
            if id in seen:
                raise InputError(f"the id {id!r} is given twice; nothing was stored, give each id once")
            seen.add(id)


def is_contiguous(ids: npt.NDArray[np.int64]) -> bool:
    """Whether the ids count up by one."""
    return not len(ids) or bool(ids[-1] >= ids[0] and (ids[1:] == ids[:-1] + 1).all())  # the sum may wrap


def check_metadata(metadata: Any, *, count: int, ids: Ids | None = None) -> list[str | None] | None:
    """Metadata as JSON text an item (None for an empty object), or None where no item has any.

    Args:
        metadata: None, or ``count`` dicts (or None) with str keys and JSON values; numpy values become plain ones.
        count: how many there must be.
        ids: of the items, for errors to name; without, they give the place of what is wrong.

    Raises:
        InputError: not ``count`` of them, no dict, or nothing that JSON can hold.
    """
    if metadata is None:
        return None
    if isinstance(metadata, dict | str) or not isinstance(metadata, Sequence):
        raise InputError(f"metadata must be a list with a dict for each code, not {type(metadata).__name__}")
    if len(metadata) != count:
        raise InputError(f"{count} codes need {count} metadata, and {len(metadata)} were given")
    texts: list[str | None] = []
    for entry in metadata:
        try:
            texts.append(_text(entry))
        except InputError as error:
            raise InputError(f"{_name(ids, len(texts))} {error}") from error.__cause__
    together = "\n".join([text for text in texts if text is not None])
    if ("\\u0000" in together and _NUL.search(together)) or not is_text(together):
        for position, text in enumerate(texts):
            _refuse_letters(text or "", _name(ids, position))
    return texts if together else None


def checksum(*values: Id | None) -> int:
    """CRC-32 of a row of the catalogue, as a signed number (four bytes in SQLite, not six).

    Strings and numbers differ by a letter in front of each, None has its own.
    """
    text = "\0".join("n" if v is None else f"s{v}" if isinstance(v, str) else f"i{v}" for v in values)
    return (crc32(text.encode("utf-8", "surrogatepass")) ^ 0x80000000) - 0x80000000


def checksums(ids: Sequence[Id], texts: Sequence[str | None]) -> list[int]:
    """``checksum(id, text)`` of each item, in one pass."""
    letters = {str: "s", int: "i"}
    return [
        (crc32(f"{letters[type(id)]}{id}\0{'n' if text is None else 's' + text}".encode()) ^ 0x80000000) - 0x80000000
        for id, text in zip(ids, texts)
    ]


def hex_checksum(data: bytes) -> int:
    """``checksum(data.hex())``, twice as fast and without the text, which has the size of two copies."""
    crc = crc32(b"s")
    for start in range(0, len(data), _HEX_BYTES):
        crc = crc32(hexlify(data[start : start + _HEX_BYTES]), crc)
    return (crc ^ 0x80000000) - 0x80000000


def integer_checksums(ids: npt.NDArray[np.int64]) -> list[int]:
    """``checksum(id, None)`` of integers, ten times faster than one by one: CRC-32 a digit at a time of all at once."""
    if len(ids) and int(ids.min()) < 0:
        plain = ids.tolist()
        return checksums(plain, [None] * len(plain))
    width = len(str(int(ids.max()))) if len(ids) else 0
    rest, digits = ids.astype(np.uint64), np.empty((width, len(ids)), np.uint8)
    for place in range(width - 1, -1, -1):
        rest, digits[place] = np.divmod(rest, np.uint64(10))
    crc, begun = np.full(len(ids), crc32(b"i") ^ 0xFFFFFFFF, np.uint32), np.zeros(len(ids), bool)
    for place, digit in enumerate(digits):
        begun |= (digit > 0) | (place == width - 1)
        crc = np.where(begun, _CRC_TABLE[(crc & 0xFF) ^ (digit + ord("0"))] ^ (crc >> 8), crc)
    for letter in b"\0n":
        crc = _CRC_TABLE[(crc & 0xFF) ^ letter] ^ (crc >> 8)
    signed: list[int] = (crc ^ np.uint32(0xFFFFFFFF)).view(np.int32).tolist()
    return signed


def _size(ids: Any) -> int | str | None:
    try:
        return len(ids)
    except OverflowError:  # of a range
        return "more"
    except TypeError:  # of an iterator, and of what is refused
        return None


def _integers(ids: npt.NDArray[Any] | range) -> npt.NDArray[np.int64] | None:
    if isinstance(ids, range):
        if len(ids) and not (min(ids[0], ids[-1]) >= INT_MIN and max(ids[0], ids[-1]) <= INT_MAX):
            raise InputError(f"integer ids must fit 64 bits, and {ids!r} does not")
        return np.arange(ids.start, ids.stop, ids.step, dtype=np.int64)
    if ids.ndim != 1:
        raise InputError(f"ids must have one dimension, not the shape {ids.shape}")
    if ids.dtype.kind in "mM":  # numpy takes durations for integers, and gives both as integers in a list
        raise InputError(f"ids must be str or int, not {ids.dtype}")
    if not np.issubdtype(ids.dtype, np.integer):
        return None
    if ids.dtype == np.uint64 and len(ids) and int(ids.max()) > INT_MAX:
        raise InputError(f"integer ids must fit 64 bits with a sign, and {int(ids.max())} does not")
    return np.array(ids, dtype=np.int64)


def _mixed(ids: list[Any]) -> Ids:
    kinds = set(map(type, ids))
    if not kinds <= {int, str}:
        ids = [_plain_id(id) for id in ids]
        kinds = set(map(type, ids))
    if str in kinds:
        together = "".join(id for id in ids if isinstance(id, str))
        if "\0" in together:
            bad = next(id for id in ids if isinstance(id, str) and "\0" in id)
            raise InputError(f"the id {bad!r} holds a NUL character, which cannot be stored; leave it out")
        if not is_text(together):
            bad = next(id for id in ids if isinstance(id, str) and not is_text(id))
            raise InputError(f"the id {bad!r} holds half a surrogate pair, which is no text; repair it")
    for id in ids if int in kinds else ():
        if isinstance(id, int) and not INT_MIN <= id <= INT_MAX:
            raise InputError(f"integer ids must fit 64 bits with a sign, and {id} does not; give it as a string")
    return np.array(ids, np.int64) if kinds <= {int} else ids


def _plain_id(id: Any) -> Id:
    if isinstance(id, str):
        return str.__str__(id)  # of an enum its text, not its name
    if not isinstance(id, bool | np.bool_):
        try:
            return operator.index(id)
        except TypeError:
            pass
    raise InputError(f"an id must be a str or an int, not {id!r}")


def _name(ids: Ids | None, position: int) -> str:
    """What errors call the metadata at a position."""
    if ids is None:
        return f"the metadata entry {position}"
    id = ids[position]
    return f"the metadata of {(id if isinstance(id, str) else int(id))!r}"


def _text(entry: Any) -> str | None:
    """As JSON; errors go on from the name of the entry."""
    if entry is None:
        return None
    if not isinstance(entry, dict):
        if not isinstance(entry, Mapping):
            raise InputError(f"must be a dict, not {entry!r}")
        entry = dict(entry)
    if not entry:
        return None
    if not set(map(type, entry)) <= {str}:
        odd = [key for key in entry if not isinstance(key, str)]
        if odd:
            raise InputError(f"must have keys of type str, and has {odd[0]!r}")
    try:
        text = _ENCODER.encode(entry)
    except (TypeError, ValueError, RecursionError) as error:  # ValueError: NaN, or a circle
        raise InputError(f"cannot be stored as JSON: {error}") from error
    if text.find("{", 1) > 0:
        _check_keys(entry)
    if len(text) > MAX_DEPTH and text.count("{") + text.count("[") > MAX_DEPTH and _depth(entry) > MAX_DEPTH:
        raise InputError(f"is nested deeper than {MAX_DEPTH}; make it flatter")
    return text


def _refuse_letters(text: str, name: str) -> None:
    if _NUL.search(text):
        raise InputError(f"{name} holds a NUL character, which cannot be stored; leave it out")
    if not is_text(text):
        raise InputError(f"{name} holds half a surrogate pair, which is no text; repair it")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind not in "mM":  # a time would be a bare number
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is no JSON value")


def _check_keys(value: Any) -> None:
    """Refuse keys inside that JSON would turn into text, of which two could become one."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InputError(f"must have keys of type str, and has {key!r} within")
            _check_keys(inner)
    elif isinstance(value, list | tuple | np.ndarray):
        for inner in value:
            _check_keys(inner)


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        children: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                children.extend(node.values())
            elif isinstance(node, list | tuple):
                children.extend(node)
        deepest, level = deepest + 1, children
    return deepest - 1


_CRC_TABLE = np.array([crc32(bytes([byte]), 0xFFFFFFFF) ^ 0xFFFFFFFF for byte in range(256)], np.uint32)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)
