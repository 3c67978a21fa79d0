"""The catalogue: a SQLite database with everything about a collection but the codes. Its tables are in the package's
docstring.

Reads and writes rows; must not know of the codes file, and decides nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hashret.collection._check import Id, checksum, checksums, hex_checksum
from hashret.collection._database import APPLICATION_ID, NAME, VERSION, Database, TooLargeError
from hashret.collection._where import Condition, field_sql
from hashret.errors import InputError

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
_INDEX = "field:"

_CHUNK = 100_000
_FETCHED = 100  # items of a query that gives one text, which SQLite lets have 10^9 bytes
_TOGETHER = 500  # rows of a statement: a fifth faster than one by one


class State(NamedTuple):
    """What changes with every commit."""

    commits: int
    generation: int
    n_rows: int
    n_live: int
    next_id: int


def index_name(field: str) -> str:
    """The name of a field's index; in hexadecimal, as SQLite takes "A" and "a" for one name."""
    return f'"{_INDEX}{field.encode().hex()}"'


def index_sql(field: str) -> str:
    """The statement that makes a field's index.

    Raises:
        InputError: the field's name cannot be searched.
    """
    return f"CREATE INDEX {index_name(field)} ON items ({field_sql(field)})"


class Catalogue(Database):
    """A connection to a catalogue; arguments and errors as of a ``Database``."""

    @classmethod
    def create(cls, directory: Path, about: dict[str, str | None], state: State) -> None:
        """Write a new catalogue into ``directory``."""
        connection = sqlite3.connect(directory / NAME, isolation_level=None)
        try:
            connection.execute("PRAGMA page_size = 8192")  # a tenth faster to fill than 4,096
            connection.execute("PRAGMA journal_mode = WAL").fetchall()  # its failure comes after its first row
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

    # reading

    def about(self) -> dict[str, str | None]:
        """What was set when the collection was made."""
        about = {}
        for key, value, crc in self.query("SELECT key, value, crc FROM about"):
            self._intact(crc, key, value)
            about[key] = value
        return about

    def state(self) -> State:
        """The state of the snapshot."""
        rows = self.query("SELECT commits, generation, n_rows, n_live, next_id, crc FROM state WHERE one = 1")
        if not rows:
            raise self.damaged("its state is missing")
        *values, crc = rows[0]
        self._intact(crc, *values)
        return State(*values)

    def runs(self, row: int) -> npt.NDArray[np.int64]:
        """(R, 3) runs from ``row`` on: first row, length, first id."""
        rows = self.query("SELECT row, n, id, crc FROM runs WHERE row >= ? ORDER BY row", (row,))
        for *values, crc in rows:
            self._intact(crc, *values)
        return np.array([run[:3] for run in rows], np.int64).reshape(-1, 3)

    def tombstones(self, after: int) -> tuple[int, npt.NDArray[np.int64]]:
        """The rows that died after the entry ``after``, and the number of the last entry."""
        parts, last = [], after
        for seq, blob, crc in self.query("SELECT seq, rows, crc FROM tombstones WHERE seq > ? ORDER BY seq", (after,)):
            if not isinstance(blob, bytes) or len(blob) % 8 or crc != hex_checksum(blob):
                raise self.damaged(f"its list of dead rows is damaged at entry {seq}")
            parts.append(np.frombuffer(blob, "<i8"))
            last = seq
        return last, np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)

    def blocks(self) -> dict[int, int]:
        """Block -> CRC-32 of its committed codes."""
        return dict(self.query("SELECT block, crc FROM blocks"))

    def block(self, block: int) -> int:
        """The CRC-32 of one block."""
        rows = self.query("SELECT crc FROM blocks WHERE block = ?", (block,))
        if not rows or not isinstance(rows[0][0], int) or not 0 <= rows[0][0] < 1 << 32:
            raise self.damaged(f"the checksum of block {block} is missing")
        return int(rows[0][0])

    def item_rows(self, ids: Sequence[Id]) -> npt.NDArray[np.int64]:
        """The row of each id among the items, -1 where there is none."""
        found = np.full(len(ids), -1, np.int64)
        for start in range(0, len(ids), _CHUNK):
            text = json.dumps(ids[start : start + _CHUNK], ensure_ascii=False)
            pairs = self.query("SELECT w.key, i.row FROM json_each(?) w CROSS JOIN items i ON i.id = w.value", (text,))
            if pairs:
                at, rows = np.array(pairs, np.int64).T
                found[start + at] = rows
        return found

    def id_between(self, first: int, last: int) -> int | None:
        """An integer id from ``first`` to ``last`` among the items."""
        rows = self.query("SELECT id FROM items WHERE id BETWEEN ? AND ? LIMIT 1", (first, last))
        return rows[0][0] if rows else None

    def items_at(self, rows: npt.NDArray[np.int64]) -> Iterator[tuple[int, Id, str | None]]:
        """(row, id, metadata) of those of ``rows`` that are items."""
        for start in range(0, len(rows), _FETCHED):
            yield from self._items_together(rows[start : start + _FETCHED].tolist())

    def _items_together(self, rows: list[int]) -> list[tuple[int, Id, str | None]]:
        if len(rows) == 1:
            return self.items_between(rows[0], rows[0] + 1)
        # All of them as one text: sqlite3 gives up Python's lock at every row, and beside a busy thread, such as a
        # server's, it waits for that lock as often
        sql = (
            "SELECT json_group_array(json_array(i.row, i.id, i.metadata, i.crc)) "
            "FROM json_each(?) w CROSS JOIN items i ON i.row = w.value"
        )
        try:
            ((found,),) = self.query(sql, (json.dumps(rows),))
        except TooLargeError:
            half = len(rows) // 2
            return self._items_together(rows[:half]) + self._items_together(rows[half:])
        return self._intact_items(json.loads(found))

    def items_between(self, first: int, stop: int) -> list[tuple[int, Id, str | None]]:
        """(row, id, metadata) of the items of rows ``first`` to ``stop - 1``, by row."""
        sql = "SELECT row, id, metadata, crc FROM items WHERE row >= ? AND row < ? ORDER BY row"
        return self._intact_items(self.query(sql, (first, stop)))

    def rows_where(self, condition: Condition) -> tuple[npt.NDArray[np.int64], bool]:
        """The rows of the items that match, and whether an item without metadata would."""
        sql, parameters = condition
        ((rows,),) = self.query(f"SELECT group_concat(row) FROM items WHERE {sql}", parameters)  # 3x a row at a time
        empty = self.query(f"SELECT {sql} FROM (SELECT NULL AS metadata)", parameters)
        return np.fromstring(rows or "", np.int64, sep=","), bool(empty[0][0])

    def indexes(self) -> dict[str, str]:
        """Field -> SQL of its index."""
        rows = self.query("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND name LIKE 'field:%'")
        try:
            return {bytes.fromhex(name[len(_INDEX) :]).decode(): sql for name, sql in rows}
        except ValueError as error:
            raise self.damaged(f"the name of an index cannot be read ({error})") from error

    def check_schema(self) -> None:
        """Refuse tables, indexes, views and triggers that are not hashret's.

        Raises:
            CorruptError: the message has one of them.
        """
        try:
            wanted = {*SCHEMA, *(index_sql(field) for field in self.indexes())}
        except InputError as error:
            raise self.damaged(str(error)) from error
        found = {sql for (sql,) in self.query("SELECT sql FROM sqlite_schema")}
        if found != wanted:
            odd = sorted(str(sql) for sql in found ^ wanted)[0]
            raise self.damaged(f"its tables are not those of hashret ({odd[:200]!r})")

    # writing, within ``writing``

    def set_state(self, state: State) -> None:
        """Replace the state."""
        self._connection.execute(
            "UPDATE state SET commits = ?, generation = ?, n_rows = ?, n_live = ?, next_id = ?, crc = ?",
            (*state, checksum(*state)),
        )

    def commit_again(self) -> None:
        """Commit the state as it is, in the place of what a failed commit may have left in the log."""
        with self.writing():
            state = self.state()
            self.set_state(state._replace(commits=state.commits + 1))

    def add_items(self, rows: Iterable[tuple[int, Id, str | None, int]]) -> bool:
        """Insert (row, id, metadata, crc); False where an id is there already."""
        entries = iter(rows)
        count = min(_TOGETHER, self._connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // 4)  # 249 before 3.32
        try:
            while together := tuple(chain.from_iterable(islice(entries, count))):
                places = ", ".join(["(?, ?, ?, ?)"] * (len(together) // 4))
                self._connection.execute(f"INSERT INTO items VALUES {places}", together)
        except sqlite3.IntegrityError:
            return False
        return True

    def put_run(self, row: int, n: int, id: int) -> None:
        """Insert a run, or replace the one that begins at ``row``."""
        self._connection.execute("REPLACE INTO runs VALUES (?, ?, ?, ?)", (row, n, id, checksum(row, n, id)))

    def bury(self, rows: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> None:
        """Record ``rows`` as dead, and remove those of them that are items."""
        blob = rows.astype("<i8").tobytes()
        self._connection.execute("INSERT INTO tombstones (rows, crc) VALUES (?, ?)", (blob, hex_checksum(blob)))
        for start in range(0, len(items), _CHUNK):
            text = json.dumps(np.sort(items)[start : start + _CHUNK].tolist())
            self._connection.execute("DELETE FROM items WHERE row IN (SELECT value FROM json_each(?))", (text,))

    def put_blocks(self, blocks: Iterable[tuple[int, int]]) -> None:
        """Set checksums of blocks."""
        self._connection.executemany("REPLACE INTO blocks VALUES (?, ?)", blocks)

    def _intact_items(self, found: Sequence[Sequence[Any]]) -> list[tuple[int, Id, str | None]]:
        """(row, id, metadata) of (row, id, metadata, checksum)."""
        if not found:
            return []
        rows, ids, texts, crcs = zip(*found)
        try:
            intact = checksums(ids, texts) == list(crcs)
        except (KeyError, TypeError, UnicodeEncodeError):  # a value of a type that is never stored
            intact = False
        if not intact:
            for _, id, text, crc in found:
                self._intact(crc, id, text)
        return list(zip(rows, ids, texts))

    def _intact(self, crc: Any, *values: Any) -> None:
        if not all(isinstance(value, str | int | None) for value in values) or crc != checksum(*values):
            raise self.damaged(f"the checksum of the row {values!r} is wrong"[:400])
