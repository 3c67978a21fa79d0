"""The codes file: a header, then packed codes that are only ever appended. Its picture is in the package's docstring.

Knows bytes, rows and checksums; must not know of ids or of the catalogue, which alone says how many rows count.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np

from hashret._files import sync_directory
from hashret.codes import MAX_BITS, Codes
from hashret.errors import CorruptError, StorageError, VersionError

VERSION = 1
MAGIC = b"\x89HSHRET\n"
HEADER_BYTES = 64
BLOCK_BYTES = 1 << 16

_FIELDS = struct.Struct("<8sIIII16s20x")
_CRC = struct.Struct("<I")
_WRITE_BYTES = 1 << 26
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class Header(NamedTuple):
    """What the first 64 bytes say."""

    n_bits: int
    block_rows: int
    generation: int
    number: bytes  # 16 random bytes, the same in the catalogue

    @property
    def n_bytes(self) -> int:
        """Bytes of a code."""
        return (self.n_bits + 7) // 8

    def pack(self) -> bytes:
        """The 64 bytes."""
        fields = _FIELDS.pack(MAGIC, VERSION, self.n_bits, self.block_rows, self.generation, self.number)
        return fields + _CRC.pack(crc32(fields))


def rows_of_a_block(n_bytes: int) -> int:
    """How many codes share a checksum: about 64 KB of them."""
    return max(1, BLOCK_BYTES // n_bytes)


def file_name(generation: int) -> str:
    """The name of a generation's codes file."""
    return f"codes-{generation:06d}.bin"


def is_file_name(name: str) -> bool:
    """Whether ``file_name`` gives such names."""
    return re.fullmatch(r"codes-[0-9]{6,}\.bin", name) is not None


def parse_header(data: bytes, path: Path) -> Header:
    """The header in the first bytes of a file.

    Raises:
        CorruptError: the bytes are no header, or damaged.
        VersionError: the file is of a later version.
    """
    if len(data) < HEADER_BYTES:
        raise CorruptError(
            f"{path} is {len(data)} bytes long, shorter than the header of a codes file; restore it from a backup"
        )
    magic, version, n_bits, block_rows, generation, number = _FIELDS.unpack_from(data)
    if magic != MAGIC:
        raise CorruptError(f"{path} does not begin like a codes file of hashret; put the right file in its place")
    if crc32(data[: _FIELDS.size]) != _CRC.unpack_from(data, _FIELDS.size)[0]:
        raise CorruptError(f"the header of {path} is damaged; restore the file from a backup")
    if version > VERSION:
        raise VersionError(
            f"{path} was written in version {version} of the format, and this hashret reads up to {VERSION}; "
            "install a newer hashret"
        )
    if version < 1 or not 1 <= n_bits <= MAX_BITS or block_rows < 1:
        raise CorruptError(f"the header of {path} makes no sense; restore the file from a backup")
    return Header(n_bits, block_rows, generation, number)


class CodesFile:
    """An open codes file.

    Args:
        path: an existing file.
        writable: whether ``append`` and ``truncate`` may be used.

    Raises:
        CorruptError, VersionError: the header cannot be used.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self.path = path
        self._file = path.open("r+b" if writable else "rb", buffering=0)
        try:
            self.header = self.read_header()
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, path: Path, header: Header) -> CodesFile:
        """A new, empty codes file, durable in its directory.

        Raises:
            StorageError: it cannot be written.
        """
        try:
            with path.open("xb", buffering=0) as file:
                _write(file.fileno(), header.pack(), 0)
                os.fsync(file.fileno())
            sync_directory(path.parent)
            return cls(path, writable=True)
        except FileExistsError as error:
            raise StorageError(
                f"{path} is there already and is not this collection's, so that nothing was changed; move it away"
            ) from error
        except OSError as error:
            raise cannot_write(path, error) from error

    def read_header(self) -> Header:
        """The header, as it is in the file now.

        Raises:
            CorruptError, VersionError: it cannot be used.
        """
        return parse_header(os.pread(self._file.fileno(), HEADER_BYTES, 0), self.path)

    @property
    def size(self) -> int:
        """Bytes of the file, now."""
        return os.fstat(self._file.fileno()).st_size

    def offset(self, row: int) -> int:
        """Where a row begins."""
        return HEADER_BYTES + row * self.header.n_bytes

    def map(self, n_rows: int) -> Codes:
        """The first ``n_rows`` codes, (n_rows, n_bytes) uint8, read-only and memory-mapped.

        Raises:
            CorruptError: the file is shorter.
            StorageError: this process has too many files open, or no room for the map.
        """
        end, size = self.offset(n_rows), self.size
        if size < end:
            raise CorruptError(
                f"{self.path} is truncated: the catalogue counts {n_rows} rows, which take {end} bytes, and the file "
                f"has {size}; restore it from a backup, or save what is left with Collection.salvage"
            )
        if n_rows == 0:
            return np.empty((0, self.header.n_bytes), np.uint8)
        try:
            mapped = mmap.mmap(self._file.fileno(), end, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        except OSError as error:
            raise cannot_open(self.path, error) from error
        return np.frombuffer(mapped, np.uint8, offset=HEADER_BYTES).reshape(n_rows, self.header.n_bytes)

    def append(self, codes: Codes, row: int) -> None:
        """Write ``codes`` from ``row`` on and fsync them.

        Raises:
            StorageError: the disk is full or fails; the rows before are as they were.
        """
        try:
            _write(self._file.fileno(), codes.reshape(-1).data, self.offset(row))
            _sync(self._file.fileno())  # brings the new size to the disk as well
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def truncate(self, n_rows: int) -> None:
        """Cut off what lies beyond ``n_rows`` rows.

        Raises:
            StorageError: the disk fails.
        """
        try:
            if self.size > self.offset(n_rows):
                os.ftruncate(self._file.fileno(), self.offset(n_rows))
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def close(self) -> None:
        """Close the file; what is mapped stays readable."""
        self._file.close()


def block_checksums(codes: Codes, row: int, block_rows: int, before: int) -> Iterator[tuple[int, int]]:
    """(block, CRC-32) of every block that ``codes``, appended from ``row`` on, touch.

    Args:
        codes: (N, n_bytes) uint8.
        row: the first row that they take.
        block_rows: rows of a block.
        before: checksum so far of the block that ``row`` lies in; not read where a block begins at ``row``.
    """
    start = 0
    while start < len(codes):
        block, within = divmod(row + start, block_rows)
        stop = min(len(codes), start + block_rows - within)
        yield block, crc32(codes[start:stop].data, before if within else 0)
        start = stop


def cannot_open(path: Path, error: OSError) -> StorageError:
    """The sentence for a file that cannot be opened or mapped."""
    return StorageError(
        f"{path} cannot be opened ({error.strerror or error}); give this user the right, or where too much is open "
        "close collections and snapshots"
    )


def cannot_write(path: Path, error: Exception) -> StorageError:
    """The sentence for a failed write."""
    why = getattr(error, "strerror", None) or error
    return StorageError(
        f"{path} cannot be written ({why}); nothing was changed: make room or give rights, then try again"
    )


def _write(fd: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view[:_WRITE_BYTES], offset)
        view, offset = view[written:], offset + written
