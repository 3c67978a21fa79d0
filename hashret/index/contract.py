"""What every index is: rows of codes that can be added to, searched and saved.

An index knows rows 0 to N - 1 and codes, nothing else: ids, metadata and deletes belong to the collection, which
hides a row with a mask. So nothing is ever removed from an index. Must not know how an index is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from hashret.codes import Codes
from hashret.kernels import Hits, RangeHits
from hashret.kernels.contract import Mask


@runtime_checkable
class CodeIndex(Protocol):
    """The verbs of an index. Exact ones give byte for byte what ``FlatIndex`` gives; approximate ones say so."""

    @property
    def n_bits(self) -> int:
        """Width of a code."""
        ...

    @property
    def codes(self) -> Codes:
        """(N, n_bytes) uint8, read-only."""
        ...

    def __len__(self) -> int: ...

    def add(self, codes: Codes) -> None:
        """Append (M, n_bytes) codes; they get the rows N to N + M - 1."""
        ...

    def search(self, queries: Codes, k: int, *, mask: Mask | None = None, radius: int | None = None) -> Hits:
        """The ``k`` nearest codes of each query, ordered by (distance, row), padded with -1."""
        ...

    def range_search(self, queries: Codes, radius: int, *, mask: Mask | None = None) -> RangeHits:
        """All codes within ``radius`` (inclusive), those of a query ordered by (distance, row)."""
        ...

    def save(self, path: str | Path) -> None:
        """Write the index to one file, at once or not at all."""
        ...

    @classmethod
    def open(cls, path: str | Path, *, mmap: bool = True) -> Self:
        """Read an index that ``save`` wrote."""
        ...
