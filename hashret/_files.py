"""Writing a file or a directory whole: a reader finds the old content or the new, never a part of it.

    .<name>.<random>.part    written and synced, then renamed to <name>, then the directory is synced
    .<name>.<random>.old     a directory that is being replaced, since no directory is renamed onto a full one

A kill leaves the old file and at most a ``.part``; an error (a full disk, missing rights) leaves the old file alone.
The same holds for a directory, but for a kill between its two renames: the old one is then the ``.old``.
Knows bytes, and nothing of what they mean; and where what can be made again is kept.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

from hashret.errors import StorageError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]


def cache_home() -> Path:
    """``$HASHRET_CACHE``, or ``~/.cache/hashret``."""
    return Path(os.environ.get("HASHRET_CACHE") or "~/.cache/hashret").expanduser()


def locked(file: IO[Any], *, wait: bool = False) -> bool:
    """Take the system's lock of an open file, which it gives up when the process ends, however it ends.

    Args:
        file: open for writing.
        wait: for another process that has it, in the place of saying so.

    Returns:
        Whether it is free for this process. Where a system or a file system has no locks, everything is.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def write_whole(path: str | Path, content: str | bytes, *, what: str = "") -> Path:
    """Replace a file at once, making its directory where it is missing.

    Args:
        path: where to.
        content: text is written as UTF-8.
        what: it is, for the error: "the checkpoint".

    Raises:
        StorageError: the disk or the path refuses; what was there before is unchanged.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, what, error) from error
    with whole_file(path, what=what) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)
    return path


@contextlib.contextmanager
def whole_file(path: str | Path, *, what: str = "") -> Iterator[BinaryIO]:
    """A file to write to; ``path`` has its content when the block ends well, and stays as it was otherwise.

    Args:
        path: where to, in a directory that exists.
        what: it is, for the error: "the index file".

    Raises:
        StorageError: the directory is missing or read-only, or the disk is full.
    """
    path = Path(path)
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        try:
            with part.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)
    except StorageError:
        raise
    except OSError as error:
        raise _refused(path, what, error) from error


@contextlib.contextmanager
def replacing_directory(directory: str | Path, *, what: str = "") -> Iterator[Path]:
    """A new directory to write in; it takes the place of ``directory`` when the block ends well.

    Args:
        directory: where to; a link is followed.
        what: it is, for the error: "the model".

    Raises:
        StorageError: the place cannot be written, or the disk is full; what was there before is unchanged.
    """
    directory = Path(os.path.realpath(directory))
    mark = f".{directory.name[:40]}.{secrets.token_hex(4)}"
    part, old = directory.with_name(mark + ".part"), directory.with_name(mark + ".old")
    try:
        try:
            part.mkdir(parents=True)
            yield part
            _sync_tree(part)
            if directory.exists():
                directory.replace(old)
            part.replace(directory)
        finally:  # also after an interrupt, wherever it came
            if old.exists() and not directory.exists():
                old.replace(directory)
            shutil.rmtree(part, ignore_errors=True)
        sync_directory(directory.parent)
        shutil.rmtree(old, ignore_errors=True)
    except StorageError:
        raise
    except OSError as error:
        if old.exists() and not directory.exists():
            raise StorageError(
                f"{what + ' ' if what else ''}{str(directory)!r} cannot be written: {error}; what was there before is "
                f"now {str(old)!r}: give it its name back"
            ) from error
        raise _refused(directory, what, error) from error


def _sync_tree(directory: Path) -> None:
    """Make all files below a directory durable, and their names."""
    for place, _, files in os.walk(directory):
        for name in files:
            with Path(place, name).open("rb") as file:
                os.fsync(file.fileno())
        sync_directory(place)


def sync_directory(directory: str | Path) -> None:
    """Make names in a directory durable; Windows opens no directories, and there the rename is all there is."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(path: Path, what: str, error: OSError) -> StorageError:
    return StorageError(
        f"{what + ' ' if what else ''}{str(path)!r} cannot be written: {error}; what was there before is unchanged: "
        f"make room, give rights or name another place"
    )
