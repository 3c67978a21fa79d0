"""Measures as values with printable names that can be read back: ``parse("AP(norm=min)@50")``.

    AP@all                 average precision over the whole ranking
    AP(norm=min)@50        … within 50 ranks, divided by min(relevant, 50)
    AP(norm=all)@50        … divided by all relevant (trec_eval)
    AP(norm=found)@50      … divided by the relevant found within 50 ranks (DeepHash, DJSRH, FiCo)
    AP(norm=first)@50      mean precision at the first 50 relevant items, wherever they rank (DCHMT)
    NDCG@100, NDCG@all     gain 2^shared - 1; NDCG(gain=linear)@100 takes the number of shared labels
    P@100                  precision of the first 100
    R@10                   1 where any of the first 10 is relevant, as the cross-modal field uses the name
    P@H<=2, Empty@H<=2     precision within Hamming radius 2 (0 where the ball is empty), and the share of empty balls
    MedR, MeanR            median and mean rank of the best relevant item

``AP@50`` alone is refused: three quantities go by that name. The name says all that the number depends on besides
codes, labels and the order of ties. A measure is also built in Python: ``AP(norm="min") @ 50``.

Knows names and formulas; nothing of codes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashret.errors import InputError
from hashret.evaluation import formulas
from hashret.evaluation.buckets import Ranked
from hashret.registry import nearest

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """What a name can carry.

    Attributes:
        formula: gives (q,) values from buckets and keyword arguments.
        cuts: which of "rank" (``@10``), "all" (``@all``), "radius" (``@H<=2``) may follow; empty for none.
        parameters: choices of each parameter, the default first; None first where one has to be chosen for a cut.
        graded: whether levels above 1 matter.
        median: summed up over queries by the median instead of the mean.
        better: "higher" or "lower".
    """

    formula: Callable[..., Floats]
    cuts: tuple[str, ...] = ("rank",)
    parameters: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    graded: bool = False
    median: bool = False
    better: str = "higher"


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "AP": Kind(formulas.average_precision, ("rank", "all"), {"norm": (None, "min", "all", "found", "first")}),
        "NDCG": Kind(formulas.ndcg, ("rank", "all"), {"gain": ("exp", "linear")}, graded=True),
        "P": Kind(formulas.precision, ("rank", "radius")),
        "R": Kind(formulas.hit),
        "Empty": Kind(formulas.ball_empty, ("radius",), better="lower"),
        "MedR": Kind(formulas.rank, (), median=True, better="lower"),
        "MeanR": Kind(formulas.rank, (), better="lower"),
    }
)


@dataclass(frozen=True, repr=False)
class Measure:
    """One measure; its ``repr`` is its name.

    Attributes:
        kind: a key of ``KINDS``.
        cut: ranks that count, None for all (or for none to choose).
        radius: Hamming radius of ``@H<=``, else None.
        parameters: those that differ from their default.
    """

    kind: str
    cut: int | None = None
    radius: int | None = None
    parameters: tuple[tuple[str, str], ...] = ()

    def __call__(self, **parameters: str) -> Measure:
        """The measure with parameters set: ``AP(norm="min")``."""
        known = KINDS[self.kind].parameters
        kept = dict(self.parameters)
        for name, value in parameters.items():
            if name not in known:
                raise InputError(f"{self.kind} has no parameter {name!r}{nearest(name, tuple(known))}")
            choices = tuple(choice for choice in known[name] if choice is not None)
            if value not in choices:
                raise InputError(f"{self.kind} has no {name}={value!r}{nearest(str(value), choices)}")
            kept[name] = value
            if value == known[name][0]:
                del kept[name]
        return Measure(self.kind, self.cut, self.radius, tuple(sorted(kept.items())))

    def __matmul__(self, cut: int | str) -> Measure:
        """The measure with a cut: ``NDCG @ 100``, ``AP @ "all"``, ``P @ "H<=2"``."""
        text = str(cut)
        if text == "all":
            return Measure(self.kind, None, None, self.parameters).checked("all")
        if match := re.fullmatch(r"H<=(\d+)", text):
            return Measure(self.kind, None, int(match[1]), self.parameters).checked("radius")
        if not re.fullmatch(r"[1-9]\d*", text):
            raise InputError(f"a cut is a number of ranks, 'all' or 'H<=' and a radius, and not {text!r}")
        return Measure(self.kind, int(text), None, self.parameters).checked("rank")

    def checked(self, cut: str = "") -> Measure:
        """This measure, if it is complete.

        Raises:
            InputError: a cut that the measure does not take, a missing one, or a parameter left open.
        """
        kind = KINDS[self.kind]
        left_open = tuple((name, str(choices[1])) for name, choices in kind.parameters.items() if choices[0] is None)
        ranks = self._head if self.parameters else Measure(self.kind, parameters=left_open)._head
        whole = self.kind if left_open else self._head
        forms = {"rank": f"{ranks}@10", "all": f"{whole}@all", "radius": f"{self.kind}@H<=2"}
        if (cut and cut not in kind.cuts) or (kind.cuts and not cut):
            takes = " or ".join(forms[form] for form in kind.cuts) or f"plain {self.kind}"
            raise InputError(f"{self if cut else self._head} is no measure: write it as {takes}")
        if cut == "all" and self.parameters and self.kind == "AP":
            raise InputError("over the whole ranking every norm of AP is the same: write AP@all")
        chosen = dict(self.parameters)
        for name, choices in kind.parameters.items():
            if cut == "rank" and choices[0] is None and name not in chosen:
                ways = ", ".join(f"{self.kind}({name}={choice})@{self.cut}" for choice in choices[1:])
                raise InputError(f"{self!r} means different things in different papers: choose one of {ways}")
        return self

    def __repr__(self) -> str:
        if self.radius is not None:
            return f"{self._head}@H<={self.radius}"
        if self.cut is not None:
            return f"{self._head}@{self.cut}"
        return f"{self._head}@all" if "all" in KINDS[self.kind].cuts else self._head

    __str__ = __repr__

    @property
    def _head(self) -> str:
        """The name without its cut."""
        inside = ",".join(f"{name}={value}" for name, value in self.parameters)
        return f"{self.kind}({inside})" if inside else self.kind

    @property
    def graded(self) -> bool:
        """Whether the number of shared labels matters."""
        return KINDS[self.kind].graded

    @property
    def better(self) -> str:
        """ "higher" or "lower"."""
        return KINDS[self.kind].better

    def per_query(self, ranked: Ranked) -> Floats:
        """(q,) values; NaN where a query has none.

        Raises:
            InputError: a radius, and the rankings have no Hamming distances.
        """
        kind = KINDS[self.kind]
        arguments: dict[str, Any] = {name: choices[0] for name, choices in kind.parameters.items()}
        arguments |= dict(self.parameters)
        if self.radius is not None:
            if ranked.by_distance is None:
                raise InputError(f"{self} needs Hamming distances, and these are rankings by float scores")
            formula = formulas.ball_precision if self.kind == "P" else kind.formula
            return formula(ranked.by_distance, radius=self.radius)
        if kind.cuts:
            arguments["cut"] = self.cut
        return kind.formula(ranked.by_rank, **arguments)

    def summary(self, per_query: Floats) -> float:
        """The one number: mean or median over the queries that have a value; NaN where none has."""
        values = per_query[~np.isnan(per_query)]
        if not len(values):
            return float("nan")
        return float(np.median(values) if KINDS[self.kind].median else values.mean())


AP, NDCG, P, R, Empty, MedR, MeanR = (Measure(kind) for kind in KINDS)

_NAME = re.compile(r"(?P<kind>[A-Za-z]+)(?:\((?P<inside>[^()]*)\))?(?:@(?P<cut>.+))?")


def parse(name: str | Measure) -> Measure:
    """The measure called ``name``; ``parse(repr(measure)) == measure``.

    Raises:
        InputError: no such measure, parameter or cut; the message says what to write.
    """
    if isinstance(name, Measure):
        name = repr(name)
    match = _NAME.fullmatch(name.strip().replace(" ", ""))
    if match is None or match["kind"] not in KINDS:
        kind = match["kind"] if match else name
        raise InputError(f"there is no measure {name!r}{nearest(kind, tuple(KINDS))}")
    measure = Measure(match["kind"])
    if match["inside"]:
        pairs = [part.partition("=") for part in match["inside"].split(",")]
        measure = measure(**{key: value for key, _, value in pairs})
    return measure @ match["cut"] if match["cut"] else measure.checked()
