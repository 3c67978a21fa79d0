"""Re-ranking lists: the new order, and the figures after it, against loops over every query."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashret.codes import pack
from hashret.errors import DataError, InputError
from hashret.evaluation import evaluate_codes, evaluate_reranked, paired_test, reorder
from hashret.kernels import hamming


def test_candidates_go_by_score_and_then_by_their_place():
    rows = [[5, 3, 9, 1], [7, 2, -1, -1], [-1, -1, -1, -1]]
    scores = [[0.5, 2.0, 0.5, -1.0], [-3.0, -2.0, 9.0, np.nan], [0.0, 0.0, 0.0, 0.0]]
    assert reorder(rows, scores).tolist() == [[3, 5, 9, 1], [2, 7, -1, -1], [-1, -1, -1, -1]]
    assert reorder([[4, 2]], [[-np.inf, np.inf]]).tolist() == [[2, 4]]
    for dtype in (np.uint8, np.bool_):
        assert reorder([[10, 11, 12]], np.array([[0, 5, 0]], dtype)).tolist() == [[11, 10, 12]]
    assert reorder(np.zeros((0, 3), np.int64), np.zeros((0, 3))).shape == (0, 3)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_figures_are_those_of_the_whole_lists(seed, k):
    """Build every query's whole order by sorting, swap in the re-ranked head, look for the first correct item."""
    rng = np.random.default_rng(seed)
    n_images, n_bits = int(rng.integers(1, 7)), 5  # short codes: many ties
    owner = np.sort(np.concatenate([np.arange(n_images), rng.integers(0, n_images, 6)]))
    images, texts = (pack(rng.normal(size=(n, n_bits))) for n in (n_images, len(owner)))
    distances = hamming(images, texts)
    scores = rng.integers(0, 4, distances.shape).astype(float)
    before = evaluate_codes(images, texts, owner, n_bits=n_bits, ties="stable")
    heads, ranks = {}, {}
    sides = {"i2t": (distances, scores, owner == np.arange(n_images)[:, None])}
    sides["t2i"] = (distances.T, scores.T, sides["i2t"][2].T)
    for way, (near, points, correct) in sides.items():
        order = np.argsort(near, axis=1, kind="stable")
        head = order[:, :k]
        heads[way] = reorder(head, np.take_along_axis(points, head, axis=1))
        ranks[way] = []
        for query in range(len(near)):
            best = sorted(range(head.shape[1]), key=lambda at: (-points[query, head[query, at]], at))
            whole = [head[query, at] for at in best] + list(order[query, k:])
            ranks[way].append(next(place for place, row in enumerate(whole, 1) if correct[query, row]))
    after = evaluate_reranked(before, captions=heads["i2t"], pictures=heads["t2i"], owner=owner)
    for way in ("i2t", "t2i"):
        direction, expected = getattr(after, way), np.array(ranks[way])
        np.testing.assert_array_equal(direction.per_query["rank"], expected)
        assert direction.r1 == pytest.approx(100 * (expected <= 1).mean())
        assert direction.r5 == pytest.approx(100 * (expected <= 5).mean())
        assert direction.med_r == np.median(expected)
        paired_test(direction.per_query["R@5"], getattr(before, way).per_query["R@5"], resamples=10)
    assert after.chance == before.chance and after.n_bits == n_bits and after.ties == "stable"


def test_lists_in_their_old_order_change_nothing():
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(20), 3)
    images, texts = pack(rng.normal(size=(20, 16))), pack(rng.normal(size=(60, 16)))
    before = evaluate_codes(images, texts, owner, n_bits=16, ties="stable")
    order = hamming(images, texts).argsort(axis=1, kind="stable")[:, :7]
    other = hamming(texts, images).argsort(axis=1, kind="stable")[:, :7]
    after = evaluate_reranked(before, captions=order, pictures=other, owner=owner)
    assert after.to_dict() == before.to_dict()


def test_what_cannot_be_compared_is_refused():
    owner = np.arange(4)
    codes = pack(np.eye(4) - 0.5)
    before = evaluate_codes(codes, codes, owner, n_bits=4, ties="stable")
    lists = np.arange(4)[:, None]
    with pytest.raises(InputError, match="stable"):
        evaluate_reranked(evaluate_codes(codes, codes, owner, n_bits=4), captions=lists, pictures=lists, owner=owner)
    with pytest.raises(DataError, match="4 captions"):
        evaluate_reranked(before, captions=lists, pictures=lists[:3], owner=owner)
    with pytest.raises(DataError, match="NaN"):
        reorder([[1]], [[np.nan]])
    with pytest.raises(DataError, match="shape"):
        reorder([[1]], [[1.0, 2.0]])
