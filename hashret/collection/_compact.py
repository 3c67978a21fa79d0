"""Compaction: the live rows move into the next generation's codes file, and the catalogue is renumbered, in one
transaction.

Checks every block as it reads it, so that damage is refused and not sealed under a new checksum.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hashret.collection._catalogue import SCHEMA, Catalogue
from hashret.collection._check import checksum
from hashret.collection._codes_file import CodesFile, block_checksums, file_name
from hashret.collection._runs import MIN_RUN
from hashret.collection._verify import bad_blocks
from hashret.collection._view import View
from hashret.errors import CorruptError

_BLOCKS_AT_ONCE = 256  # 16 MB of codes


def rewrite(view: View) -> bool:
    """Write the next generation, within a transaction that the caller commits; False where nothing is dead.

    Raises:
        CorruptError: a block is damaged; nothing was changed.
        StorageError: the disk is full or fails; nothing was changed.
    """
    live, state, catalogue = view.mask, view.state, view.catalogue
    if live is None:
        return False
    kept = _copy_codes(view, live)
    renumbered = np.cumsum(live, dtype=np.int64) - 1
    _move_items(catalogue, renumbered)
    _move_runs(view, live, renumbered)
    catalogue.execute("DELETE FROM tombstones")
    catalogue.set_state(state._replace(commits=state.commits + 1, generation=state.generation + 1, n_rows=kept))
    return True


def _copy_codes(view: View, live: npt.NDArray[np.bool_]) -> int:
    header = view.file.header._replace(generation=view.state.generation + 1)
    bad = next(bad_blocks(view), None)
    if bad is not None:
        raise CorruptError(
            f"{view.file.path} is damaged: the checksum of block {bad} is wrong, so it was not compacted; "
            "restore it from a backup, or save what is left with Collection.salvage"
        )
    target = CodesFile.create(view.file.path.parent / file_name(header.generation), header)
    try:
        blocks: dict[int, int] = {}
        kept, step = 0, header.block_rows * _BLOCKS_AT_ONCE
        for first in range(0, len(live), step):
            part = view.codes[first : first + step][live[first : first + step]]
            before = blocks.get(kept // header.block_rows, 0)
            blocks.update(block_checksums(part, kept, header.block_rows, before))
            target.append(part, kept)
            kept += len(part)
    finally:
        target.close()
    view.catalogue.execute("DELETE FROM blocks")
    view.catalogue.put_blocks(blocks.items())
    return kept


def _move_items(catalogue: Catalogue, renumbered: npt.NDArray[np.int64]) -> None:
    indexes = catalogue.indexes()
    items, by_id = (statement for statement in SCHEMA if " items " in statement)
    catalogue.execute("ALTER TABLE items RENAME TO items_before")
    catalogue.execute(items)
    with catalogue.function("renumbered", lambda row: int(renumbered[row])):
        catalogue.execute("INSERT INTO items SELECT renumbered(row), id, metadata, crc FROM items_before ORDER BY row")
    catalogue.execute("DROP TABLE items_before")
    for statement in (by_id, *indexes.values()):
        catalogue.execute(statement)


def _move_runs(view: View, live: npt.NDArray[np.bool_], renumbered: npt.NDArray[np.int64]) -> None:
    """Cut each run at its holes; what is too short for a run becomes items."""
    view.catalogue.execute("DELETE FROM runs")
    for first, length, first_id in view.runs.table.tolist():
        within = np.flatnonzero(live[first : first + length])
        if not len(within):
            continue
        for part in np.split(within, np.flatnonzero(np.diff(within) != 1) + 1):
            row, id = int(renumbered[first + part[0]]), int(first_id + part[0])
            if len(part) >= MIN_RUN:
                view.catalogue.put_run(row, len(part), id)
            else:
                items = [(row + i, id + i, None, checksum(id + i, None)) for i in range(len(part))]
                view.catalogue.add_items(items)
