"""The SQLite database under the catalogue: how it is opened, its transactions, and its failures as sentences.

Knows no table but the one that makes a snapshot begin; must not know of codes, ids or metadata.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hashret.collection._codes_file import cannot_open
from hashret.collection._opened import Opened, identity
from hashret.errors import CorruptError, LockedError, StorageError, VersionError

NAME = "catalogue.sqlite"
VERSION = 1
APPLICATION_ID = 0x48534852

_INHERITED: set[tuple[int, ...]] = set()  # catalogues that were open when this process was forked
_BUSY_S = 30.0
_LOG_BYTES = 1 << 26
_LOG = logging.getLogger(__name__)


class TooLargeError(StorageError):
    """A value is longer than SQLite takes."""


class Database:
    """A connection to a collection's database.

    Args:
        directory: the collection's.
        writable: whether it may be changed; the caller holds the writer's lock then.

    Raises:
        StorageError: it is missing, damaged, foreign, of a later version, or cannot be opened.
    """

    def __init__(self, directory: Path, *, writable: bool = False) -> None:
        self.path = directory / NAME
        self.unsure = False  # whether the log may hold a whole commit that is not committed; see writing
        self._fixed: tuple[int, ...] | None = None  # opened as a file that nobody changes; see _open_fixed
        require_catalogue(directory)
        self._file = identity(self.path)
        if self._file in _INHERITED:
            raise StorageError(
                f"{directory} was open when this process was forked, and SQLite cannot open it here again; close it "
                "before forking, or start processes with the method 'spawn'"
            )
        self.opened = Opened(self.path)
        try:
            with self._errors():
                self._connection = self._connect("rw" if writable else "ro")
        except BaseException:
            self.opened.close()
            raise
        try:
            self._check_kind()
            with self._errors():
                for pragma in _PRAGMAS + (_WRITER_PRAGMAS if writable else ()):
                    self._connection.execute(f"PRAGMA {pragma}").fetchall()
        except BaseException:
            self.close()
            raise
        if self._fixed is None:
            self.opened.begin()

    def close(self) -> None:
        """Close the connection; the last one to close folds the log into the database. Closing twice does nothing."""
        self.opened.closing()
        self.rollback()
        self._connection.close()
        self.opened.close()

    def keep_open(self) -> None:
        """Never close the connection, for a forked child.

        SQLite's locks do not pass to a child, so that its connection takes itself for the last one and removes the
        log that others write; deallocating it would be closing it. As SQLite takes the locks for its own as long as it
        has the connection, the file cannot be opened by another one here either.
        """
        _INHERITED.add(self._file)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))

    # transactions

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One snapshot for all that is read within."""
        with self._errors():
            if self._connection.in_transaction:
                yield
                return
            try:  # from here on: an interrupt may come right after the next line
                self._connection.execute("BEGIN")
                yield
            finally:
                self.rollback()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: committed and durable at the end, undone where anything is raised.

        A commit that fails, as at its fsync, may lie whole in the log all the same: whoever opens the database after
        a kill would find it done. The next commit that succeeds is written over it; until then ``unsure`` is true.
        """
        with self._errors():
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self.unsure = True
                self._connection.execute("COMMIT")
                self.unsure = False
            except BaseException:
                self.rollback()
                raise

    def begin(self) -> None:
        """Start a snapshot that lasts until ``rollback``."""
        with self._errors():
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT commits FROM state").fetchone()  # BEGIN alone does not fix the snapshot

    def rollback(self) -> None:
        """End the transaction and undo what it changed; a closed connection has none."""
        with suppress(sqlite3.ProgrammingError):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    # statements

    def query(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of a query."""
        with self._errors():
            return self._connection.execute(sql, parameters).fetchall()

    def execute(self, sql: str, parameters: tuple[Any, ...] = ()) -> None:
        """Run a statement."""
        with self._errors():
            self._connection.execute(sql, parameters).fetchall()

    def executemany(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run a statement once a row."""
        with self._errors():
            self._connection.executemany(sql, rows)

    def interrupt(self) -> None:
        """End the statement that another thread runs; where none runs nothing happens."""
        with suppress(sqlite3.ProgrammingError):  # closed meanwhile
            self._connection.interrupt()

    @contextmanager
    def function(self, name: str, function: Any) -> Iterator[None]:
        """Make a one-argument function usable in SQL, within."""
        self._connection.create_function(name, 1, function, deterministic=True)
        try:
            yield
        finally:
            self._connection.create_function(name, 1, None)

    def read_leniently(self) -> None:
        """Let text that is no UTF-8 through, with replacement characters; its checksum is wrong then."""
        self._connection.text_factory = lambda data: data.decode("utf-8", "replace")

    def shrink(self) -> None:
        """Give back the pages that a compaction has freed; a failure leaves them for later use and is only logged."""
        ((free,),), ((pages,),) = self.query("PRAGMA freelist_count"), self.query("PRAGMA page_count")
        if free * 4 < pages:
            return
        try:
            self._connection.execute("VACUUM")
            self._fold_log("TRUNCATE")
        except sqlite3.OperationalError as error:
            _LOG.warning("%s keeps %d unused pages: %s", self.path, free, error)

    def trim_log(self) -> None:
        """Fold a long log into the database; readers that come one after the other could keep it growing for ever."""
        if self._log_bytes() > _LOG_BYTES:
            try:
                self._fold_log("RESTART")
            except sqlite3.OperationalError as error:
                _LOG.warning("%s keeps a long log: %s", self.path, error)

    def _fold_log(self, how: str) -> None:
        self._connection.execute("PRAGMA busy_timeout = 20")  # ms: a commit is not to wait for a reader for long
        try:
            self._connection.execute(f"PRAGMA wal_checkpoint({how})").fetchall()
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_S * 1000)}")

    def _log_bytes(self) -> int:
        log = self.path.with_name(NAME + "-wal")
        return log.stat().st_size if log.exists() else 0

    # plumbing

    def damaged(self, what: str) -> CorruptError:
        """The sentence for a damaged catalogue."""
        return CorruptError(
            f"{self.path} is damaged: {what}; restore it from a backup, or save what is left with Collection.salvage"
        )

    def changed(self) -> bool:
        """Whether a catalogue that was opened as one that nobody changes is another by now."""
        return self._fixed is not None and self._fixed != self._stamp()

    def outdated(self) -> bool:
        """As ``changed``, or somebody has begun to; or another file lies in its place, or none."""
        if identity(self.path) != self._file:
            return True
        return self._fixed is not None and (self._log_bytes() > 0 or self.changed())

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=_BUSY_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError as error:
            connection.close()
            if mode != "ro" or _code(error) not in (
                sqlite3.SQLITE_CANTOPEN,
                sqlite3.SQLITE_READONLY,
                sqlite3.SQLITE_IOERR,
            ):
                raise
            if self._log_bytes() and os.access(self.path.parent, os.W_OK):  # it is for another reason
                raise
            return self._open_fixed()
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_fixed(self) -> sqlite3.Connection:
        """A catalogue on a disk that cannot be written, where SQLite cannot make the files that readers share."""
        if self._log_bytes():
            raise StorageError(
                f"{self.path} has a log of a writer that did not close, and its directory cannot be written; "
                "open the collection once where it can"
            )
        self._fixed = self._stamp()
        uri = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)

    def _check_kind(self) -> None:
        with self._errors():
            ((kind,),) = self.query("PRAGMA application_id")
            ((version,),) = self.query("PRAGMA user_version")
        if kind != APPLICATION_ID:
            raise CorruptError(f"{self.path} is not a catalogue of hashret; put the right file in its place")
        if version > VERSION:
            raise VersionError(
                f"{self.path} was written in version {version} of the format, and this hashret reads up to {VERSION}; "
                "install a newer hashret"
            )
        if version < 1:
            raise self.damaged(f"its version is {version}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = _code(error)
            if isinstance(error, sqlite3.ProgrammingError):  # its own word for a closed connection
                raise StorageError(f"{self.path} is closed; open the collection again") from error
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise LockedError(
                    f"{self.path} was kept locked by another process for {_BUSY_S:.0f} s; try again"
                ) from error
            if code == sqlite3.SQLITE_INTERRUPT:
                raise StorageError(
                    f"work on {self.path} was stopped before its end, and nothing was changed; ask for less, such as "
                    "a filter of fewer conditions, or give it more time"
                ) from error
            if code == sqlite3.SQLITE_TOOBIG:
                raise TooLargeError(
                    f"{self.path} cannot hold or give a value of more than 10^9 bytes, and what was stored is "
                    "unchanged; keep long metadata elsewhere, or name fewer items at a time"
                ) from error
            if code in _DISK_CODES:
                raise StorageError(
                    f"{self.path} cannot be used ({error}); what was stored is unchanged: make room or give rights, "
                    "then try again"
                ) from error
            raise self.damaged(str(error)) from error
        except UnicodeDecodeError as error:  # the message of SQLite quotes bytes that are no text
            raise self.damaged("it holds bytes that are no text") from error


def require_catalogue(directory: Path) -> None:
    """Refuse a directory that is not a collection's.

    Raises:
        StorageError: it is none, or this user may not look.
    """
    try:
        found = (directory / NAME).is_file()
    except OSError as error:
        raise cannot_open(directory, error) from error
    if not found:
        raise StorageError(
            f"there is no collection at {directory} (no {NAME} in it); make one with hashret index, or "
            "Collection.create"
        )


def _code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


_DISK_CODES = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
)
_PRAGMAS = ("cell_size_check = ON",)
_WRITER_PRAGMAS = (
    "synchronous = FULL",
    "secure_delete = OFF",
    "cache_size = -65536",
    "wal_autocheckpoint = 4000",  # pages, 32 MB: ids in random order change most pages of their index in each commit
    f"journal_size_limit = {_LOG_BYTES}",
)
