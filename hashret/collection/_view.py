"""What a process holds in memory of a collection: the mapped codes, which rows live, and the runs, brought up to date
from the catalogue by what is new since.

Must be called within a snapshot of the catalogue; decides nothing and writes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hashret.collection._catalogue import Catalogue, State
from hashret.collection._check import Id, Ids
from hashret.collection._codes_file import CodesFile, cannot_open, file_name
from hashret.collection._runs import Rows, Runs
from hashret.collection._where import Condition
from hashret.errors import CodeError, CorruptError, StorageError

if TYPE_CHECKING:
    from hashret.index import FlatIndex

_NOTHING = State(-1, 0, 0, 0, 0)  # no collection has generation 0
_FIRST, _WINDOW = 1 << 10, 1 << 16  # rows of a window: whoever wants a few items does not wait for a quarter second


class View:
    """One committed state of a collection.

    Args:
        directory: the collection's.
        catalogue: an open catalogue.
        writable: whether the codes file is opened for appending.
    """

    def __init__(self, directory: Path, catalogue: Catalogue, *, writable: bool) -> None:
        self._directory, self.catalogue, self._writable = directory, catalogue, writable
        self.state = _NOTHING
        self._file: CodesFile | None = None
        self._index: FlatIndex | None = None  # made by the first search
        self._live: npt.NDArray[np.bool_] | None = None  # made by the first tombstone; may be longer than the rows
        self._buried = (0, 0, _NOTHING)  # in it: up to which entry, how many rows, and all that died in which state
        self._burying = threading.RLock()  # of threads that read the pinned state, one of them in pieces
        self.lock = threading.RLock()  # of who reads a snapshot in pieces, and who moves it on
        self._forget()

    @property
    def file(self) -> CodesFile:
        """The codes file of the state."""
        if self._file is None:
            raise StorageError(f"the collection {self._directory} is closed; open it again with Collection.open")
        return self._file

    def refresh(self) -> bool:
        """Take over what was committed since; whether anything was.

        Raises:
            StorageError: the catalogue or the codes file cannot be used.
        """
        state = self.catalogue.state()
        if state == self.state:
            return False
        try:
            if state.generation != self.state.generation or state.commits < self.state.commits:
                self._open_file(state.generation)
                self._forget()
            self._advance(state)
        except BaseException:
            self.state = _NOTHING  # half taken over: begin anew next time
            raise
        self.state = state
        return True

    def check(self) -> None:
        """Refuse to be read where the last ``refresh`` failed: it would look like an empty collection.

        Raises:
            StorageError: it did.
        """
        if self.state == _NOTHING:
            raise StorageError(
                f"the snapshot of {self._directory} could not be refreshed and holds nothing; refresh it again, or "
                "take another"
            )

    def close(self) -> None:
        """Let go of the codes file."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._forget()

    @property
    def mask(self) -> npt.NDArray[np.bool_] | None:
        """(n_rows,) True where a row lives; None where all do. Reads what has died since it was last needed: to open a
        collection takes no time for what was ever deleted.

        Raises:
            CorruptError: the dead rows cannot be known.
        """
        with self._burying:
            if self._buried[2] != self.state:
                self._bury()
            return None if self._live is None else self._live[: self.state.n_rows]

    def matching(self, condition: Condition) -> npt.NDArray[np.bool_]:
        """(n_rows,) True where a row lives and its metadata match.

        Raises:
            CorruptError: an item that matches is not where one can be.
        """
        rows, empty = self.catalogue.rows_where(condition)
        matches, live = np.zeros(self.state.n_rows, bool), self.mask
        if empty:
            self.runs.fill(matches)
            if live is not None:
                matches &= live
        rows = self._checked(rows)
        if live is not None and not live[rows].all():  # as in a copy that was torn
            raise self.catalogue.damaged("an item has a dead row")
        matches[rows] = True
        return matches

    @property
    def index(self) -> FlatIndex:
        """All rows as an index, dead ones too: search it with ``mask`` or what ``matching`` gives.

        Raises:
            CorruptError: the codes are damaged.
        """
        from hashret.index import FlatIndex  # opening does not need it, and a back end takes a while to load

        try:
            if self._index is None:
                self._index = FlatIndex.over(self.codes, n_bits=self.file.header.n_bits)
            elif len(self._index) != len(self.codes):
                self._index.refresh(self.codes)
        except CodeError as error:
            raise CorruptError(
                f"the codes of {self._directory} are damaged ({error}); restore them from a backup, "
                "or save what is left with Collection.salvage"
            ) from error
        return self._index

    def rows_of(self, ids: Ids) -> Rows:
        """The live row of each id, -1 where there is none."""
        rows = self.held_by_runs(ids)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            wanted = [ids[i] for i in missing] if isinstance(ids, list) else ids[missing].tolist()
            rows[missing] = self._checked(self.catalogue.item_rows(wanted))
        return rows

    def held_by_runs(self, ids: Ids) -> Rows:
        """The live row of each id that a run holds, -1 for the others."""
        if not isinstance(ids, list):
            return self._alive(self.runs.rows_of(ids))
        rows = np.full(len(ids), -1, np.int64)
        if len(self.runs):
            whole = {at: id for at, id in enumerate(ids) if isinstance(id, int)}
            rows[list(whole)] = self._alive(self.runs.rows_of(np.array(list(whole.values()), np.int64)))
        return rows

    def items(self, rows: Rows) -> tuple[npt.NDArray[np.object_], list[str | None]]:
        """The id and the metadata of each live row.

        Raises:
            CorruptError: a row has none.
        """
        order, where = np.unique(rows, return_inverse=True)
        run_ids, held = self.runs.ids_of(order)
        ids: npt.NDArray[np.object_] = run_ids.astype(object)
        texts: list[str | None] = [None] * len(order)
        rest = order[~held]
        if len(rest):
            found = {row: (id, text) for row, id, text in self.catalogue.items_at(rest)}
            for at in np.flatnonzero(~held).tolist():
                entry = found.get(int(order[at]))
                if entry is None:
                    raise self.catalogue.damaged(f"row {order[at]} has no item")
                ids[at], texts[at] = entry
        return ids[where], [texts[at] for at in where.tolist()]

    def everything(self) -> Iterator[tuple[Rows, list[Id], list[str | None]]]:
        """All live rows with their ids and metadata, in windows, by row.

        Raises:
            StorageError: the view took over another state between two windows.
        """
        state, first, size = self.state, 0, _FIRST
        while first < state.n_rows:
            with self.lock:
                if self.state != state:
                    raise StorageError(
                        f"the snapshot of {self._directory} was refreshed while it was read from end to end; begin "
                        "again, or take a snapshot for each"
                    )
                window = self._window(first, min(first + size, state.n_rows))
            yield window
            first, size = first + size, min(2 * size, _WINDOW)

    def _window(self, first: int, stop: int) -> tuple[Rows, list[Id], list[str | None]]:
        rows = np.arange(first, stop)
        run_ids, held = self.runs.ids_of(rows)
        live = self.mask
        if live is not None:
            held &= live[first:stop]
        entries: dict[int, tuple[Id, str | None]] = {
            row: (id, None) for row, id in zip(rows[held].tolist(), run_ids[held].tolist())
        }
        entries.update((row, (id, text)) for row, id, text in self.catalogue.items_between(first, stop))
        order = sorted(entries)
        return np.array(order, np.int64), [entries[r][0] for r in order], [entries[r][1] for r in order]

    def _checked(self, rows: Rows) -> Rows:
        if len(rows) and not (int(rows.min()) >= -1 and int(rows.max()) < self.state.n_rows):
            raise self.catalogue.damaged("an item lies outside the committed rows")
        return rows

    def _alive(self, rows: Rows) -> Rows:
        if not len(rows) or int(rows.max()) < 0:
            return rows
        live = self.mask
        return rows if live is None else np.where((rows >= 0) & live[np.maximum(rows, 0)], rows, -1)

    def _forget(self) -> None:
        self.codes = np.empty((0, 0), np.uint8)
        self.runs = Runs(np.zeros((0, 3), np.int64))
        self._index = None
        self._live = None
        self._buried = (0, 0, _NOTHING)

    def _open_file(self, generation: int) -> None:
        path = self._directory / file_name(generation)
        try:
            file = CodesFile(path, writable=self._writable)
        except (FileNotFoundError, StorageError):
            raise  # not found: a compaction may have come between, and the caller looks again
        except OSError as error:
            raise cannot_open(path, error) from error
        if self._file is not None:
            self._file.close()
        self._file = file
        check_header(self.catalogue, file, generation)

    def _advance(self, state: State) -> None:
        n_rows = state.n_rows
        if n_rows != len(self.codes) or not self.codes.size:
            self.codes = self.file.map(n_rows)
        tail = self.catalogue.runs(self.runs.last_row)
        if len(tail):
            if (tail[:, :2] < 0).any() or int((tail[:, 0] + tail[:, 1]).max()) > n_rows:
                raise self.catalogue.damaged("a run lies outside the committed rows")
            self.runs = self.runs.replaced_from(self.runs.last_row, tail)

    def _bury(self) -> None:
        """Bring the mask up to the state; done again from its beginning where it was interrupted."""
        state, (last, count, _) = self.state, self._buried
        last, dead = self.catalogue.tombstones(last)
        count += len(dead)
        if len(dead) and not (int(dead.min()) >= 0 and int(dead.max()) < state.n_rows):
            raise self.catalogue.damaged("a dead row lies outside the committed rows")
        if count != state.n_rows - state.n_live:
            raise self.catalogue.damaged(f"it lists {count} dead rows and counts {state.n_rows - state.n_live}")
        live = self._live
        if live is None and count:
            live = np.ones(state.n_rows, bool)
        elif live is not None and state.n_rows > len(live):
            grown = np.ones(max(state.n_rows, len(live) * 5 // 4), bool)
            grown[: len(live)] = live
            live = grown
        if live is not None:
            live[dead] = False
        self._live, self._buried = live, (last, count, state)


def check_header(catalogue: Catalogue, file: CodesFile, generation: int) -> None:
    """Refuse a codes file that is not the one that the catalogue means.

    Raises:
        CorruptError: another collection's, another generation's, or another width.
    """
    about, header = catalogue.about(), file.header
    if about.get("number") != header.number.hex() or about.get("n_bits") != str(header.n_bits):
        raise CorruptError(f"{file.path} belongs to another collection; put the right file in its place")
    if header.generation != generation:
        raise CorruptError(
            f"{file.path} is generation {header.generation}, and the catalogue means {generation}; "
            "put the right file in its place"
        )
