"""The catalogue: a SQLite database with everything about a collection but the codes. Its tables are in the package's
docstring.

Runs SQL and turns SQLite's failures into sentences; must not know of the codes file, and decides nothing.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hashret.collection._check import Id, checksum
from hashret.collection._where import Condition
from hashret.errors import CorruptError, LockedError, StorageError, VersionError

NAME = "catalogue.sqlite"
VERSION = 1
APPLICATION_ID = 0x48534852

SCHEMA = (
    "CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT, crc INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE state (one INTEGER PRIMARY KEY, commits INTEGER NOT NULL, generation INTEGER NOT NULL, "
    "n_rows INTEGER NOT NULL, n_live INTEGER NOT NULL, next_id INTEGER NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE items (row INTEGER PRIMARY KEY, id NOT NULL, metadata TEXT, crc INTEGER NOT NULL)",
    "CREATE UNIQUE INDEX items_id ON items (id)",
    "CREATE TABLE runs (row INTEGER PRIMARY KEY, n INTEGER NOT NULL, id INTEGER NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE tombstones (seq INTEGER PRIMARY KEY, rows BLOB NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE blocks (block INTEGER PRIMARY KEY, crc INTEGER NOT NULL)",
)
INDEX_PREFIX = "field:"

_BUSY_S = 30.0
_LOG_BYTES = 1 << 26
_CHUNK = 100_000


_LOG = logging.getLogger(__name__)


class State(NamedTuple):
    """What changes with every commit."""

    commits: int
    generation: int
    n_rows: int
    n_live: int
    next_id: int


class Catalogue:
    """A connection to a catalogue.

    Args:
        directory: the collection's.
        writable: whether it may be changed; the caller holds the writer's lock then.

    Raises:
        StorageError: it is missing, damaged, foreign, of a later version, or cannot be opened.
    """

    def __init__(self, directory: Path, *, writable: bool = False) -> None:
        self.path = directory / NAME
        self.fixed = False  # opened as a file that nobody changes; see _open_fixed
        if not self.path.is_file():
            raise StorageError(
                f"there is no collection at {directory} (no {NAME} in it); make one with Collection.create"
            )
        with self._errors():
            self._connection = self._connect("rw" if writable else "ro")
        try:
            self._check_kind(writable)
            with self._errors():
                for pragma in _PRAGMAS + (_WRITER_PRAGMAS if writable else ()):
                    self._connection.execute(f"PRAGMA {pragma}").fetchall()
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def create(cls, directory: Path, about: dict[str, str | None], state: State) -> None:
        """Write a new catalogue into ``directory``."""
        connection = sqlite3.connect(directory / NAME, isolation_level=None)
        try:
            connection.execute("PRAGMA page_size = 8192")  # a tenth faster to fill than 4,096
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            for statement in SCHEMA:
                connection.execute(statement)
            rows = [(key, value, checksum(key, value)) for key, value in about.items()]
            connection.executemany("INSERT INTO about VALUES (?, ?, ?)", rows)
            connection.execute("INSERT INTO state VALUES (1, ?, ?, ?, ?, ?, ?)", (*state, checksum(*state)))
            connection.execute("COMMIT")
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connection; the last one to close folds the log into the database."""
        self._connection.close()

    # transactions

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One snapshot for all that is read within."""
        with self._errors():
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                self.rollback()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: committed and durable at the end, undone where anything is raised."""
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self.rollback()
                raise

    def begin(self) -> None:
        """Start a snapshot that lasts until ``rollback``."""
        with self._errors():
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT commits FROM state").fetchone()  # BEGIN alone does not fix the snapshot

    def rollback(self) -> None:
        """End the transaction and undo what it changed."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    # reading

    def about(self) -> dict[str, str | None]:
        """What was set when the collection was made."""
        about = {}
        for key, value, crc in self._all("SELECT key, value, crc FROM about"):
            self._intact(crc, key, value)
            about[key] = value
        return about

    def state(self) -> State:
        """The state of the snapshot."""
        rows = self._all("SELECT commits, generation, n_rows, n_live, next_id, crc FROM state WHERE one = 1")
        if not rows:
            raise self.damaged("its state is missing")
        *values, crc = rows[0]
        self._intact(crc, *values)
        return State(*values)

    def runs(self, row: int) -> npt.NDArray[np.int64]:
        """(R, 3) runs from ``row`` on: first row, length, first id."""
        rows = self._all("SELECT row, n, id, crc FROM runs WHERE row >= ? ORDER BY row", (row,))
        for *values, crc in rows:
            self._intact(crc, *values)
        return np.array([run[:3] for run in rows], np.int64).reshape(-1, 3)

    def tombstones(self, after: int) -> tuple[int, npt.NDArray[np.int64]]:
        """The rows that died after the entry ``after``, and the number of the last entry."""
        parts, last = [], after
        for seq, blob, crc in self._all("SELECT seq, rows, crc FROM tombstones WHERE seq > ? ORDER BY seq", (after,)):
            if not isinstance(blob, bytes) or len(blob) % 8 or crc != checksum(blob.hex()):
                raise self.damaged(f"its list of dead rows is damaged at entry {seq}")
            parts.append(np.frombuffer(blob, "<i8"))
            last = seq
        return last, np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)

    def blocks(self) -> dict[int, int]:
        """Block -> CRC-32 of its committed codes."""
        return dict(self._all("SELECT block, crc FROM blocks"))

    def block(self, block: int) -> int:
        """The CRC-32 of one block."""
        rows = self._all("SELECT crc FROM blocks WHERE block = ?", (block,))
        if not rows or not isinstance(rows[0][0], int) or not 0 <= rows[0][0] < 1 << 32:
            raise self.damaged(f"the checksum of block {block} is missing")
        return int(rows[0][0])

    def item_rows(self, ids: Sequence[Id]) -> npt.NDArray[np.int64]:
        """The row of each id among the items, -1 where there is none."""
        found = np.full(len(ids), -1, np.int64)
        for start in range(0, len(ids), _CHUNK):
            text = json.dumps(ids[start : start + _CHUNK], ensure_ascii=False)
            pairs = self._all("SELECT w.key, i.row FROM json_each(?) w CROSS JOIN items i ON i.id = w.value", (text,))
            if pairs:
                at, rows = np.array(pairs, np.int64).T
                found[start + at] = rows
        return found

    def id_between(self, first: int, last: int) -> int | None:
        """An integer id from ``first`` to ``last`` among the items."""
        rows = self._all("SELECT id FROM items WHERE id BETWEEN ? AND ? LIMIT 1", (first, last))
        return rows[0][0] if rows else None

    def items_at(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, Id, str | None]]:
        """(row, id, metadata) of those of ``rows`` that are items."""
        for start in range(0, len(rows), _CHUNK):
            text = json.dumps(rows[start : start + _CHUNK].tolist())
            yield from self._items(
                "SELECT i.row, i.id, i.metadata, i.crc FROM json_each(?) w CROSS JOIN items i ON i.row = w.value",
                (text,),
            )

    def items_between(self, first: int, stop: int) -> Iterator[tuple[int, Id, str | None]]:
        """(row, id, metadata) of the items of rows ``first`` to ``stop - 1``, by row."""
        sql = "SELECT row, id, metadata, crc FROM items WHERE row >= ? AND row < ? ORDER BY row"
        return self._items(sql, (first, stop))

    def rows_where(self, condition: Condition) -> tuple[npt.NDArray[np.int64], bool]:
        """The rows of the items that match, and whether an item without metadata would."""
        sql, parameters = condition
        rows = self._all(f"SELECT row FROM items WHERE {sql}", parameters)
        empty = self._all(f"SELECT {sql} FROM (SELECT NULL AS metadata)", parameters)
        return np.fromiter((row for (row,) in rows), np.int64, len(rows)), bool(empty[0][0])

    def indexes(self) -> dict[str, str]:
        """Field -> SQL of its index."""
        rows = self._all("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND name LIKE 'field:%'")
        return {name[len(INDEX_PREFIX) :]: sql for name, sql in rows}

    def read_leniently(self) -> None:
        """Let text that is no UTF-8 through, with replacement characters; its checksum is wrong then."""
        self._connection.text_factory = lambda data: data.decode("utf-8", "replace")

    def query(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of a query, for those who check the catalogue itself."""
        return self._all(sql, parameters)

    # writing, within ``writing``

    def set_state(self, state: State) -> None:
        """Replace the state."""
        self._connection.execute(
            "UPDATE state SET commits = ?, generation = ?, n_rows = ?, n_live = ?, next_id = ?, crc = ?",
            (*state, checksum(*state)),
        )

    def add_items(self, rows: Iterable[tuple[int, Id, str | None, int]]) -> bool:
        """Insert (row, id, metadata, crc); False where an id is there already."""
        try:
            self._connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", rows)
        except sqlite3.IntegrityError:
            return False
        return True

    def put_run(self, row: int, n: int, id: int) -> None:
        """Insert a run, or replace the one that begins at ``row``."""
        self._connection.execute("REPLACE INTO runs VALUES (?, ?, ?, ?)", (row, n, id, checksum(row, n, id)))

    def bury(self, rows: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> None:
        """Record ``rows`` as dead, and remove those of them that are items."""
        blob = rows.astype("<i8").tobytes()
        self._connection.execute("INSERT INTO tombstones (rows, crc) VALUES (?, ?)", (blob, checksum(blob.hex())))
        for start in range(0, len(items), _CHUNK):
            text = json.dumps(np.sort(items)[start : start + _CHUNK].tolist())
            self._connection.execute("DELETE FROM items WHERE row IN (SELECT value FROM json_each(?))", (text,))

    def put_blocks(self, blocks: Iterable[tuple[int, int]]) -> None:
        """Set checksums of blocks."""
        self._connection.executemany("REPLACE INTO blocks VALUES (?, ?)", blocks)

    def execute(self, sql: str, parameters: tuple[Any, ...] = ()) -> None:
        """Run a statement."""
        with self._errors():
            self._connection.execute(sql, parameters).fetchall()

    def executemany(self, sql: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run a statement once a row."""
        self._connection.executemany(sql, rows)

    def register(self, name: str, function: Any) -> None:
        """Make a one-argument function usable in SQL."""
        self._connection.create_function(name, 1, function, deterministic=True)

    def trim_log(self) -> None:
        """Fold a long log into the database; readers that come one after the other could keep it growing for ever."""
        log = self.path.with_name(NAME + "-wal")
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            self._connection.execute("PRAGMA busy_timeout = 200")
            try:
                self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
            finally:
                self._connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_S * 1000)}")

    def shrink(self) -> None:
        """Give back the pages that a compaction has freed; a failure leaves them for later use and is only logged."""
        ((free,),), ((pages,),) = self._all("PRAGMA freelist_count"), self._all("PRAGMA page_count")
        if free * 4 < pages:
            return
        try:
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except sqlite3.OperationalError as error:
            _LOG.warning("%s keeps %d unused pages: %s", self.path, free, error)

    # plumbing

    def damaged(self, what: str) -> CorruptError:
        """The sentence for a damaged catalogue."""
        return CorruptError(
            f"{self.path} is damaged: {what}; restore it from a backup, or save what is left with Collection.salvage"
        )

    def stale(self) -> bool:
        """Whether somebody began to write a catalogue that was opened as one that nobody changes."""
        return self.fixed and self.path.with_name(NAME + "-wal").exists()

    def _all(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        with self._errors():
            return self._connection.execute(sql, parameters).fetchall()

    def _items(self, sql: str, parameters: tuple[Any, ...]) -> Iterator[tuple[int, Id, str | None]]:
        for row, id, text, crc in self._all(sql, parameters):
            self._intact(crc, id, text)
            yield row, id, text

    def _intact(self, crc: Any, *values: Any) -> None:
        if not all(isinstance(value, str | int | None) for value in values) or crc != checksum(*values):
            raise self.damaged(f"the checksum of the row {values!r} is wrong"[:400])

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
            return self._open_fixed()
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_fixed(self) -> sqlite3.Connection:
        """A catalogue on a disk that cannot be written, where SQLite cannot make the files that readers share."""
        log = self.path.with_name(NAME + "-wal")
        if log.exists() and log.stat().st_size:
            raise StorageError(
                f"{self.path} has a log of a writer that did not close, and its directory cannot be written; "
                "open the collection once where it can"
            )
        self.fixed = True
        uri = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)

    def _check_kind(self, writable: bool) -> None:
        with self._errors():
            ((kind,),) = self._all("PRAGMA application_id")
            ((version,),) = self._all("PRAGMA user_version")
        if kind != APPLICATION_ID:
            raise CorruptError(f"{self.path} is not a catalogue of hashret; put the right file in its place")
        if version > VERSION:
            raise VersionError(
                f"{self.path} was written in version {version} of the format, and this hashret reads up to {VERSION}; "
                "upgrade it: pip install -U hashret"
            )
        if version < 1:
            raise self.damaged(f"its version is {version}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = _code(error)
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise LockedError(
                    f"{self.path} was kept locked by another process for {_BUSY_S:.0f} s; try again"
                ) from error
            if code in _DISK_CODES:
                raise StorageError(
                    f"{self.path} cannot be used ({error}); what was stored is unchanged: make room or give rights, "
                    "then try again"
                ) from error
            raise self.damaged(str(error)) from error
        except (OverflowError, UnicodeDecodeError) as error:
            raise self.damaged(str(error)) from error


def _code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


_DISK_CODES = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_TOOBIG,
    sqlite3.SQLITE_INTERRUPT,
)
_PRAGMAS = ("trusted_schema = OFF", "cell_size_check = ON")
_WRITER_PRAGMAS = (
    "synchronous = FULL",
    "secure_delete = OFF",
    "cache_size = -65536",
    f"journal_size_limit = {_LOG_BYTES}",
)
