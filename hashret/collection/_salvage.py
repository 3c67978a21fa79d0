"""Salvage: what is intact of a damaged collection, copied into a new one.

Takes blocks of codes whose checksum is right and items whose checksum is right, and reads around what SQLite cannot
read; where only SQLite's header is wrong, from a copy with the right one. Never writes to the damaged collection.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

from hashret.codes import Codes
from hashret.collection import _create, _write
from hashret.collection._catalogue import Catalogue
from hashret.collection._check import Id, Ids, checksum
from hashret.collection._codes_file import HEADER_BYTES, file_name, parse_header, rows_of_a_block
from hashret.collection._database import NAME
from hashret.collection._mend import mended
from hashret.collection._runs import Rows, Runs
from hashret.collection.results import Salvaged
from hashret.errors import CorruptError, InputError, StorageError

if TYPE_CHECKING:
    from hashret.collection.collection import Collection

_LISTED = 100
_BATCH = 10_000


class _Item(NamedTuple):
    row: int
    id: Id
    text: str | None
    intact: bool


class _Loss:
    """What could not be saved."""

    def __init__(self) -> None:
        self.count = 0
        self.ids: list[Id] = []
        self.problems: list[str] = []

    def of(self, ids: list[Id]) -> None:
        """Count items, and keep the first ids."""
        self.count += len(ids)
        self.ids.extend(ids[: _LISTED - len(self.ids)])


def salvage(path: Path, out: Path) -> Salvaged:
    """Copy what is intact; arguments and errors as in ``Collection.salvage``."""
    from hashret.collection.collection import Collection

    loss = _Loss()
    with mended(path, out) as place, closing(Catalogue(place)) as catalogue:
        catalogue.path = path / NAME  # for what is said of it
        catalogue.read_leniently()
        with catalogue.reading():
            about = _about(catalogue, path, loss.problems)
            next_id = _next_id(catalogue)
            codes = _codes(catalogue, path, (about.n_bits + 7) // 8)
            good = _good_rows(catalogue, codes, about.n_bits, loss.problems)
            items = _items(catalogue, loss.problems)
            runs = _runs(catalogue, loss.problems)
            dead = _dead(catalogue, loss.problems)
    facts = {"fingerprint": about.fingerprint, "model": about.model, "credits": about.credits}
    with Collection.create(out, about.n_bits, **facts) as target:
        for rows, ids, texts in _pieces(items, runs, dead, good, loss):
            _add(target, codes, rows, ids, texts, loss)
        with target._session.writing() as view:
            _write.skip_ids(view, next_id)
        count = len(target)
    return Salvaged(count, loss.count, tuple(loss.ids), tuple(loss.problems))


def _pieces(
    items: list[_Item], runs: Runs, dead: Rows, good: npt.NDArray[np.bool_], loss: _Loss
) -> Iterator[tuple[Rows, Ids, list[str | None] | None]]:
    """The rows, ids and metadata of what is intact, by row and a few at a time."""
    count = len(good)
    for first, length, id in runs.table.tolist():
        cut_off = np.arange(max(first, count), first + length)  # rows whose codes the file does not have any more
        loss.of((cut_off[~np.isin(cut_off, dead)] - first + id).tolist())
    alive = np.ones(count, bool)
    alive[dead[(dead >= 0) & (dead < count)]] = False
    at = 0
    for first in range(0, count, _BATCH):
        rows = np.arange(first, min(first + _BATCH, count))
        ids, held = runs.ids_of(rows)
        held &= alive[rows]
        loss.of(ids[held & ~good[rows]].tolist())
        keep = held & good[rows]
        entries: dict[int, tuple[Id, str | None]] = {}
        while at < len(items) and items[at].row <= rows[-1]:
            item = items[at]
            at += 1
            if item.intact and good[item.row]:
                entries[item.row] = (item.id, item.text)
            else:
                loss.of([item.id])
        if not entries:
            yield rows[keep], ids[keep], None
            continue
        entries.update((row, (id, None)) for row, id in zip(rows[keep].tolist(), ids[keep].tolist()))
        order = sorted(entries)
        yield np.array(order), [entries[row][0] for row in order], [entries[row][1] for row in order]
    loss.of([item.id for item in items[at:]])


def _about(catalogue: Catalogue, path: Path, problems: list[str]) -> _create.About:
    try:
        return _create.about(catalogue)
    except StorageError as error:
        problems.append(str(error))
    for file in sorted(path.glob("codes-*.bin"), reverse=True):
        try:
            with file.open("rb") as stream:
                header = parse_header(stream.read(HEADER_BYTES), file)
            return _create.About(header.n_bits, header.number, None, None)
        except (StorageError, OSError) as error:
            problems.append(str(error))
    raise CorruptError(f"nothing can be saved from {path}: neither catalogue nor codes say how wide its codes are")


def _next_id(catalogue: Catalogue) -> int:
    """The next automatic id; 0 where the catalogue cannot say it, and then the largest that is saved decides."""
    try:
        return catalogue.state().next_id
    except StorageError:
        return 0


def _codes(catalogue: Catalogue, path: Path, n_bytes: int) -> Codes:
    """All whole rows of the codes file that the catalogue means; it may be ahead of the file or behind."""
    files = sorted(path.glob("codes-*.bin"))
    if not files:
        raise CorruptError(f"nothing can be saved from {path}: its codes file is gone")
    try:
        meant = path / file_name(catalogue.state().generation)
    except StorageError:
        meant = files[0]  # an interrupted compaction leaves a higher one, which is not finished
    best = meant if meant in files else files[0]
    count = max(0, best.stat().st_size - HEADER_BYTES) // n_bytes
    return np.memmap(best, np.uint8, "r", HEADER_BYTES, (count, n_bytes)) if count else np.empty((0, n_bytes), np.uint8)


def _good_rows(catalogue: Catalogue, codes: Codes, n_bits: int, problems: list[str]) -> npt.NDArray[np.bool_]:
    """Which rows lie in a block whose checksum is right."""
    good = np.zeros(len(codes), bool)
    step = rows_of_a_block((n_bits + 7) // 8)
    try:
        n_rows = min(catalogue.state().n_rows, len(codes))
    except StorageError as error:
        problems.append(str(error))
        n_rows = len(codes)
    bad = 0
    for block, crc in _rows(catalogue, "blocks", "block", ("block", "crc"), problems):
        if not isinstance(block, int) or not 0 <= block * step < n_rows:
            bad += 1
            continue
        stop = min(block * step + step, n_rows)
        if crc32(np.ascontiguousarray(codes[block * step : stop]).data) == crc:
            good[block * step : stop] = True
        else:
            bad += 1
    if bad:
        problems.append(f"{bad} blocks of {step} codes are damaged or cut off")
    return good


def _items(catalogue: Catalogue, problems: list[str]) -> list[_Item]:
    found = [
        _Item(row, id, text, checksum(id, text) == crc)
        for row, id, text, crc in _rows(catalogue, "items", "row", ("row", "id", "metadata", "crc"), problems)
        if isinstance(row, int) and row >= 0 and isinstance(id, str | int) and isinstance(text, str | None)
    ]
    return sorted(found, key=lambda item: item.row)


def _runs(catalogue: Catalogue, problems: list[str]) -> Runs:
    table = []
    for row, n, id, crc in _rows(catalogue, "runs", "row", ("row", "n", "id", "crc"), problems):
        if all(isinstance(value, int) for value in (row, n, id)) and checksum(row, n, id) == crc:
            table.append((row, n, id))
        else:
            problems.append(f"a stretch of automatic ids is damaged at row {row}")
    return Runs(np.array(sorted(table), np.int64).reshape(-1, 3))


def _dead(catalogue: Catalogue, problems: list[str]) -> Rows:
    try:
        return catalogue.tombstones(0)[1]
    except StorageError as error:
        problems.append(f"{error} (deleted items with automatic ids may have come back)")
        return np.zeros(0, np.int64)


def _rows(catalogue: Catalogue, table: str, key: str, columns: tuple[str, ...], problems: list[str]) -> Iterator[Any]:
    """The rows of a table from both of its ends, up to where SQLite cannot read."""
    wanted = ", ".join(columns)
    lowest, highest = -(1 << 63), (1 << 63) - 1
    for upwards in (True, False):
        many = 1000
        order = "ASC" if upwards else "DESC"
        while True:
            sql = f"SELECT {wanted} FROM {table} WHERE {key} > ? AND {key} < ? ORDER BY {key} {order} LIMIT {many}"
            try:
                rows = catalogue.query(sql, (lowest, highest))
            except StorageError as error:
                if many == 1:
                    problems.append(str(error))
                    break
                many = 1
                continue
            before = lowest, highest
            for row in rows:
                if lowest < row[0] < highest:
                    lowest, highest = (row[0], highest) if upwards else (lowest, row[0])
                    yield row
            if len(rows) < many or (lowest, highest) == before:  # the end, or a damaged tree that goes in circles
                break


def _add(target: Collection, codes: Codes, rows: Rows, ids: Ids, texts: list[str | None] | None, loss: _Loss) -> None:
    """Store a piece; where something in it cannot be stored, all but that."""
    if not len(rows):
        return
    try:
        metadata = None if texts is None else [None if text is None else json.loads(text) for text in texts]
        target.add(np.array(codes[rows]), ids, metadata)
    except (InputError, json.JSONDecodeError) as error:
        if len(rows) == 1:
            loss.problems.append(str(error))
            loss.of(list(ids))
            return
        for at in range(len(rows)):
            one = slice(at, at + 1)
            _add(target, codes, rows[one], ids[one], None if texts is None else texts[one], loss)
