"""Curves against a plain computation, and against trec_eval."""

from __future__ import annotations

import numpy as np
import pytest

from hashret.codes import pack
from hashret.errors import DataError, InputError
from hashret.evaluation import radius_curve, recall_curve
from hashret.kernels import hamming

RNG = np.random.default_rng(5)
QUERIES, ITEMS = pack(RNG.random((20, 12)) > 0.5), pack(RNG.random((300, 12)) > 0.5)
QUERY_LABELS, ITEM_LABELS = RNG.integers(0, 6, 20), RNG.integers(0, 5, 300)  # some queries have label 5: no item
RELEVANT = QUERY_LABELS[:, None] == ITEM_LABELS


def test_radius_curves() -> None:
    distances = hamming(QUERIES, ITEMS)
    macro = radius_curve(QUERIES, ITEMS, QUERY_LABELS, ITEM_LABELS, n_bits=12)
    micro = radius_curve(QUERIES, ITEMS, QUERY_LABELS, ITEM_LABELS, n_bits=12, average="micro")
    answerable = RELEVANT.any(axis=1)
    assert macro.n_without == micro.n_without == (~answerable).sum() > 0
    for radius in range(13):
        inside = distances <= radius
        hits = (inside & RELEVANT).sum(axis=1)
        assert macro.precision[radius] == pytest.approx((hits / np.maximum(inside.sum(axis=1), 1)).mean())
        assert macro.recall[radius] == pytest.approx((hits[answerable] / RELEVANT[answerable].sum(axis=1)).mean())
        assert micro.precision[radius] == pytest.approx(hits.sum() / max(inside.sum(), 1))
        assert micro.recall[radius] == pytest.approx(hits.sum() / RELEVANT.sum())
        assert macro.empty[radius] == pytest.approx((inside.sum(axis=1) == 0).mean())
    assert macro.recall[-1] == micro.recall[-1] == 1


def test_eleven_points_are_those_of_trec_eval() -> None:
    ir = pytest.importorskip("ir_measures", reason="ir_measures is not installed")
    pytest.importorskip("pytrec_eval", reason="pytrec_eval is not installed")
    keep = RELEVANT.any(axis=1)
    distances = hamming(QUERIES[keep], ITEMS)
    run = [
        ir.ScoredDoc(str(q), str(n), -float(distances[q, n]) - n / 1000)
        for q in range(len(distances))
        for n in range(len(ITEMS))
    ]
    qrels = [ir.Qrel(str(q), str(n), 1) for q, n in zip(*np.nonzero(RELEVANT[keep]))]
    curve = recall_curve(QUERIES[keep], ITEMS, QUERY_LABELS[keep], ITEM_LABELS, n_bits=12, ties="stable")
    points = [ir.IPrec @ float(recall) for recall in curve.recall.round(1)]
    theirs = ir.calc_aggregate(points, qrels, run)
    assert curve.precision.tolist() == pytest.approx([theirs[point] for point in points], abs=1e-6)


def test_a_tie_is_retrieved_whole_between_the_bounds() -> None:
    curves = {
        ties: recall_curve(QUERIES, ITEMS, QUERY_LABELS, ITEM_LABELS, n_bits=12, ties=ties).precision
        for ties in ("pessimistic", "expected", "optimistic")
    }
    assert (curves["pessimistic"] <= curves["expected"] + 1e-12).all()
    assert (curves["expected"] <= curves["optimistic"] + 1e-12).all()


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="'macro'"):
        radius_curve(QUERIES, ITEMS, QUERY_LABELS, ITEM_LABELS, n_bits=12, average="mean")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="must agree"):
        recall_curve(QUERIES, ITEMS, QUERY_LABELS[1:], ITEM_LABELS, n_bits=12)
