"""The writer's lock: one process writes a collection, and a second one learns who.

The lock is the operating system's (flock), so it ends with the process, however that ends; the file's text only
names the holder. Knows nothing of what it guards.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from hashret.errors import LockedError, StorageError


class WriterLock:
    """Held from construction to ``release``.

    Args:
        path: the lock file; made where it is missing.

    Raises:
        LockedError: somebody holds it; the message has the pid.
        StorageError: the directory cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._pid = os.getpid()
        try:
            self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b", buffering=0)
        except OSError as error:
            raise StorageError(
                f"{path.parent} cannot be opened for writing ({error.strerror}); "
                "open it with mode='r', or give this user the right to write there"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = self._file.read(32).decode("ascii", "replace").strip()
            self._file.close()
            who = "this process" if holder == str(os.getpid()) else f"process {holder or 'unknown'}"
            raise LockedError(
                f"{path.parent} is open for writing in {who}; close it there, or open it here with mode='r'"
            ) from None
        try:
            self._file.truncate(0)
            self._file.write(f"{os.getpid()}\n".encode())
        except OSError:
            pass  # a full disk: the lock holds all the same, only its holder's name is missing

    def guards(self, path: Path) -> bool:
        """Whether the file at ``path`` is the one that is locked, and not another that came in its place."""
        try:
            return os.path.samestat(path.stat(), os.fstat(self._file.fileno()))
        except OSError:
            return False

    def release(self) -> None:
        """Let the next writer in; a forked child only lets go of its own hold on the file."""
        if not self._file.closed and self._pid == os.getpid():
            fcntl.flock(self._file, fcntl.LOCK_UN)  # closing would not end it while a forked child has the file too
        self._file.close()
