"""A process's hold on a collection: the writer's lock, the catalogue's connection and the view, and who may use them
when.

``reading`` gives one committed state, ``writing`` one transaction. Knows nothing of what is read or written.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from hashret.collection import _create, _write
from hashret.collection._catalogue import Catalogue
from hashret.collection._database import NAME, require_catalogue
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
        path = path.absolute()  # the program may change its directory
        self.path, self.mode = path, mode
        self._pinned, self._busy, self._closed, self._pid = pinned, False, False, os.getpid()
        self._mutex = threading.RLock()
        self._gate, self._interruptible = threading.Lock(), False
        require_catalogue(path)  # before there is a lock in it
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
            if mode == "w" and not _write.is_tidy(self.view):
                # the last writer may have died in a commit, which SQLite does not look for while readers stay
                self.catalogue.unsure = True
                with suppress(StorageError):  # the first change tries again, and says why it cannot be
                    self._tidy()
            undo.pop_all()
        _SESSIONS.add(self)

    @contextmanager
    def reading(self) -> Iterator[View]:
        """One committed state for what is read within: the newest, or the one that is pinned."""
        with self._mutex, self._used() as within:
            if within and not self._pinned:  # half of a change is no state
                with closing(Session(self.path, mode="r", pinned=True)) as other:
                    yield other.view
                return
            self._catch_up()
            if not self._pinned:
                self.catalogue.rollback()  # what an interrupt left open would be read for ever
            with self._unchanged(), self._may_be_interrupted():
                if self._pinned:
                    self.view.check()
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
        with self._mutex, self._used(alone=True):
            if self.mode != "w":
                raise StorageError(f"{self.path} is open for reading; open it with mode='w' to change it")
            if not self._in_place():
                raise self._moved()
            self.catalogue.opened.check()
            self.catalogue.rollback()
            if self.catalogue.unsure:
                self._tidy()
            try:
                with self.catalogue.writing():
                    self.view.refresh()
                    yield self.view
            except BaseException as error:
                with suppress(StorageError):
                    self._tidy()
                if self.catalogue.unsure and isinstance(error, StorageError):
                    raise self._unsure(error) from error
                raise
            self.catalogue.trim_log()

    @contextmanager
    def lasting(self) -> Iterator[View]:
        """One committed state for as long as it takes, while the session itself goes on.

        Of a snapshot that is its own: ``View.everything`` refuses to go on after a ``refresh``, which whoever cannot
        be refused keeps off with ``View.lock``.
        """
        if self._pinned:
            self._check_usable()
            with self._unchanged():
                self.view.check()
                yield self.view
            return
        other = self.snapshot()
        try:
            with other._unchanged():
                yield other.view
        finally:
            other.close()

    def snapshot(self) -> Session:
        """Another session that stays at the state of now."""
        with self.reading():  # refuses a closed session
            other = Session(self.path, mode="r", pinned=True)
        try:
            self._check_same(other.about)
        except StorageError:
            other.close()
            raise
        return other

    def refresh(self) -> bool:
        """Take over what was committed since the last call; whether anything was."""
        with self._mutex, self._used(alone=True):
            if self.mode == "w" and not self._in_place():
                raise self._moved()
            self.catalogue.opened.check()
            with self.view.lock:
                before = self.view.state
                if self.catalogue.outdated():
                    self._reopen()
                self._begin()
                return self.view.state != before

    def clean_up(self) -> None:
        """After a compaction: take over the new codes file, remove the old one and the pages that are free."""
        with self._mutex, self._used(alone=True):
            self._tidy()
            self.catalogue.shrink()

    def interrupt(self) -> None:
        """End what another thread reads; takes no lock that it has, and leaves writing alone."""
        with self._gate:
            if self._interruptible:
                self.catalogue.interrupt()

    def close(self) -> None:
        """Let go of everything; closing twice does nothing, but for what an interrupt kept the first from."""
        with self._mutex:
            self._closed = True
            if self._busy:  # the call that a signal's handler came into is done first, and then closes
                return
            if self._pid == os.getpid():  # a forked child must not touch its parent's connection
                self.catalogue.close()
            self.view.close()
            if self._lock is not None:
                self._lock.release()

    def _inherit(self) -> None:
        """In a forked child: it may only be closed, and whoever held the mutex did not come along."""
        self._mutex, self._gate, self._busy = threading.RLock(), threading.Lock(), False
        if self._closed:
            return
        self.catalogue.keep_open()
        if self._lock is not None:
            self._lock.release()

    @contextmanager
    def _used(self, *, alone: bool = False) -> Iterator[bool]:
        """Whether this is within another call, as a signal's handler is; ``alone`` refuses to end its transaction."""
        within = self._busy
        try:
            self._busy = True
            self._check_usable()
            if alone and within:
                raise StorageError(f"{self.path} is being read or changed, and nothing was done; try again after that")
            yield within
        finally:
            self._busy = within  # before any call, in which an interrupt may come
            if self._closed:
                self.close()

    @contextmanager
    def _may_be_interrupted(self) -> Iterator[None]:
        with self._gate:
            self._interruptible = True
        try:
            yield
        finally:
            with self._gate:
                self._interruptible = False

    def _tidy(self) -> None:
        """A writer's: remove what lies beyond the committed state, once no failed commit can come back and want it."""
        self.catalogue.rollback()
        try:
            if self.catalogue.unsure:
                self.catalogue.commit_again()
        except StorageError as error:
            raise self._unsure(error) from error
        with suppress(StorageError, OSError):  # or else the next writer does it; nobody reads what lies beyond
            with self.catalogue.reading():
                self.view.refresh()
            if self._in_place():  # or else what lies there is not this catalogue's to remove
                _write.tidy(self.view)

    def _in_place(self) -> bool:
        """A writer's: whether its files are those at the path, both: a backup may bring back only one of them."""
        locked = self._lock is not None and self._lock.guards(self.path / LOCK)
        return locked and not self.catalogue.outdated()

    def _unsure(self, error: StorageError) -> StorageError:
        return StorageError(
            f"it cannot be known whether the last change of {self.path} is on the disk ({error.__cause__ or error}): "
            "nothing more is written until the disk works, and if this program ends before, the change may be found "
            "done; make room or mend the disk, then try again"
        )

    def _catch_up(self) -> None:
        """Take notice of another catalogue at the path, and of changes in one that was opened as one that stays."""
        self.catalogue.opened.check()
        if self._pinned and self.catalogue.changed():
            raise self._changed()
        if not self._pinned and self.catalogue.outdated():
            self._reopen()

    def _reopen(self) -> None:
        fresh = Catalogue(self.path)
        try:
            fresh.check_schema()
            self._check_same(_create.about(fresh))
            if self.mode == "w":
                raise self._moved()
        except BaseException:
            fresh.close()
            raise
        self.view.close()
        self.catalogue.close()
        self.catalogue, self.view = fresh, View(self.path, fresh, writable=False)

    def _check_same(self, about: _create.About) -> None:
        if about.number != self.about.number:
            raise StorageError(f"{self.path} holds another collection since it was opened; close it and open it again")

    def _moved(self) -> StorageError:
        return StorageError(
            f"{self.path} (or its file {LOCK!r} or {NAME!r}) was moved or replaced since it was opened, and nothing "
            "was written; close it and open it where it is now"
        )

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Refuse what was read within, where it was changed meanwhile."""
        try:
            yield
        except StorageError as error:
            if self.catalogue.changed():
                raise self._changed() from error
            raise
        if self.catalogue.changed():
            raise self._changed()
        self.catalogue.opened.check()

    def _changed(self) -> StorageError:
        return StorageError(
            f"{self.path} was changed while it was read, and this user cannot take part in its locks; ask again (a "
            "snapshot: take it again), or give this user the right to write in the directory"
        )

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
                f"the collection {self.path} was opened in process {self._pid}, and this is its child; close it "
                "before forking and open it in each process, or start processes with the method 'spawn'"
            )

    def _no_codes(self) -> CorruptError:
        return CorruptError(f"the codes file that {self.path / NAME} means is not there; restore it from a backup")


_SESSIONS: weakref.WeakSet[Session] = weakref.WeakSet()


def _after_fork() -> None:
    for session in list(_SESSIONS):
        session._inherit()


os.register_at_fork(after_in_child=_after_fork)
