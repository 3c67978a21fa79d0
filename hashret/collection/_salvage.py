"""Salvage: what is intact of a damaged collection, copied into a new one.

Takes blocks of codes whose checksum is right and items whose checksum is right, and reads around what SQLite cannot
read. Never writes to the damaged collection.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt

from hashret.codes import Codes
from hashret.collection import _create
from hashret.collection._catalogue import Catalogue
from hashret.collection._check import Id, checksum
from hashret.collection._codes_file import HEADER_BYTES, parse_header, rows_of_a_block
from hashret.collection.results import Salvaged
from hashret.errors import CorruptError, HashretError, InputError, StorageError

if TYPE_CHECKING:
    from hashret.collection.collection import Collection

_LISTED = 100
_BATCH = 10_000


class _Item(NamedTuple):
    row: int
    id: Id
    text: str | None
    intact: bool


def salvage(path: Path, out: Path) -> Salvaged:
    """Copy what is intact; arguments and errors as in ``Collection.salvage``."""
    from hashret.collection.collection import Collection

    catalogue = Catalogue(path)
    problems: list[str] = []
    try:
        catalogue.read_leniently()
        about = _about(catalogue, path, problems)
        with catalogue.reading():
            items = sorted(_items(catalogue, problems), key=lambda item: item.row)
        n_bytes = (about.n_bits + 7) // 8
        codes = _codes(path, n_bytes)
        good = _good_rows(catalogue, codes, about.n_bits, problems)
    finally:
        catalogue.close()
    lost = [item.id for item in items if not (item.intact and item.row < len(good) and good[item.row])]
    kept = [item for item in items if item.intact and item.row < len(good) and good[item.row]]
    with Collection.create(out, about.n_bits, fingerprint=about.fingerprint, model=about.model) as target:
        for first in range(0, len(kept), _BATCH):
            _add(target, codes, kept[first : first + _BATCH], lost, problems)
        count = len(target)
    return Salvaged(count, len(lost), tuple(lost[:_LISTED]), tuple(problems))


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


def _codes(path: Path, n_bytes: int) -> Codes:
    """All whole rows of the newest codes file; the catalogue may be ahead of it or behind."""
    files = sorted(path.glob("codes-*.bin"))
    if not files:
        raise CorruptError(f"nothing can be saved from {path}: its codes file is gone")
    best = _generation(path, files)
    size = max(0, best.stat().st_size - HEADER_BYTES) // n_bytes
    if not size:
        return np.empty((0, n_bytes), np.uint8)
    return np.memmap(best, np.uint8, "r", HEADER_BYTES, (size, n_bytes))


def _generation(path: Path, files: list[Path]) -> Path:
    """The file that the catalogue means, or the only one that can be meant."""
    from hashret.collection._codes_file import file_name

    catalogue = Catalogue(path)
    try:
        named = path / file_name(catalogue.state().generation)
        return named if named in files else files[0]
    except StorageError:
        return files[0]  # an interrupted compaction leaves a higher, unfinished one
    finally:
        catalogue.close()


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
        if crc32(codes[block * step : stop].data) == crc:
            good[block * step : stop] = True
        else:
            bad += 1
    if bad:
        problems.append(f"{bad} blocks of {step} codes are damaged or cut off")
    return good


def _items(catalogue: Catalogue, problems: list[str]) -> Iterator[_Item]:
    for row, id, text, crc in _rows(catalogue, "items", "row", ("row", "id", "metadata", "crc"), problems):
        if isinstance(row, int) and row >= 0 and isinstance(id, str | int) and isinstance(text, str | None):
            yield _Item(row, id, text, checksum(id, text) == crc)
    try:
        _, dead = catalogue.tombstones(0)
    except StorageError as error:
        problems.append(f"{error} (deleted items with automatic ids may have come back)")
        dead = np.zeros(0, np.int64)
    gone = set(dead.tolist())
    for row, n, id, crc in _rows(catalogue, "runs", "row", ("row", "n", "id", "crc"), problems):
        if all(isinstance(value, int) for value in (row, n, id)) and checksum(row, n, id) == crc:
            yield from (_Item(row + i, id + i, None, True) for i in range(n) if row + i not in gone)
        else:
            problems.append(f"a stretch of automatic ids is damaged at row {row}")


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
            yield from rows
            if len(rows) < many:
                return
            if upwards:
                lowest = rows[-1][0]
            else:
                highest = rows[-1][0]


def _add(target: Collection, codes: Codes, items: list[_Item], lost: list[Id], problems: list[str]) -> None:
    try:
        _add_all(target, codes, items)
    except HashretError as error:
        if len(items) > 1:
            for item in items:
                _add(target, codes, [item], lost, problems)
        elif isinstance(error, InputError | CorruptError | json.JSONDecodeError):
            problems.append(str(error))
            lost.append(items[0].id)
        else:
            raise


def _add_all(target: Collection, codes: Codes, items: list[_Item]) -> None:
    try:
        metadata = [None if item.text is None else json.loads(item.text) for item in items]
    except json.JSONDecodeError as error:
        raise InputError(f"the metadata of {items[0].id!r} cannot be read ({error})") from error
    target.add(codes[[item.row for item in items]], [item.id for item in items], metadata)
