"""Tie-aware measures against brute force over all permutations, a published toy, and other implementations."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashret.codes import pack
from hashret.errors import CodeError, DataError, InputError
from hashret.evaluation import evaluate_labels, evaluate_labels_floats, parse, reproduce
from hashret.kernels import hamming

Definition = Callable[[Sequence[int], int], float]


def _ap(levels: Sequence[int], cut: int, norm: str) -> float:
    precisions = [sum(x > 0 for x in levels[: k + 1]) / (k + 1) for k in range(len(levels))]
    hits = [precision for k, (x, precision) in enumerate(zip(levels, precisions)) if x and k < cut]
    relevant = sum(x > 0 for x in levels)
    if norm == "first":
        wanted = min(relevant, cut)
        hits = [precision for x, precision in zip(levels, precisions) if x][:wanted]
        return sum(hits) / wanted if wanted else 0.0
    divisor = {"all": relevant, "min": min(relevant, cut), "found": len(hits)}[norm]
    return sum(hits) / divisor if divisor else 0.0


def _ndcg(levels: Sequence[int], cut: int, gain: Callable[[int], float]) -> float:
    def dcg(order: Sequence[int]) -> float:
        return sum(gain(x) / math.log2(2 + k) for k, x in enumerate(order[:cut]))

    ideal = dcg(sorted(levels, reverse=True))
    return dcg(levels) / ideal if ideal else 0.0


def _rank(levels: Sequence[int]) -> float:
    return 1 + next((k for k, x in enumerate(levels) if x), math.nan)


def _definition(name: str, cut: int) -> Definition:
    if name.startswith("AP"):
        return lambda levels, c: _ap(levels, c, parse(name).parameters[0][1])
    return {
        f"NDCG@{cut}": lambda levels, c: _ndcg(levels, c, lambda x: 2**x - 1),
        f"NDCG(gain=linear)@{cut}": lambda levels, c: _ndcg(levels, c, float),
        f"P@{cut}": lambda levels, c: sum(x > 0 for x in levels[:c]) / c,
        f"R@{cut}": lambda levels, c: float(any(levels[:c])),
        "MeanR": lambda levels, c: _rank(levels),
    }[name]


def _names(cut: int) -> list[str]:
    return [
        *(f"AP(norm={norm})@{cut}" for norm in ("all", "min", "found", "first")),
        f"NDCG@{cut}",
        f"NDCG(gain=linear)@{cut}",
        f"P@{cut}",
        f"R@{cut}",
        "MeanR",
    ]


def _orders(distances: np.ndarray) -> list[list[int]]:
    groups = [np.flatnonzero(distances == level).tolist() for level in np.unique(distances)]
    return [
        list(itertools.chain(*parts))
        for parts in itertools.product(*(itertools.permutations(group) for group in groups))
    ]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**20), n_items=st.integers(1, 7), n_bits=st.integers(1, 3), cut=st.integers(1, 8))
def test_every_measure_is_the_average_over_all_orders_of_ties(seed: int, n_items: int, n_bits: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    queries, items = (pack(rng.random((n, n_bits)) > 0.5) for n in (2, n_items))
    query_labels, item_labels = rng.random((2, 3)) > 0.4, rng.random((n_items, 3)) > 0.6
    names = [*_names(cut), "AP@all", "NDCG@all"]
    results = {
        ties: evaluate_labels(queries, items, query_labels, item_labels, n_bits=n_bits, measures=names, ties=ties)
        for ties in ("expected", "optimistic", "pessimistic", "stable", "reversed")
    }
    distances = hamming(queries, items)
    shared = query_labels.astype(int) @ item_labels.T.astype(int)
    for query in range(2):
        rankings = [shared[query][order].tolist() for order in _orders(distances[query])]
        by_row = shared[query][np.lexsort((np.arange(n_items), distances[query]))].tolist()
        last_first = shared[query][np.lexsort((-np.arange(n_items), distances[query]))].tolist()
        for name in names:
            if name.endswith("@all"):
                definition: Definition = _definition("AP(norm=all)@9" if name[0] == "A" else "NDCG@9", 9)
            else:
                definition = _definition(name, cut)
            values = [definition(levels, 9 if name.endswith("@all") else cut) for levels in rankings]
            got = {ties: result.per_query[name][query] for ties, result in results.items()}
            np.testing.assert_allclose(got["expected"], np.mean(values), atol=1e-9, err_msg=name)
            plain = definition(by_row, 9 if name.endswith("@all") else cut)
            np.testing.assert_allclose(got["stable"], plain, atol=1e-12, err_msg=name)
            turned = definition(last_first, 9 if name.endswith("@all") else cut)
            np.testing.assert_allclose(got["reversed"], turned, atol=1e-12, err_msg=name)
            best, worst = (min, max) if name == "MeanR" else (max, min)
            if "found" not in name:  # more hits within the cut may lower it: not a monotone measure
                np.testing.assert_allclose(got["optimistic"], best(values), atol=1e-9, err_msg=name)
                np.testing.assert_allclose(got["pessimistic"], worst(values), atol=1e-9, err_msg=name)


def test_the_toy_of_dcmh() -> None:
    """Four queries and six items of four bits, as in calc_hammingranking.py of DCMH."""
    queries = np.array([[1, -1, 1, 1], [-1, -1, -1, 1], [1, 1, -1, 1], [1, 1, 1, -1]]) > 0
    items = (
        np.array([[1, -1, 1, -1], [-1, -1, 1, -1], [-1, -1, 1, -1], [1, 1, -1, -1], [-1, 1, -1, -1], [1, 1, -1, 1]]) > 0
    )
    query_labels = np.array([[0, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 1], [0, 1, 0, 1]])
    item_labels = np.array([[1, 0, 0, 1], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]])
    scores = evaluate_labels(
        pack(queries), pack(items), query_labels, item_labels, n_bits=4, measures=["AP@all", "NDCG@all"]
    )
    np.testing.assert_allclose(scores.per_query["AP@all"], [0.5, 0.813542, 0.461111, 0.630556], atol=5e-7)
    assert scores["AP@all"] == pytest.approx(0.601302, abs=5e-7)
    np.testing.assert_allclose(scores.per_query["NDCG@all"], [0.638330, 0.783395, 0.523746, 0.775405], atol=5e-7)


def _sample(n_queries: int = 40, n_items: int = 500, n_bits: int = 16, seed: int = 3) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    query_labels, item_labels = rng.random((n_queries, 6)) > 0.8, rng.random((n_items, 6)) > 0.8
    queries, items = (
        pack(labels @ rng.normal(size=(6, n_bits)) + 0.8 * rng.normal(size=(len(labels), n_bits)))
        for labels in (query_labels, item_labels)
    )
    return queries, items, query_labels, item_labels


def test_trec_eval_agrees_where_the_definitions_meet() -> None:
    ir = pytest.importorskip("ir_measures", reason="ir_measures is not installed")
    pytest.importorskip("pytrec_eval", reason="pytrec_eval is not installed")
    queries, items, query_labels, item_labels = _sample()
    answerable = (query_labels.astype(int) @ item_labels.T.astype(int) > 0).any(axis=1)
    queries, query_labels = queries[answerable], query_labels[answerable]
    distances = hamming(queries, items)
    shared = query_labels.astype(int) @ item_labels.T.astype(int)
    # 500 items at 17 distances: most are tied, and trec_eval takes those by name, descending.
    run = [
        ir.ScoredDoc(str(q), f"d{n:05}", -float(distances[q, n]))
        for q in range(len(queries))
        for n in range(len(items))
    ]
    qrels = [ir.Qrel(str(q), f"d{n:05}", int(shared[q, n])) for q, n in zip(*np.nonzero(shared))]
    pairs = {
        "AP@all": ir.AP,
        "AP(norm=all)@50": ir.AP @ 50,
        "P@20": ir.P @ 20,
        "NDCG(gain=linear)@30": ir.nDCG @ 30,
        "R@5": ir.Success @ 5,
    }
    sample = (queries, items, query_labels, item_labels)
    ours = evaluate_labels(*sample, n_bits=16, measures=[*pairs], ties="reversed")
    theirs = ir.calc_aggregate(list(pairs.values()), qrels, run)
    for name, measure in pairs.items():
        assert ours[name] == pytest.approx(theirs[measure], abs=1e-6), name
    for cut, measure in ((None, ir.AP), (50, ir.AP @ 50)):
        (value,) = evaluate_labels(*sample, n_bits=16, **reproduce("trec", cut=cut)).values.values()
        assert value == pytest.approx(theirs[measure], abs=1e-6)
        by_row = evaluate_labels(*sample, n_bits=16, **{**reproduce("trec", cut=cut), "ties": "stable"})
        assert abs(value - sum(by_row.values.values())) > 1e-4  # so that the order of ties is seen


@pytest.mark.parametrize("cut", [None, 20])
def test_conventions_of_other_code_bases(cut: int | None) -> None:
    queries, items, query_labels, item_labels = _sample()
    query_labels = query_labels.copy()
    query_labels[:5] = False
    shared = query_labels.astype(int) @ item_labels.T.astype(int)
    distances = hamming(queries, items)
    order = np.argsort(distances, axis=1, kind="stable")
    last_first = 499 - np.argsort(distances[:, ::-1], axis=1, kind="stable")
    expected: dict[str, list[float]] = {name: [] for name in ("deephash", "dchmt", "ucch", "trec")}
    for levels in np.take_along_axis(shared, order, axis=1).tolist():
        k = cut or len(levels)
        expected["deephash"].append(_ap(levels, k, "found"))
        expected["dchmt"].append(_ap(levels, k, "first"))
        if any(levels[:k]):
            expected["ucch"].append(_ap(levels, k, "found"))
    for levels in np.take_along_axis(shared, last_first, axis=1).tolist():
        expected["trec"].append(_ap(levels, cut or len(levels), "all"))
    for name, values in expected.items():
        scores = evaluate_labels(queries, items, query_labels, item_labels, n_bits=16, **reproduce(name, cut=cut))
        (value,) = scores.values.values()
        assert value == pytest.approx(np.mean(values)), name
        assert (scores.n_queries, scores.n_without) == (40, (shared.max(axis=1) == 0).sum())
    with pytest.raises(InputError, match="did you mean 'dchmt'"):
        reproduce("dcmht")


def test_queries_without_a_relevant_item_are_counted() -> None:
    codes = pack(np.eye(4) > 0)
    zero = evaluate_labels(codes, codes, [0, 1, 2, 9], [0, 1, 2, 3], n_bits=4, measures=["AP@all", "MeanR"])
    drop = evaluate_labels(
        codes, codes, [0, 1, 2, 9], [0, 1, 2, 3], n_bits=4, measures=["AP@all", "MeanR"], unanswerable="drop"
    )
    assert (zero["AP@all"], drop["AP@all"]) == (0.75, 1.0)
    assert zero["MeanR"] == drop["MeanR"] == 1
    assert zero.n_without == drop.n_without == 1
    assert np.isnan(drop.per_query["AP@all"][3])


def test_blocks_do_not_change_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = _sample()
    names = ["AP@all", "NDCG@10", "AP(norm=found)@7", "P@H<=3", "MedR"]
    for ties in ("expected", "optimistic", "stable", "reversed"):
        whole = evaluate_labels(*sample, n_bits=16, measures=names, ties=ties)
        with monkeypatch.context() as patch:
            patch.setattr("hashret.evaluation.buckets.CELLS", 300)
            patch.setattr("hashret.evaluation.buckets.HISTOGRAM_CELLS", 500)
            parts = evaluate_labels(*sample, n_bits=16, measures=names, ties=ties)
        assert parts.to_dict() == pytest.approx(whole.to_dict())


@pytest.mark.parametrize("graded", [False, True])
def test_memory_does_not_grow_with_queries_times_items(graded: bool) -> None:
    """A matrix of 600 x 20,000 distances alone would take 46 MiB."""
    rng = np.random.default_rng(0)
    queries, items = (rng.integers(0, 256, (n, 8), dtype=np.uint8) for n in (600, 20_000))
    labels = [
        rng.random((len(codes), 8)) > 0.8 if graded else rng.integers(0, 9, len(codes)) for codes in (queries, items)
    ]
    tracemalloc.start()
    try:
        evaluate_labels(queries, items, *labels, n_bits=64, measures=["NDCG@100" if graded else "AP@all", "P@H<=2"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 << 20


def test_ball_measures() -> None:
    items = pack(np.array([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]) > 0)
    queries = pack(np.array([[0, 0, 0, 0], [0, 1, 1, 1]]) > 0)
    names = ["P@H<=0", "P@H<=1", "Empty@H<=0", "P@H<=9"]
    scores = evaluate_labels(queries, items, [0, 0], [0, 1, 0, 0], n_bits=4, measures=names)
    assert scores.per_query["P@H<=0"].tolist() == [1, 0]
    assert scores.per_query["P@H<=1"].tolist() == [0.5, 1]
    assert scores["Empty@H<=0"] == 0.5
    assert scores["P@H<=9"] == 0.75


@pytest.mark.parametrize("ties", ["expected", "optimistic", "pessimistic", "stable", "reversed"])
def test_floats_that_are_codes_give_the_figures_of_codes(ties: str) -> None:
    queries, items, query_labels, item_labels = _sample(n_bits=64)
    names = ["AP@all", "AP(norm=found)@50", "NDCG@100", "R@1", "MeanR"]
    signs = [np.unpackbits(codes, axis=1) * 2.0 - 1.0 for codes in (queries, items)]
    floats = evaluate_labels_floats(*signs, query_labels, item_labels, measures=names, ties=ties)  # type: ignore[arg-type]
    codes = evaluate_labels(queries, items, query_labels, item_labels, n_bits=64, measures=names, ties=ties)  # type: ignore[arg-type]
    assert floats.values == pytest.approx(codes.values)
    with pytest.raises(InputError, match="needs Hamming distances"):
        evaluate_labels_floats(*signs, query_labels, item_labels, measures=["P@H<=2"])


def test_one_label_an_item_is_the_same_as_a_matrix_of_them() -> None:
    queries, items, _, _ = _sample()
    rng = np.random.default_rng(0)
    query_labels, item_labels = rng.integers(0, 5, 40), rng.integers(0, 5, 500)
    single = evaluate_labels(queries, items, query_labels, item_labels, n_bits=16)
    matrix = evaluate_labels(queries, items, np.eye(5)[query_labels], np.eye(5)[item_labels], n_bits=16)
    assert single.values == pytest.approx(matrix.values)
    names = np.array(["ant", "bee", "cat", "dog", "eel"])
    assert evaluate_labels(queries, items, names[query_labels], names[item_labels], n_bits=16) == single


def test_bad_input_is_refused_with_a_sentence() -> None:
    codes = np.zeros((2, 2), np.uint8)
    with pytest.raises(DataError, match=r"shapes \(2,\) and \(2, 2\)"):
        evaluate_labels(codes, codes, [0, 1], [[0, 1], [1, 0]], n_bits=16)
    with pytest.raises(DataError, match="other values than 0 and 1"):
        evaluate_labels(codes, codes, [[0, 1], [2, 0]], [[0, 1], [1, 0]], n_bits=16)
    for labels, said in (
        ([[1], [2, 3]], "lists of several lengths"), (["a", None], "NoneType, str"), ([0.0, np.nan], "NaN"),
        ([1 + 2j, 0], "are complex, int"), (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\)"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=said):
            evaluate_labels(codes, codes, labels, labels, n_bits=16)
    with pytest.raises(DataError, match="queries are numbers and those of items words"):
        evaluate_labels(codes, codes, [0, 1], ["a", "b"], n_bits=16)
    with pytest.raises(DataError, match="labels of 3 queries"):
        evaluate_labels(codes, codes, [0, 1, 2], [0, 1], n_bits=16)
    with pytest.raises(DataError, match="nothing to measure"):
        evaluate_labels(codes, codes[:0], [0, 1], np.zeros(0, int), n_bits=16)
    with pytest.raises(CodeError):
        evaluate_labels(codes, codes, [0, 1], [0, 1], n_bits=32)
    with pytest.raises(InputError, match="'skip'"):
        evaluate_labels(codes, codes, [0, 1], [0, 1], n_bits=16, unanswerable="skip")  # type: ignore[arg-type]


def test_float_ties_are_cut_where_they_would_pass_from_item_to_item() -> None:
    angles = np.linspace(0.3, 0.31, 4000)  # neighbours lie closer than the tolerance, the ends far beyond it
    items = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    labels = np.arange(4000) % 7
    exact = evaluate_labels_floats([[1.0, 0.0]], items, [3], labels, ties="stable")["AP@all"]
    for ties in ("expected", "optimistic", "pessimistic"):
        found = evaluate_labels_floats([[1.0, 0.0]], items, [3], labels, ties=ties)["AP@all"]  # type: ignore[arg-type]
        assert found == pytest.approx(exact, abs=0.005)


def test_equal_floats_come_by_row_whatever_the_noise_of_their_cosines() -> None:
    rng = np.random.default_rng(0)
    direction = rng.normal(size=64)
    items = direction * np.array([3.0, 1.7, 0.9, 11.0, 5.3])[:, None]  # one direction, rounded differently
    for row in range(5):
        found = evaluate_labels_floats(
            direction[None], items, [1], (np.arange(5) == row).astype(int), measures=("MeanR",), ties="stable"
        )
        assert found["MeanR"] == row + 1
        found = evaluate_labels_floats(
            direction[None], items, [1], (np.arange(5) == row).astype(int), measures=("MeanR",), ties="reversed"
        )
        assert found["MeanR"] == 5 - row
