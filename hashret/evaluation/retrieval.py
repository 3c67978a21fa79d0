"""The result of an instance evaluation, as a value: two directions, chance, and the figures that papers print.

Holds numbers and nothing that computes distances.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashret.evaluation._tables import chance_of_a_hit

CUTS = (1, 5, 10)


@dataclass(frozen=True)
class Direction:
    """One direction of retrieval.

    Attributes:
        r1: percent of queries with a correct item among the first 1; likewise ``r5`` and ``r10``. A query without
            any correct item is a miss.
        med_r: median over queries of the expected rank of the best correct item (1 is best).
        mean_r: its mean, exact under ties.
        n_queries: all queries.
        n_without: queries that have no correct item at all; they count as misses and have no rank.
        n_items: what was searched.
        per_query: "R@1", "R@5", "R@10" in 0…1 and "rank" (NaN where there is none), each (n_queries,) float64. Where
            ties are expected also what that follows from: "before", items nearer than the first correct one,
            "level", those at its distance, and "correct", the correct ones among these.
    """

    r1: float
    r5: float
    r10: float
    med_r: float
    mean_r: float
    n_queries: int
    n_without: int
    n_items: int
    per_query: Mapping[str, NDArray[np.float64]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        hits: Mapping[int, NDArray[np.float64]],
        ranks: NDArray[np.float64],
        *,
        n_items: int,
        places: Mapping[str, NDArray[np.float64]] | None = None,
    ) -> Direction:
        """From per-query hit rates at each cut, ranks, and the places of ``per_query`` where ties are expected."""
        known = ranks[~np.isnan(ranks)]
        r1, r5, r10 = (100.0 * float(hits[k].mean()) if len(ranks) else 0.0 for k in CUTS)
        return cls(
            r1=r1,
            r5=r5,
            r10=r10,
            med_r=float(np.median(known)) if len(known) else float("nan"),
            mean_r=float(known.mean()) if len(known) else float("nan"),
            n_queries=len(ranks),
            n_without=len(ranks) - len(known),
            n_items=n_items,
            per_query={f"R@{k}": hits[k] for k in CUTS} | {"rank": ranks, **(places or {})},
        )

    def within(self, k: int) -> float:
        """Percent of queries with a correct item among the first ``k``: R@k for any k."""
        seen = self.per_query
        if not self.n_queries:
            return 0.0
        if "level" in seen:
            return 100.0 * float(chance_of_a_hit(seen["level"], seen["correct"], k - seen["before"]).mean())
        return 100.0 * float((seen["rank"] <= k).mean())  # no query without a correct item: NaN is not below

    def to_dict(self) -> dict[str, float | int]:
        """Plain figures under the names that papers use."""
        return {
            "R@1": self.r1,
            "R@5": self.r5,
            "R@10": self.r10,
            "MedR": self.med_r,
            "MeanR": self.mean_r,
            "n_queries": self.n_queries,
            "n_without": self.n_without,
            "n_items": self.n_items,
        }


@dataclass(frozen=True)
class Retrieval:
    """Retrieval in both directions.

    Attributes:
        i2t: pictures as queries, captions as items.
        t2i: captions as queries, pictures as items.
        chance: per direction, what a random order gives.
        ties: how items at one distance were ordered.
        n_bits: length of the codes, None for float features.
        by_length: the same for each prefix asked for, by its number of bits.
    """

    i2t: Direction
    t2i: Direction
    chance: Mapping[str, Mapping[str, float]]
    ties: str = "expected"
    n_bits: int | None = None
    by_length: Mapping[int, Retrieval] = field(default_factory=dict)

    @property
    def r_sum(self) -> float:
        """Sum of R@1, R@5 and R@10 of both directions, in percent; 600 is perfect."""
        return sum(direction.r1 + direction.r5 + direction.r10 for direction in (self.i2t, self.t2i))

    @property
    def chance_r_sum(self) -> float:
        """The rSum of a random order."""
        return sum(self.chance[way][f"R@{k}"] for way in ("i2t", "t2i") for k in CUTS)

    @property
    def n_queries(self) -> int:
        """Queries of both directions."""
        return self.i2t.n_queries + self.t2i.n_queries

    def with_lengths(self, by_length: Mapping[int, Retrieval]) -> Retrieval:
        """This result, with those of its prefixes."""
        return dataclasses.replace(self, by_length=dict(by_length))

    def to_dict(self) -> dict[str, Any]:
        """Plain figures, ready for JSON."""
        content: dict[str, Any] = {
            "i2t": self.i2t.to_dict(),
            "t2i": self.t2i.to_dict(),
            "rSum": self.r_sum,
            "chance": {way: dict(figures) for way, figures in self.chance.items()} | {"rSum": self.chance_r_sum},
            "ties": self.ties,
            "n_bits": self.n_bits,
        }
        if self.by_length:
            content["by_length"] = {str(length): result.to_dict() for length, result in self.by_length.items()}
        return content

    @classmethod
    def mean(cls, results: Sequence[Retrieval]) -> Retrieval:
        """The mean of several folds or seeds, figure by figure; queries are those of all together."""
        first = results[0]

        def direction(way: str) -> Direction:
            parts: list[Direction] = [getattr(result, way) for result in results]

            def average(name: str) -> float:
                return float(np.mean([getattr(part, name) for part in parts]))

            return Direction(
                r1=average("r1"),
                r5=average("r5"),
                r10=average("r10"),
                med_r=average("med_r"),
                mean_r=average("mean_r"),
                n_queries=sum(part.n_queries for part in parts),
                n_without=sum(part.n_without for part in parts),
                n_items=round(average("n_items")),  # folds of as many pictures differ in captions
                per_query={
                    name: np.concatenate([part.per_query[name] for part in parts]) for name in first.i2t.per_query
                },
            )

        chance = {
            way: {name: float(np.mean([result.chance[way][name] for result in results])) for name in figures}
            for way, figures in first.chance.items()
        }
        by_length = {length: cls.mean([result.by_length[length] for result in results]) for length in first.by_length}
        return cls(direction("i2t"), direction("t2i"), chance, first.ties, first.n_bits, by_length)
