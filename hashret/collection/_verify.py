"""Verification: everything in a collection against its checksums, and the parts against each other.

Only reads. Damage in the codes is named by block, damage in the catalogue by table.
"""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

import numpy as np

from hashret.collection._view import View, check_header
from hashret.collection.results import Verified
from hashret.errors import CorruptError

_ROWS_AT_ONCE = 100_000


def verify(view: View) -> Verified:
    """Check all, within a snapshot.

    Raises:
        CorruptError: what is wrong, where, and what to do.
    """
    if view.file.read_header() != view.file.header:
        raise CorruptError(f"the header of {view.file.path} has changed since it was opened; open it again")
    bad = list(bad_blocks(view))
    if bad:
        rows = view.file.header.block_rows
        first = ", ".join(str(block) for block in bad[:5])
        raise CorruptError(
            f"{view.file.path} is damaged: the checksum of {len(bad)} of its blocks is wrong (block {first}, of {rows} "
            "rows each); restore it from a backup, or save what is left with Collection.salvage"
        )
    view.catalogue.check_schema()
    check_header(view.catalogue, view.file, view.state.generation)
    problems = [text for (text,) in view.catalogue.query("PRAGMA integrity_check(5)") if text != "ok"]
    if problems:
        raise view.catalogue.damaged("; ".join(problems)[:500])
    _check_rows(view)
    blocks = -(-view.state.n_rows // view.file.header.block_rows)
    return Verified(view.state.n_live, view.state.n_rows, blocks, view.codes.nbytes)


def bad_blocks(view: View) -> Iterator[int]:
    """The blocks of codes whose checksum is wrong or missing, and those that the catalogue has too many."""
    step, stored = view.file.header.block_rows, view.catalogue.blocks()
    n_blocks = -(-view.state.n_rows // step)
    for block in range(n_blocks):
        if stored.get(block) != crc32(view.codes[block * step : (block + 1) * step].data):
            yield block
    yield from sorted(block for block in stored if not 0 <= block < n_blocks)


def _check_rows(view: View) -> None:
    """Each row is in a run, an item or dead, exactly once; each id is there once."""
    state = view.state
    times = np.zeros(state.n_rows, np.int8)
    for first, length, first_id in view.runs.table.tolist():
        times[first : first + length] += 1
        if length < 1 or first_id + length - 1 > state.next_id:
            raise view.catalogue.damaged("a run's ids make no sense")
    by_id = view.runs.table[np.argsort(view.runs.table[:, 2])]
    if (by_id[:-1, 2] + by_id[:-1, 1] > by_id[1:, 2]).any() or (times > 1).any():
        raise view.catalogue.damaged("two runs overlap")
    if view.mask is not None:
        times[~view.mask] = 0
    _, dead = view.catalogue.tombstones(0)
    if len(np.unique(dead)) != len(dead):
        raise view.catalogue.damaged("a row died twice")
    ((outside,),) = view.catalogue.query("SELECT count(*) FROM items WHERE row < 0 OR row >= ?", (state.n_rows,))
    if outside:
        raise view.catalogue.damaged("an item lies outside the committed rows")
    for first in range(0, state.n_rows, _ROWS_AT_ONCE):
        rows, ids = [], []
        for row, id, _ in view.catalogue.items_between(first, first + _ROWS_AT_ONCE):
            rows.append(row)
            if isinstance(id, int):
                ids.append(id)
        times[rows] += 1
        if ids and (max(ids) > state.next_id or (view.held_by_runs(np.array(ids, np.int64)) >= 0).any()):
            raise view.catalogue.damaged("an item's id is held twice, or beyond the largest")
    wanted = np.ones(state.n_rows, np.int8) if view.mask is None else view.mask.astype(np.int8)
    wrong = np.flatnonzero(times != wanted)
    if len(wrong):
        raise view.catalogue.damaged(f"row {wrong[0]} is held {times[wrong[0]]} times, not {wanted[wrong[0]]}")
    if int(wanted.sum()) != state.n_live:
        raise view.catalogue.damaged(f"it counts {state.n_live} items and holds {int(wanted.sum())}")
