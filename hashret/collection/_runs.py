"""Runs: stretches of rows whose ids count up by one and that have no metadata, so that three numbers name them all.

Ten million automatic ids take a few bytes instead of 300 MB. The id ranges of runs never overlap, so an id lies in
one run at most; whether its row is still alive is not known here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MIN_RUN = 64  # a shorter stretch is stored as items, or there could be as many runs as rows

Rows = npt.NDArray[np.int64]


class Runs:
    """The runs of a collection, sorted by row.

    Args:
        table: (R, 3) int64: first row, length, first id.
    """

    def __init__(self, table: Rows) -> None:
        self.table = table
        self._by_id = table[np.argsort(table[:, 2], kind="stable")]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def last_row(self) -> int:
        """Where the last run begins; 0 without any."""
        return int(self.table[-1, 0]) if len(self.table) else 0

    def replaced_from(self, row: int, tail: Rows) -> Runs:
        """The runs before ``row``, and then those of ``tail``."""
        return Runs(np.concatenate([self.table[self.table[:, 0] < row], tail]))

    def rows_of(self, ids: Rows) -> Rows:
        """The row of each id, alive or not; -1 where no run holds it."""
        return _look_up(self._by_id[:, 2], self._by_id[:, 1], self._by_id[:, 0], ids)

    def ids_of(self, rows: Rows) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """The id of each row, and whether a run holds the row at all."""
        firsts, lengths = self.table[:, 0], self.table[:, 1]
        held = _look_up(firsts, lengths, firsts, rows) >= 0
        return _look_up(firsts, lengths, self.table[:, 2], rows), held

    def overlaps(self, first: int, last: int) -> bool:
        """Whether a run has an id from ``first`` to ``last``."""
        return bool(((self.table[:, 2] <= last) & (self.table[:, 2] + (self.table[:, 1] - 1) >= first)).any())

    def extended_by(self, row: int, id: int) -> tuple[int, int, int] | None:
        """The last run (first row, length, first id), if ``row`` and ``id`` are the next after it."""
        if not len(self.table):
            return None
        first, length, first_id = self.table[-1].tolist()
        return (first, length, first_id) if (first + length, first_id + length) == (row, id) else None

    def fill(self, mask: npt.NDArray[np.bool_]) -> None:
        """Set the rows of all runs in ``mask``."""
        for first, length, _ in self.table.tolist():
            mask[first : first + length] = True


def _look_up(keys: Rows, lengths: Rows, targets: Rows, wanted: Rows) -> Rows:
    """Where ``keys[i] <= wanted < keys[i] + lengths[i]``: ``targets[i] + (wanted - keys[i])``; else -1."""
    if not len(keys):
        return np.full(len(wanted), -1, np.int64)
    at = np.maximum(np.searchsorted(keys, wanted, side="right") - 1, 0)
    within = wanted - keys[at]  # may wrap at the ends of int64; the comparison below is right all the same
    inside = (wanted >= keys[at]) & (within >= 0) & (within < lengths[at])
    return np.where(inside, targets[at] + within, -1)
