"""The tables of multi-index hashing: how many, how wide, how they are made and how they lie in a file.

    payload   64 bytes   8 little-endian uint64: number of tables m, rows in them T, zeros
              m times    uint32 (2^width + 1), where the rows of each value start
              m times    uint32 (T), the rows, sorted by value and then by row
              N codes    row by row

Widths follow from n_bits and m: the bits are cut into m parts that differ by at most one. A table is 4 bytes a code
and 4 bytes a value. Must not know how tables are searched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from hashret.codes import Codes, bytes_for
from hashret.errors import CorruptError
from hashret.index.storage import StoredIndex
from hashret.kernels import get_num_threads, native
from hashret.kernels.parallel import in_threads, pieces

_FEWEST = 1 << 15  # codes; fewer are scanned in some microseconds
_MOST_TABLES = 16  # bounds the memory; wider codes would need more, and gain nothing over a scan
_WIDEST = 26  # bits of a table, 256 MB of starts
_HEADER = 64

Words = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Plan:
    """What tables to make: the width of each in bits, or the reason for none."""

    widths: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True)
class Tables:
    """Rows 0 to ``count - 1`` by each substring.

    Attributes:
        count: rows in each table.
        widths: bits of each.
        starts: of each, (2^width + 1,) uint32.
        ids: of each, (count,) uint32.
    """

    count: int
    widths: tuple[int, ...]
    starts: tuple[Words, ...]
    ids: tuple[Words, ...]

    @property
    def nbytes(self) -> int:
        """Memory of all tables in bytes."""
        return sum(array.nbytes for array in (*self.starts, *self.ids))

    @cached_property
    def parts(self) -> tuple[tuple[int, int, Words, Words], ...]:
        """(first bit, width, starts, ids) of each table."""
        first = accumulate(self.widths[:-1], initial=0)
        return tuple(zip(first, self.widths, self.starts, self.ids))


def plan(count: int, *, n_bits: int) -> Plan:
    """How to cut codes of ``n_bits`` bits: into parts of about log2(count) bits, so that values have few rows each."""
    if count < _FEWEST:
        return Plan((), f"{count} codes are scanned sooner than probed")
    if count >= 1 << 32:
        return Plan((), "a table holds less than 2^32 codes")
    bits, usual = 8 * bytes_for(n_bits), math.log2(max(2, count))
    tables = min(max(1, math.ceil(bits / usual)), _MOST_TABLES)
    widths = widths_of(bits, tables)
    if widths[0] > min(_WIDEST, math.ceil(usual) + 4):
        return Plan((), f"codes of {n_bits} bits would need more than {_MOST_TABLES} tables and are scanned")
    return Plan(widths)


def widths_of(bits: int, tables: int) -> tuple[int, ...]:
    """``bits`` in ``tables`` parts that differ by at most one."""
    return tuple(bits // tables + (i < bits % tables) for i in range(tables))


def make_tables(codes: Codes, *, n_bits: int) -> Tables | None:
    """The tables of all codes, or None where they do not pay or the C extension is missing."""
    widths = plan(len(codes), n_bits=n_bits).widths
    if not widths or not native.available():
        return None
    starts = tuple(np.empty((1 << width) + 1, np.uint32) for width in widths)
    ids = tuple(np.empty(len(codes), np.uint32) for _ in widths)
    tables = Tables(len(codes), widths, starts, ids)
    n_bytes = bytes_for(n_bits)

    def part(begin: int, end: int) -> None:
        for first, width, of_starts, of_ids in tables.parts[begin:end]:
            native.extension().mih_build(codes, n_bytes, first, width, of_starts, of_ids)

    in_threads(part, pieces(len(widths), get_num_threads()))
    return tables


def to_payload(codes: Codes, tables: Tables | None) -> npt.NDArray[np.uint8]:
    """Codes and tables as they lie in a file; see the module's text."""
    header = np.zeros(_HEADER // 8, "<u8")
    parts: list[Any] = [header]
    if tables is not None:
        header[:2] = len(tables.widths), tables.count
        parts += [array.astype("<u4", copy=False) for array in (*tables.starts, *tables.ids)]
    return np.concatenate([part.reshape(-1).view(np.uint8) for part in (*parts, codes)])


def open_payload(stored: StoredIndex) -> tuple[Codes, Tables | None]:
    """Codes and tables of an opened file, as views of it.

    Raises:
        CorruptError: the lengths do not add up.
    """
    n_bytes = bytes_for(stored.n_bits)
    payload = stored.payload
    count, indexed = (int(x) for x in payload[:16].view("<u8")) if len(payload) >= _HEADER else (-1, 0)
    if 0 <= count <= min(_MOST_TABLES, 8 * n_bytes) and 0 <= indexed <= stored.count:
        widths = widths_of(8 * n_bytes, count) if count else ()
        if max(widths, default=0) <= _WIDEST:
            lengths = [4 * ((1 << width) + 1) for width in widths] + [4 * indexed] * count
            edges = list(accumulate(lengths, initial=_HEADER))
            if len(payload) == edges[-1] + stored.count * n_bytes:
                arrays = [payload[a:b].view("<u4") for a, b in pairwise(edges)]
                codes = payload[edges[-1] :].reshape(stored.count, n_bytes)
                return codes, Tables(indexed, widths, tuple(arrays[:count]), tuple(arrays[count:])) if count else None
    raise CorruptError(
        f"the parts of the index file {str(stored.path)!r} do not add up to its length; "
        "build the index again from its codes and save it"
    )
