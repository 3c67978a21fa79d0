"""Which catalogues this process has open: POSIX ends all locks that a process has on a file when it closes any
descriptor of that file, so that whoever reads the bytes of a catalogue may end the locks that SQLite has on it.

Must not know of SQLite, nor of what is in the file.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hashret.collection._codes_file import cannot_open
from hashret.errors import StorageError

Identity = tuple[int, ...]


class Opened:
    """A catalogue that is open here, from construction to ``close``.

    Args:
        path: of its file.

    Raises:
        StorageError: it is open here already, and its locks have ended; another one would share them.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, identity(path)
        self._shared: Identity = ()
        for other in _open_here(self.file):
            other.check()
        with _guard:
            _OPENED[id(self)] = self

    def begin(self) -> None:
        """Take notice of the file (``-shm``) that all who have the catalogue open share; there is one now."""
        self._shared = self._shared_file()

    def check(self) -> None:
        """Refuse to go on where others may write as if nobody had the catalogue open here.

        The last one to close it removes the shared file, so nobody does who knows of this one.

        Raises:
            StorageError: the shared file is not that of ``begin``.
        """
        shared = self._shared
        # closing comes in between: of another thread, which removes the file if it is the last
        if shared and shared != self._shared_file() and identity(self.path) == self.file and self._shared:
            raise StorageError(
                f"{self.path} was written as if it were not open here, most likely since this program has copied or "
                "read the file, which ended its locks; close what it has open of the collection, open it again, and "
                "let another program copy it (or use export_to)"
            )

    def closing(self) -> None:
        """Before it is closed: from now on the shared file may go."""
        self._shared = ()

    def close(self) -> None:
        """After it was closed; twice does nothing."""
        with _guard:
            _OPENED.pop(id(self), None)
            if not _open_here(self.file):
                for file in _KEPT.pop(self.file, []):
                    file.close()

    def _shared_file(self) -> Identity:
        return identity(self.path.with_name(self.path.name + "-shm"))


@contextmanager
def bytes_of(path: Path) -> Iterator[BinaryIO]:
    """A catalogue's file, to be read as it is; closed once it is not open here any more.

    Raises:
        StorageError: it cannot be opened.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise cannot_open(path, error) from error
    try:
        yield file
    finally:
        found = os.fstat(file.fileno())
        with _guard:
            if _open_here((found.st_dev, found.st_ino)):
                _KEPT.setdefault((found.st_dev, found.st_ino), []).append(file)
            else:
                file.close()


def identity(path: Path) -> Identity:
    """Device and number of a file; nothing where there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino


def _open_here(file: Identity) -> list[Opened]:
    opened = (reference() for reference in _OPENED.valuerefs())  # a copy: other threads open and close
    return [each for each in opened if each is not None and each.file == file]


_OPENED: weakref.WeakValueDictionary[int, Opened] = weakref.WeakValueDictionary()
_KEPT: dict[Identity, list[BinaryIO]] = {}
_guard = threading.Lock()


def _after_fork() -> None:
    global _guard
    _guard = threading.Lock()  # whoever held it did not come along


os.register_at_fork(after_in_child=_after_fork)
