"""The file of an index: one header, one payload, and a checksum of every part of it.

    offset   bytes  little-endian
    0        8      magic 89 48 52 49 4E 44 58 0A, that is "\\x89HRINDX\\n"
    8        4      version, 1
    12       8      kind in ASCII, padded with zeros: "flat", "ivf", "hnsw", ...
    20       4      n_bits
    24       8      count, the number of codes
    32       8      P, bytes of the payload
    40       4      S, bytes of a block; the last block of the payload may be shorter
    44       16     zeros
    60       4      crc32 of bytes 0 to 59
    64       P      payload; of "flat" the packed codes, row by row, of others what their module says
    64 + P   4 * B  crc32 of each of the B = ceil(P / S) blocks
    end - 4  4      crc32 of the 4 * B bytes before it

Every version keeps the first 12 bytes and the checksum of the header where they are, so a file from the future can be
told from a damaged one. Opening checks the header, the length and the table, and reads nothing else; ``verify`` reads
the payload too. A file is written beside its place, synced, and renamed over it: readers see the
old file or the new one. Must not know what a payload means.
"""

from __future__ import annotations

import mmap as mapping
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from hashret._files import whole_file
from hashret.codes import MAX_BITS
from hashret.errors import CorruptError, StorageError, VersionError

VERSION = 1

_MAGIC = b"\x89HRINDX\n"
_HEADER = struct.Struct("<8sI8sIQQI16x")  # and 4 bytes of checksum
_DATA = 64
_BLOCK = 1 << 20
_REMEDY = "restore it from a backup, or build the index again from its codes and save it"

Payload = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class StoredIndex:
    """An opened index file.

    Attributes:
        path: the file.
        kind: of index.
        n_bits: width of a code.
        count: number of codes.
        payload: (P,) uint8, read-only; memory-mapped or in memory.
        checksums: (B,) uint32, crc32 of the payload's blocks.
        block: bytes of a block.
    """

    path: Path
    kind: str
    n_bits: int
    count: int
    payload: Payload
    checksums: npt.NDArray[np.uint32]
    block: int

    def verify(self) -> None:
        """Read the whole payload and compare its checksums.

        Raises:
            CorruptError: a block differs; the message says which bytes.
        """
        for i, expected in enumerate(self.checksums):
            start = i * self.block
            if zlib.crc32(self.payload[start : start + self.block].data) != int(expected):
                end = _DATA + min(start + self.block, len(self.payload))
                raise CorruptError(
                    f"the index file {str(self.path)!r} is damaged between bytes {_DATA + start} and {end}: "
                    f"its checksum differs; {_REMEDY}"
                )


def write_index(path: str | Path, payload: Payload, *, kind: str, n_bits: int, count: int) -> None:
    """Write an index file, at once or not at all.

    Args:
        path: the file; an existing one is replaced.
        payload: uint8 of any shape, C-contiguous.
        kind: at most 8 ASCII characters.
        n_bits: width of a code.
        count: number of codes.

    Raises:
        StorageError: the file cannot be written; an existing one is as it was.
    """
    flat = payload.reshape(-1)
    header = _HEADER.pack(_MAGIC, VERSION, kind.encode("ascii"), n_bits, count, len(flat), _BLOCK)
    table = np.zeros(-(-len(flat) // _BLOCK), "<u4")
    with whole_file(path, what="the index file") as file:
        file.write(header + struct.pack("<I", zlib.crc32(header)))
        for i in range(len(table)):
            block = flat[i * _BLOCK : (i + 1) * _BLOCK].data
            table[i] = zlib.crc32(block)
            file.write(block)
        file.write(table.tobytes() + struct.pack("<I", zlib.crc32(table.tobytes())))


def read_index(path: str | Path, *, mmap: bool, kind: str | None = None) -> StoredIndex:
    """Open an index file.

    Args:
        path: the file.
        mmap: map the payload into memory, which takes no time and shares it between processes, and leave its
            checksums to ``verify``; otherwise read and verify it now.
        kind: refuse any other; None: take any.

    Raises:
        CorruptError: foreign, truncated or damaged.
        VersionError: from a later hashret.
        StorageError: missing, unreadable, or another kind of index.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            stored = _read(path, file, mmap=mmap)
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise StorageError(f"there is no index file {str(path)!r}; give the path that was saved to") from error
    except OSError as error:
        raise StorageError(
            f"the index file {str(path)!r} cannot be read: {error}; check the path and rights"
        ) from error
    if kind is not None and stored.kind != kind:
        raise StorageError(f"{str(path)!r} holds an index of the kind {stored.kind!r}, not {kind!r}; open it as such")
    if not mmap:
        stored.verify()
    return stored


def _read(path: Path, file: BinaryIO, *, mmap: bool) -> StoredIndex:
    size = os.fstat(file.fileno()).st_size
    head = file.read(_DATA)
    if head[:8] != _MAGIC[: len(head)] or not head:
        raise CorruptError(f"{str(path)!r} is no index file of hashret; give the path that an index was saved to")
    if len(head) < _DATA:
        raise CorruptError(f"the index file {str(path)!r} ends within its header, after {size} bytes; {_REMEDY}")
    _, version, kind, n_bits, count, length, block = _HEADER.unpack(head[:60])
    if zlib.crc32(head[:60]) != struct.unpack("<I", head[60:])[0]:
        raise CorruptError(f"the header of the index file {str(path)!r} is damaged; {_REMEDY}")
    if version > VERSION:
        raise VersionError(
            f"the index file {str(path)!r} has version {version}, and this hashret reads up to {VERSION}; "
            "install a newer hashret"
        )
    blocks = -(-length // block) if block else 0
    expected = _DATA + length + 4 * blocks + 4
    if version < 1 or not block or not 1 <= n_bits <= MAX_BITS:
        raise CorruptError(f"the header of the index file {str(path)!r} makes no sense; {_REMEDY}")
    if size != expected:
        state = "truncated" if size < expected else "too long"
        raise CorruptError(f"the index file {str(path)!r} is {state}: {size} bytes instead of {expected}; {_REMEDY}")
    file.seek(_DATA + length)
    tail = file.read(4 * blocks + 4)
    if zlib.crc32(tail[:-4]) != struct.unpack("<I", tail[-4:])[0]:
        raise CorruptError(f"the checksums at the end of the index file {str(path)!r} are damaged; {_REMEDY}")
    payload: Payload
    if mmap and length:
        mapped = mapping.mmap(file.fileno(), 0, access=mapping.ACCESS_READ)  # what was checked, not what path is now
        payload = np.frombuffer(mapped, np.uint8, count=length, offset=_DATA)
    else:
        file.seek(_DATA)
        payload = np.fromfile(file, np.uint8, count=length)
        payload.flags.writeable = False
    return StoredIndex(
        path=path,
        kind=kind.rstrip(b"\0").decode("ascii", "replace"),
        n_bits=n_bits,
        count=count,
        payload=payload,
        checksums=np.frombuffer(tail[:-4], "<u4"),
        block=block,
    )
