"""A process's hold on a collection: the writer's lock, the catalogue's connection and the view, and who may use them
when.

``reading`` gives one committed state, ``writing`` one transaction. Knows nothing of what is read or written.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hashret.collection import _create, _write
from hashret.collection._catalogue import Catalogue
from hashret.collection._database import NAME, no_collection
from hashret.collection._lock import WriterLock
from hashret.collection._view import View
from hashret.errors import CorruptError, StorageError

LOCK = "lock"
_RETRIES = 100  # compactions that may come between a look at the catalogue and one at the codes file


class Session:
    """Open from construction to ``close``.

    Args:
        path: the collection's directory.
        mode: "r" or "w".
        pinned: stay at the state of now; ``refresh`` moves on.

    Raises:
        LockedError: somebody else writes.
        StorageError: missing, damaged, foreign, of a later version, or without the rights.
    """

    def __init__(self, path: Path, *, mode: str, pinned: bool = False) -> None:
        self.path, self.mode = path, mode
        self._pinned, self._closed, self._pid = pinned, False, os.getpid()
        self._mutex = threading.RLock()
        if not (path / NAME).is_file():
            raise no_collection(path)
        with ExitStack() as undo:
            self._lock = WriterLock(path / LOCK) if mode == "w" else None
            if self._lock is not None:
                undo.callback(self._lock.release)
            self.catalogue = Catalogue(path, writable=mode == "w")
            undo.callback(self.catalogue.close)
            self.catalogue.check_schema()
            self.about = _create.about(self.catalogue)
            self.view = View(path, self.catalogue, writable=mode == "w")
            undo.callback(self.view.close)
            self._begin()
            if mode == "w":
                _write.tidy(self.view)
            undo.pop_all()

    @contextmanager
    def reading(self) -> Iterator[View]:
        """One committed state for what is read within: the newest, or the one that is pinned."""
        with self._mutex:
            self._check_usable()
            if self.catalogue.outdated():
                self.catalogue.close()
                self.catalogue = Catalogue(self.path)
                self.view = View(self.path, self.catalogue, writable=False)
            if self._pinned:
                yield self.view
                return
            for _ in range(_RETRIES):
                with self.catalogue.reading():
                    try:
                        self.view.refresh()
                    except FileNotFoundError:
                        continue
                    yield self.view
                    return
            raise self._no_codes()

    @contextmanager
    def writing(self) -> Iterator[View]:
        """One transaction: durable at the end; undone, the codes file cut back, where anything is raised."""
        with self._mutex:
            self._check_usable()
            if self.mode != "w":
                raise StorageError(f"{self.path} is open for reading; open it with mode='w' to change it")
            try:
                with self.catalogue.writing():
                    self.view.refresh()
                    yield self.view
            except BaseException:
                _write.undo(self.view)
                raise
            self.catalogue.trim_log()

    @contextmanager
    def lasting(self) -> Iterator[View]:
        """One committed state for as long as it takes, while the session itself goes on."""
        if self._pinned:
            self._check_usable()
            yield self.view
            return
        with self.reading():  # refuses a closed session
            other = Session(self.path, mode="r", pinned=True)
        try:
            yield other.view
        finally:
            other.close()

    def refresh(self) -> bool:
        """Take over what was committed since the last call; whether anything was."""
        with self._mutex:
            self._check_usable()
            before = self.view.state
            self._begin()
            return self.view.state != before

    def clean_up(self) -> None:
        """After a compaction: take over the new codes file, remove the old one and the pages that are free."""
        with self._mutex:
            self._begin()
            _write.tidy(self.view)
            self.catalogue.shrink()

    def interrupt(self) -> None:
        """End what another thread does with the catalogue; takes no lock, which that thread has."""
        self.catalogue.interrupt()

    def close(self) -> None:
        """Let go of everything; closing twice does nothing."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            if self._pid == os.getpid():  # a forked child must not touch its parent's connection
                self.catalogue.rollback()
                self.catalogue.close()
            self.view.close()
            if self._lock is not None:
                self._lock.release()

    def _begin(self) -> None:
        """Bring the view up to now; pinned, stay in the snapshot."""
        for _ in range(_RETRIES):
            self.catalogue.rollback()
            self.catalogue.begin()
            try:
                self.view.refresh()
            except FileNotFoundError:
                continue
            if not self._pinned:
                self.catalogue.rollback()
            return
        raise self._no_codes()

    def _check_usable(self) -> None:
        if self._closed:
            raise StorageError(f"the collection {self.path} is closed; open it again with Collection.open")
        if self._pid != os.getpid():
            raise StorageError(
                f"the collection {self.path} was opened in process {self._pid}, and this is its child; "
                "open it again here with Collection.open"
            )

    def _no_codes(self) -> CorruptError:
        return CorruptError(f"the codes file that {self.path / NAME} means is not there; restore it from a backup")
