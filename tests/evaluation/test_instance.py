"""Instance retrieval against all permutations of small cases, against sorting, and at its edges."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashret.codes import pack, prefix
from hashret.errors import CodeError, DataError, InputError
from hashret.evaluation import chance, evaluate_asymmetric, evaluate_codes, evaluate_floats, evaluate_folds
from hashret.kernels import hamming


def _orders(distances: np.ndarray) -> list[tuple[int, ...]]:
    """Every ranking that ties allow."""
    groups = [np.flatnonzero(distances == level).tolist() for level in np.unique(distances)]
    return [sum(parts, ()) for parts in itertools.product(*(list(itertools.permutations(group)) for group in groups))]


def _by_hand(distances: np.ndarray, relevant: np.ndarray) -> list[tuple[float, float, float, int]]:
    """R@1, R@5, R@10 and the best rank, of each order."""
    figures = []
    for order in _orders(distances):
        rank = 1 + min(place for place, row in enumerate(order) if relevant[row])
        figures.append((float(rank <= 1), float(rank <= 5), float(rank <= 10), rank))
    return figures


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_ties_are_averaged_over_every_order(data: st.DataObject) -> None:
    n_images, n_texts = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    seed = data.draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    images, texts = rng.random((n_images, 2)) > 0.5, rng.random((n_texts, 2)) > 0.5
    owner = rng.integers(0, n_images, n_texts)
    distances = hamming(pack(images), pack(texts))
    results = {
        ties: evaluate_codes(pack(images), pack(texts), owner, n_bits=2, ties=ties)
        for ties in ("expected", "optimistic", "pessimistic", "stable")
    }
    names = ("R@1", "R@5", "R@10", "rank")
    for way, matrix, right in (
        ("i2t", distances, owner == np.arange(n_images)[:, None]),
        ("t2i", distances.T, owner[:, None] == np.arange(n_images)),
    ):
        for query, (row, relevant) in enumerate(zip(matrix, right)):
            values = {t: [getattr(r, way).per_query[n][query] for n in names] for t, r in results.items()}
            if not relevant.any():
                assert all(v[:3] == [0, 0, 0] and np.isnan(v[3]) for v in values.values())
                continue
            figures = _by_hand(row, relevant)
            np.testing.assert_allclose(values["expected"], np.mean(figures, axis=0), atol=1e-12)
            ranks = [figure[3] for figure in figures]
            assert values["optimistic"][3] == min(ranks)
            assert values["pessimistic"][3] == max(ranks)
            assert values["stable"] == list(_by_hand(row + np.arange(len(row)) / 100, relevant)[0])


def _pairs(n_images: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    owner = np.sort(rng.integers(0, n_images, 4 * n_images))
    images = rng.normal(size=(n_images, 64))
    return images, images[owner] + 1.5 * rng.normal(size=(len(owner), 64)), owner


def test_a_picture_without_captions_is_a_miss_that_is_counted() -> None:
    codes = pack(np.eye(3, 16) > 0)
    result = evaluate_codes(codes, codes[:2], [0, 1], n_bits=16)
    assert (result.i2t.n_queries, result.i2t.n_without) == (3, 1)
    assert result.i2t.r10 == pytest.approx(200 / 3)
    assert result.i2t.mean_r == 1
    assert result.t2i.n_without == 0
    floats = evaluate_floats(np.eye(3), np.eye(3)[:2], [0, 1])
    assert (floats.i2t, floats.t2i) == (result.i2t, result.t2i)


def test_prefixes_are_the_figures_of_the_shorter_codes() -> None:
    images, texts, owner = _pairs()
    a, b = pack(images), pack(texts)
    result = evaluate_codes(a, b, owner, n_bits=64, code_lengths=[12, 32, 64])
    assert evaluate_codes(a, b, owner, n_bits=64, code_lengths=np.array([12, 32, 64])).to_dict() == result.to_dict()
    assert list(result.by_length) == [12, 32, 64]
    assert result.by_length[64].to_dict() == evaluate_codes(a, b, owner, n_bits=64).to_dict()
    short = evaluate_codes(prefix(a, n_bits=12), prefix(b, n_bits=12), owner, n_bits=12)
    assert result.by_length[12] == short
    assert result.by_length[12].r_sum < result.by_length[32].r_sum < result.r_sum
    assert json.loads(json.dumps(result.to_dict()))["by_length"]["32"]["rSum"] == result.by_length[32].r_sum


def test_floats_agree_with_sorting() -> None:
    images, texts, owner = _pairs()
    result = evaluate_floats(images, texts, owner)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts)]
    order = np.argsort(-unit[1] @ unit[0].T, axis=1)
    ranks = 1 + np.argmax(order == owner[:, None], axis=1)
    assert result.t2i.per_query["rank"].tolist() == ranks.tolist()
    assert result.t2i.r5 == pytest.approx(100 * (ranks <= 5).mean())
    assert result.t2i.med_r == np.median(ranks)


@pytest.mark.parametrize("evaluate", ["codes", "floats"])
def test_a_collapsed_model_scores_chance(evaluate: str) -> None:
    owner = np.repeat(np.arange(30), [1, 2, 3] * 10)
    if evaluate == "codes":
        result = evaluate_codes(np.zeros((30, 8), np.uint8), np.zeros((60, 8), np.uint8), owner, n_bits=64)
    else:
        result = evaluate_floats(np.ones((30, 5)), np.ones((60, 5)), owner)
    assert result.r_sum == pytest.approx(result.chance_r_sum)
    assert result.i2t.mean_r == pytest.approx(result.chance["i2t"]["MeanR"])
    assert result.t2i.r1 == pytest.approx(100 / 30)


@pytest.mark.parametrize("ties", ["expected", "optimistic", "pessimistic", "stable"])
def test_within_any_number_of_items(ties: str) -> None:
    images, texts, owner = _pairs()
    result = evaluate_codes(pack(images)[:, :1], pack(texts)[:, :1], owner, n_bits=8, ties=ties)  # type: ignore[arg-type]
    for direction in (result.i2t, result.t2i):
        recalls = [direction.within(k) for k in (1, 5, 10)]
        assert recalls == pytest.approx([direction.r1, direction.r5, direction.r10])
        assert direction.within(direction.n_items) == pytest.approx(
            100 * (1 - direction.n_without / direction.n_queries)
        )
    collapsed = evaluate_codes(np.zeros((30, 1), np.uint8), np.zeros((30, 1), np.uint8), np.arange(30), n_bits=8)
    assert [collapsed.i2t.within(k) for k in range(31)] == pytest.approx([100 * k / 30 for k in range(31)])


def test_chance_is_exact_for_uneven_captions() -> None:
    figures = chance([0, 0, 0, 1], 2)
    assert figures["i2t"]["R@1"] == pytest.approx(100 * (3 / 4 + 1 / 4) / 2)
    assert figures["t2i"]["R@5"] == 100
    assert figures["i2t"]["MeanR"] == pytest.approx((5 / 4 + 5 / 2) / 2)


def test_an_asymmetric_query_of_signs_is_the_hamming_order() -> None:
    images, texts, owner = _pairs()
    a, b = pack(images), pack(texts)
    signs = [np.sign(x) for x in (images, texts)]
    asymmetric = evaluate_asymmetric(*signs, a, b, owner, n_bits=64)
    assert asymmetric.r_sum == pytest.approx(evaluate_codes(a, b, owner, n_bits=64).r_sum)
    finer = evaluate_asymmetric(np.tanh(images), np.tanh(texts), a, b, owner, n_bits=64)
    assert finer.r_sum > asymmetric.r_sum


def test_blocks_do_not_change_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    images, texts, owner = _pairs()
    whole = [evaluate_floats(images, texts, owner), evaluate_codes(pack(images), pack(texts), owner, n_bits=64)]
    monkeypatch.setattr("hashret.evaluation.instance.BLOCK_CELLS", 1000)
    parts = [evaluate_floats(images, texts, owner), evaluate_codes(pack(images), pack(texts), owner, n_bits=64)]
    assert parts == whole


def test_folds_are_consecutive_blocks_of_pictures() -> None:
    images, texts, owner = _pairs()
    result = evaluate_folds(evaluate_floats, images, texts, owner, fold_images=20)
    parts = []
    for start in (0, 20, 40):
        mine = (owner >= start) & (owner < start + 20)
        parts.append(evaluate_floats(images[start : start + 20], texts[mine], owner[mine] - start))
    assert result.r_sum == pytest.approx(np.mean([part.r_sum for part in parts]))
    assert result.t2i.n_queries == len(owner)
    assert result.i2t.n_items == round(len(owner) / 3) and result.t2i.n_items == 20
    with pytest.raises(DataError, match="folds of 25"):
        evaluate_folds(evaluate_floats, images, texts, owner, fold_images=25)


def test_bad_input_is_refused_with_a_sentence() -> None:
    codes = np.zeros((3, 2), np.uint8)
    with pytest.raises(InputError, match="did you mean 'optimistic'"):
        evaluate_codes(codes, codes, [0, 1, 2], n_bits=16, ties="optimist")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="rows from 0 to 3"):
        evaluate_codes(codes, codes, [0, 1, 3], n_bits=16)
    with pytest.raises(DataError, match="shape"):
        evaluate_codes(codes, codes, [0, 1], n_bits=16)
    with pytest.raises(CodeError, match="32 bits cannot be cut"):
        evaluate_codes(codes, codes, [0, 1, 2], n_bits=16, code_lengths=[32])
    with pytest.raises(DataError, match="NaN or infinity in row 0 of image features"):
        evaluate_floats([[np.nan]], [[1.0]], [0])
    for scale in (1e-20, 1e20):  # only directions count
        assert evaluate_floats([[scale, 0], [0, scale]], [[scale, 0], [0, scale]], [0, 1]).r_sum == 600
    few, relaxed = np.ones((2, 16)), np.ones((3, 16))
    with pytest.raises(DataError, match="2 relaxed image codes and 3 stored ones"):
        evaluate_asymmetric(few, relaxed, codes, codes, [0, 1, 2], n_bits=16)
    with pytest.raises(DataError, match="2 relaxed text codes and 3 stored ones"):
        evaluate_asymmetric(relaxed, few, codes, codes, [0, 1, 2], n_bits=16)
    for owner in ([-1, 0], [5, 0], [0.9, 1.2]):
        with pytest.raises(DataError, match="owner"):
            chance(owner, 2)
    with pytest.raises(DataError, match="one space"):
        evaluate_floats([[1.0, 2.0]], [[1.0]], [0])
