"""What a writer does within its transaction: store and delete items, append codes, clean up.

The order is the whole point: everything goes into the open transaction first, then the codes are appended and
fsynced, and only then does the caller commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np

from hashret._text import INT_MAX
from hashret.codes import Codes
from hashret.collection._check import Id, Ids, checksums, integer_checksums, is_contiguous
from hashret.collection._codes_file import (
    HEADER_BYTES,
    CodesFile,
    block_checksums,
    is_file_name,
    parse_header,
)
from hashret.collection._runs import MIN_RUN, Rows
from hashret.collection._view import View
from hashret.errors import CorruptError, InputError, VersionError


def store(view: View, codes: Codes, ids: Ids | None, texts: list[str | None] | None, *, replace: bool) -> Sequence[Id]:
    """Append items, within a transaction; arguments are checked, and ``ids`` None means automatic ones.

    Raises:
        InputError: an id is here already and ``replace`` is false.
        StorageError: the codes cannot be written.
    """
    state, count = view.state, len(codes)
    automatic = ids is None
    if ids is None:
        if state.next_id > INT_MAX - count:
            raise InputError("the automatic ids have reached the largest 64-bit number; give ids of your own")
        ids = np.arange(state.next_id, state.next_id + count, dtype=np.int64)
    if not count:
        return []
    gone = 0
    if replace:
        old = view.rows_of(ids)
        gone = _bury(view, np.unique(old[old >= 0]))
    _place(view, ids, texts, replace)
    _append(view, codes)
    largest = _largest(ids)
    view.catalogue.set_state(
        state._replace(
            commits=state.commits + 1,
            n_rows=state.n_rows + count,
            n_live=state.n_live - gone + count,
            next_id=max(state.next_id, min(largest + 1, INT_MAX)),
        )
    )
    if automatic:
        return range(state.next_id, state.next_id + count)
    return ids if isinstance(ids, list) else ids.tolist()


def skip_ids(view: View, next_id: int) -> None:
    """Give no automatic id below ``next_id`` from now on: all these were given before, if the items live or not."""
    state = view.catalogue.state()
    if next_id > state.next_id:
        later = state._replace(commits=view.state.commits + 1, next_id=min(next_id, INT_MAX))
        view.catalogue.set_state(later)


def delete(view: View, rows: Rows) -> None:
    """Remove live rows, within a transaction."""
    state = view.state
    gone = _bury(view, rows)
    if gone:
        view.catalogue.set_state(state._replace(commits=state.commits + 1, n_live=state.n_live - gone))


def is_tidy(view: View) -> bool:
    """Whether there is nothing for ``tidy`` to remove."""
    try:
        return view.file.size <= view.file.offset(view.state.n_rows) and not any(_others(view.file))
    except OSError:  # it cannot be seen
        return False


def tidy(view: View) -> None:
    """Remove what failed or interrupted transactions and compactions left: nobody reads what lies beyond."""
    view.file.truncate(view.state.n_rows)
    for path in _others(view.file):
        path.unlink(missing_ok=True)


def _others(current: CodesFile) -> Iterator[Path]:
    """This collection's files of other generations; copies under other names are their owner's."""
    for path in current.path.parent.glob("codes-*.bin"):
        if is_file_name(path.name) and path.name != current.path.name and _may_go(path, current.header.number):
            yield path


def _may_go(path: Path, number: bytes) -> bool:
    """Whether a codes file is the collection's, or was never finished."""
    try:
        with path.open("rb") as file:
            return parse_header(file.read(HEADER_BYTES), path).number == number
    except (CorruptError, FileNotFoundError):
        return True
    except (VersionError, OSError):  # of a later version, a folder, or somebody else's
        return False


def _bury(view: View, rows: Rows) -> int:
    if len(rows):
        _, in_runs = view.runs.ids_of(rows)
        view.catalogue.bury(rows, rows[~in_runs])
    return len(rows)


def _place(view: View, ids: Ids, texts: list[str | None] | None, replace: bool) -> None:
    """Enter the ids as a run where they are one, or else as items."""
    row = view.state.n_rows
    if texts is None and not isinstance(ids, list) and is_contiguous(ids) and _place_run(view, ids, row):
        return
    if not replace:
        _refuse_known(view.held_by_runs(ids), ids)
    if not view.catalogue.add_items(_entries(ids, texts, row)):
        view.catalogue.rollback()
        _refuse_known(view.rows_of(ids), ids)
        raise view.catalogue.damaged("its index of ids contradicts its items")


def _entries(ids: Ids, texts: list[str | None] | None, row: int) -> Iterable[tuple[int, Id, str | None, int]]:
    """(row, id, metadata, crc) of new items; integers by id, so that the pages of their index are touched in order."""
    if isinstance(ids, list) or texts is not None:
        plain = ids if isinstance(ids, list) else ids.tolist()
        stored = [None] * len(plain) if texts is None else texts
        return zip(range(row, row + len(plain)), plain, stored, checksums(plain, stored))
    order = np.argsort(ids)
    ids = ids[order]
    return zip((row + order).tolist(), ids.tolist(), repeat(None), integer_checksums(ids))


def _place_run(view: View, ids: Rows, row: int) -> bool:
    first, last = int(ids[0]), int(ids[-1])
    before = view.runs.extended_by(row, first)
    if (before is None and len(ids) < MIN_RUN) or view.runs.overlaps(first, last):
        return False
    if view.catalogue.id_between(first, last) is not None:
        return False  # the way of the items finds out which, and says so
    start, length, first_id = before or (row, 0, first)
    view.catalogue.put_run(start, length + len(ids), first_id)
    return True


def _append(view: View, codes: Codes) -> None:
    row, block_rows = view.state.n_rows, view.file.header.block_rows
    before = view.catalogue.block(row // block_rows) if row % block_rows else 0
    view.catalogue.put_blocks(block_checksums(codes, row, block_rows, before))
    view.file.append(codes, row)


def _refuse_known(rows: Rows, ids: Ids) -> None:
    known = np.flatnonzero(rows >= 0)
    if len(known):
        first = ids[int(known[0])]
        first = first if isinstance(first, str) else int(first)
        many = f" (and {len(known) - 1} more of these ids)" if len(known) > 1 else ""
        raise InputError(
            f"the id {first!r} is in the collection already{many}; nothing was stored: use upsert to replace"
        )


def _largest(ids: Ids) -> int:
    if isinstance(ids, list):
        return max((id for id in ids if isinstance(id, int)), default=-1)
    return int(ids.max())
