"""The number that another code base would have given on these codes, beside the standard one.

Knows conventions and codes; the conventions themselves are in ``category``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from hashret.errors import InputError
from hashret.evaluation.category import difference, evaluate_labels, reproduce, standard
from hashret.evaluation.coded import Coded, by_way, lengths_of


@dataclass(frozen=True)
class AsPublished:
    """Two numbers for each direction and length.

    Attributes:
        name: the convention.
        theirs: the measure that it calls mAP, by its full name.
        ours: the standard measure, tie-aware.
        difference: what it does otherwise, a sentence.
        numbers: (way, n_bits, theirs, ours), way "i2t" or "t2i", numbers in 0…1.
    """

    name: str
    theirs: str
    ours: str
    difference: str
    numbers: tuple[tuple[str, int, float, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain figures, ready for JSON."""
        return {
            "name": self.name,
            "theirs": self.theirs,
            "ours": self.ours,
            "difference": self.difference,
            "numbers": [
                {"way": way, "n_bits": n_bits, "theirs": theirs, "ours": ours}
                for way, n_bits, theirs, ours in self.numbers
            ],
        }


def as_published(
    coded: Coded,
    name: str,
    *,
    cut: int | None = None,
    code_lengths: Collection[int] = (),
    database: Coded | None = None,
) -> AsPublished:
    """What another code base would have printed for these codes and labels.

    Args:
        coded: codes with labels.
        name: "deephash", "dchmt", "ucch" or "trec", see ``reproduce``.
        cut: its top-k; None for the whole ranking.
        code_lengths: in bits; the whole codes without.
        database: what is searched in the place of ``coded``; its own items without.

    Raises:
        DataError: no labels.
        InputError: no such convention or length, or a cut below 1.
    """
    if cut is not None and cut < 1:
        raise InputError(f"a cut is a number of ranks from 1 on, and not {cut}")
    convention = reproduce(name, cut=cut)
    (theirs,), ours = convention["measures"], standard(cut)
    numbers = []
    for n_bits in lengths_of(coded, code_lengths):
        for way, arguments in by_way(coded, database, n_bits).items():
            published = evaluate_labels(*arguments, n_bits=n_bits, **convention)
            plain = evaluate_labels(*arguments, n_bits=n_bits, measures=(ours,))
            numbers.append((way, n_bits, published[theirs], plain[ours]))
    return AsPublished(name, theirs, ours, difference(name, cut=cut), tuple(numbers))
