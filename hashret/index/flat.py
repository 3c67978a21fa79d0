"""The flat index: all codes in one array, searched by an exact scan. The reference for every other index.

    add ─► growing buffer ─┐
    open ─► mapped file   ─┼─► codes (N, n_bytes) ─► kernels
    over ─► caller's array ┘

Must not know of ids, metadata or deletes; a mask hides rows.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from hashret.codes import Codes, bytes_for, check_codes, one_row
from hashret.errors import CodeError, CorruptError
from hashret.index.asymmetric import AsymmetricHits, search_asymmetric
from hashret.index.storage import StoredIndex, read_index, write_index
from hashret.kernels import Hits, RangeHits, choose_backend, range_search_checked, search_checked
from hashret.kernels.contract import Mask


class FlatIndex:
    """Exact search over packed codes.

    Args:
        n_bits: width of the codes, 1 to 4,096; need not be a multiple of 8.
        backend: "auto", "native", "faiss" or "numpy".

    Raises:
        InputError: no such width.
        ConfigError: no such back end.
    """

    kind = "flat"

    def __init__(self, n_bits: int, *, backend: str = "auto") -> None:
        self._n_bytes = bytes_for(n_bits)
        self._n_bits = int(n_bits)
        if backend != "auto":
            choose_backend(backend)
        self._backend = backend
        self._buffer: Codes = np.zeros((0, self._n_bytes), np.uint8)
        self._count = 0
        self._owned = True
        self._stored: StoredIndex | None = None
        self._lock = threading.Lock()

    @classmethod
    def over(cls, codes: Codes, *, n_bits: int, backend: str = "auto") -> Self:
        """An index over an array that exists, such as a memory-mapped file; nothing is copied.

        The caller must not change the rows while the index is in use. ``refresh`` shows it more of them.

        Args:
            codes: (N, n_bytes) uint8, C-contiguous; may be read-only.
            n_bits: width.
            backend: as in the constructor.

        Raises:
            CodeError: not packed codes of ``n_bits``, or not C-contiguous.
        """
        index = cls(n_bits, backend=backend)
        index._wrap(check_codes(codes, n_bits=n_bits), codes)
        return index

    def refresh(self, codes: Codes) -> None:
        """Go on with a longer array whose first rows are the ones known so far.

        Args:
            codes: (M, n_bytes) uint8, M >= N; only the rows from N on are checked.

        Raises:
            CodeError: not packed codes of this width, or fewer than before.
        """
        check_codes(codes[:0] if isinstance(codes, np.ndarray) else codes, n_bits=self._n_bits)
        if len(codes) < self._count:
            raise CodeError(
                f"an index of {self._count} codes cannot be refreshed to {len(codes)}; "
                "make a new one with FlatIndex.over"
            )
        check_codes(codes[self._count :], n_bits=self._n_bits)
        self._wrap(np.ascontiguousarray(codes).view(np.ndarray), codes)

    def _wrap(self, codes: Codes, given: Codes) -> None:
        if not np.shares_memory(codes, given) and len(codes):
            raise CodeError("an index over existing codes needs them C-contiguous; pass np.ascontiguousarray(codes)")
        with self._lock:
            self._buffer, self._count, self._owned, self._stored = codes, len(codes), False, None

    @property
    def n_bits(self) -> int:
        """Width of a code."""
        return self._n_bits

    @property
    def backend(self) -> str:
        """The back end that was asked for; ``kernels.choose_backend`` says which one "auto" is."""
        return self._backend

    @property
    def codes(self) -> Codes:
        """(N, n_bytes) uint8, a read-only view."""
        count = self._count  # first: another thread may add, and so many rows are in this buffer and in every later one
        view = self._buffer[:count]
        view.flags.writeable = False
        return view

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"FlatIndex(n_bits={self._n_bits}, codes={self._count}, backend={self._backend!r})"

    def add(self, codes: Codes) -> None:
        """Append codes; they get the rows N to N + M - 1.

        The codes of an opened file or of ``over`` are copied into memory first; the file is not changed.

        Args:
            codes: (M, n_bytes) uint8, or one code (n_bytes,).

        Raises:
            CodeError: they do not fit ``n_bits``; nothing was added.
        """
        new = check_codes(one_row(codes), n_bits=self._n_bits)
        if not len(new):
            return
        with self._lock:
            total = self._count + len(new)
            if not self._owned or total > len(self._buffer):
                grown = _aligned(max(total, self._count + self._count // 2), self._n_bytes)
                grown[: self._count] = self._buffer[: self._count]
                self._buffer, self._owned, self._stored = grown, True, None
            self._buffer[self._count : total] = new
            self._count = total

    def search(self, queries: Codes, k: int, *, mask: Mask | None = None, radius: int | None = None) -> Hits:
        """The ``k`` nearest codes of each query, exactly, ordered by (distance, row).

        Args:
            queries: (Q, n_bytes) uint8; a single query (n_bytes,) gives a one-row result.
            k: hits of a query, at least 1; may exceed N, up to 2^24 empty places in all.
            mask: (N,) bool or bitarray, True = may be found.
            radius: largest distance that counts, inclusive.

        Returns:
            ``distances`` (Q, k) int32 and ``rows`` (Q, k) int64, padded with -1.

        Raises:
            CodeError: the queries do not fit ``n_bits``.
            InputError: ``k``, ``mask`` or ``radius`` cannot be used.
        """
        return search_checked(
            self.codes,
            queries,
            k,
            n_bits=self._n_bits,
            mask=mask,
            radius=radius,
            backend=self._backend,
        )

    def range_search(self, queries: Codes, radius: int, *, mask: Mask | None = None) -> RangeHits:
        """All codes within ``radius`` (inclusive) of each query, those of one query ordered by (distance, row).

        Args and Raises: as in ``search``.
        """
        return range_search_checked(self.codes, queries, radius, n_bits=self._n_bits, mask=mask, backend=self._backend)

    def search_asymmetric(
        self, relaxed: npt.ArrayLike, k: int, *, oversample: int = 4, mask: Mask | None = None
    ) -> AsymmetricHits:
        """The ``k * oversample`` nearest by distance, of them the best ``k`` by asymmetric score.

        Args:
            relaxed: (Q, n_bits) float queries; one (n_bits,) gives a one-row result.
            k: hits of a query, at least 1.
            oversample: how many times ``k`` candidates are scored, at least 1.
            mask: as in ``search``.

        Returns:
            ``scores`` (Q, k) float32 (larger is nearer, padded with -inf), ``distances`` and ``rows``.

        Raises:
            CodeError: the queries are no floats of this width, or hold NaN.
        """
        return search_asymmetric(self, relaxed, k, oversample=oversample, mask=mask)

    def save(self, path: str | Path) -> None:
        """Write the codes to an index file, at once or not at all.

        Raises:
            StorageError: the file cannot be written; an existing one is as it was.
        """
        codes = self.codes  # once: another thread may add
        write_index(path, codes, kind=self.kind, n_bits=self._n_bits, count=len(codes))

    @classmethod
    def open(cls, path: str | Path, *, mmap: bool = True, backend: str = "auto") -> Self:
        """Open an index file.

        Args:
            path: what ``save`` wrote.
            mmap: map the codes, in milliseconds at any size and shared between processes; ``verify`` then checks
                their checksums on request. False reads and checks them now.
            backend: as in the constructor.

        Raises:
            CorruptError: foreign, truncated or damaged.
            VersionError: from a later hashret.
            StorageError: missing, unreadable, or another kind of index.
        """
        stored = read_index(path, mmap=mmap, kind=cls.kind)
        n_bytes = bytes_for(stored.n_bits)
        if len(stored.payload) != stored.count * n_bytes:
            raise CorruptError(
                f"the index file {str(path)!r} names {stored.count} codes of {n_bytes} bytes and holds "
                f"{len(stored.payload)} bytes; build the index again from its codes and save it"
            )
        index = cls(stored.n_bits, backend=backend)
        index._buffer, index._count = stored.payload.reshape(stored.count, n_bytes), stored.count
        index._owned, index._stored = False, stored
        return index

    def verify(self) -> None:
        """Check what is in memory or in the opened file.

        Raises:
            CorruptError: a block of the opened file differs from its checksum.
        """
        if self._stored is not None:
            self._stored.verify()
        try:
            check_codes(self.codes, n_bits=self._n_bits)
        except CodeError as error:
            raise CorruptError(f"the index holds damaged codes: {error}") from error


def _aligned(rows: int, n_bytes: int) -> Codes:
    """Room for codes that begins with a cache line, so that a code of up to 64 bytes seldom lies across two."""
    raw = np.empty(rows * n_bytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + rows * n_bytes].reshape(rows, n_bytes)
