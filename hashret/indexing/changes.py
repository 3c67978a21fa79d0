"""What an update of a collection found and did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hashret.data import Skipped


@dataclass(frozen=True)
class Changes:
    """What an update found and did; counts of pictures unless said otherwise.

    Attributes:
        added: stored under a new id.
        changed: stored again, with other content.
        touched: the same content with another time or in another place; only the metadata were stored again.
        removed: taken out, because their files are gone.
        unchanged: left as they were.
        encoded: how many of the stored ones needed the model; the others took a code that was there.
        waiting: written to just now; the next update looks again.
        gone: ids whose files are gone and which are still stored.
        skipped: what could not be used, with the reason.
        others: suffix -> number of files that are no pictures by their name.
        seconds: the whole update.
    """

    added: int = 0
    changed: int = 0
    touched: int = 0
    removed: int = 0
    unchanged: int = 0
    encoded: int = 0
    waiting: int = 0
    gone: tuple[str, ...] = ()
    skipped: Skipped = field(default_factory=Skipped)
    others: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def any(self) -> bool:
        """Whether the collection is another than before."""
        return bool(self.added or self.changed or self.touched or self.removed)
