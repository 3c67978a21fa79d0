"""Mending for a salvage: a copy of a catalogue whose first 100 bytes, SQLite's header, are put right.

SQLite opens nothing where one of them is wrong, and all that reading needs of them is known. Never writes to the
catalogue itself, and knows nothing of what is in the pages but the statements that made the tables.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from hashret.collection._catalogue import SCHEMA
from hashret.collection._codes_file import HEADER_BYTES, cannot_write, parse_header
from hashret.collection._database import APPLICATION_ID, NAME, VERSION, require_catalogue
from hashret.collection._opened import bytes_of
from hashret.errors import StorageError

_BYTES = 100
_PAGE_SIZES = tuple(1 << bits for bits in range(9, 16))
_LARGEST = 1 << 16  # the header has 1 for it


@contextmanager
def mended(directory: Path, out: Path) -> Iterator[Path]:
    """The directory of a catalogue that can be read: ``directory``, or where its header is wrong that of a copy, which
    lies beside ``out`` while within.

    Raises:
        StorageError: the copy cannot be made.
    """
    file, log = directory / NAME, directory / (NAME + "-wal")
    with ExitStack() as undo:
        try:
            require_catalogue(directory)
            content = undo.enter_context(bytes_of(file))
            right = _right_header(directory, content)
            if right is not None:
                out.parent.mkdir(parents=True, exist_ok=True)
                place = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent)))
                before = _stamps(file, log)
                content.seek(0)
                with (place / NAME).open("wb") as copy:
                    shutil.copyfileobj(content, copy)
                if log in before:
                    shutil.copyfile(log, place / log.name)
                if _stamps(file, log) != before:
                    raise StorageError(
                        f"{file} was changed while it was copied; close whoever writes it, and try again"
                    )
                with (place / NAME).open("r+b") as copy:
                    copy.write(right)
                directory = place
        except StorageError:
            raise
        except OSError as error:
            raise cannot_write(out, error) from error
        yield directory


def _right_header(directory: Path, content: BinaryIO) -> bytes | None:
    """The header as it should be; None where it is, or where the file cannot be read or has no tables of hashret."""
    try:
        start = content.read(_LARGEST)
        size = content.seek(0, 2)
    except OSError:
        return None  # SQLite says why
    if not all(statement.encode() in start for statement in SCHEMA):
        return None
    header = bytearray(start[:_BYTES])
    header[0:16] = b"SQLite format 3\0"
    page = int.from_bytes(header[16:18])
    if page not in (*_PAGE_SIZES, 1):
        page = 8192
        header[16:18] = page.to_bytes(2)
    if header[18:20] != b"\1\1":  # as some programs for backups leave it
        header[18:20] = b"\2\2"  # written and read with a log
    if header[20] != 12:  # Apple's SQLite leaves 12 bytes of a page alone
        header[20] = 0
    header[21:24] = 64, 32, 32  # fractions of a page, which are fixed
    if int.from_bytes(header[28:32]) != size // (_LARGEST if page == 1 else page):
        header[28:32] = bytes(4)  # SQLite counts the pages itself
    header[44:48] = (4).to_bytes(4)  # format of the schema
    header[48:56] = bytes(8)  # pages of the cache, auto-vacuum
    header[56:60] = (1).to_bytes(4)  # UTF-8
    if _is_of_this_version(directory):
        header[60:64] = VERSION.to_bytes(4)
    header[64:68] = bytes(4)  # incremental vacuum
    header[68:72] = APPLICATION_ID.to_bytes(4)
    header[72:92] = bytes(20)  # reserved
    return None if header == start[:_BYTES] else bytes(header)


def _is_of_this_version(directory: Path) -> bool:
    """Whether the codes say so, whose header has a checksum."""
    for path in directory.glob("codes-*.bin"):
        try:
            with path.open("rb") as file:
                parse_header(file.read(HEADER_BYTES), path)
            return True
        except OSError:  # a StorageError too
            continue
    return False


def _stamps(*files: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of the last change of those that exist."""
    return {file: (found.st_size, found.st_mtime_ns) for file in files if file.exists() for found in (file.stat(),)}
