"""Bits that are chosen together: no single one can be turned for the better, prefixes stay, an item stands alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashret.rounding import Rounding, coupling_of, learn_coupling

WIDTH = 12


def _world(seed: int, *, n: int = 40, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """A coupling of correlated bits, and relaxed codes."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(width // 3, width))
    train, items = (np.tanh(rng.normal(size=(n, width // 3)) @ mixing).astype(np.float32) for _ in range(2))
    return coupling_of([train], weight=0.6), items


def _error(bits: np.ndarray, relaxed: np.ndarray, coupling: np.ndarray, size: float) -> np.ndarray:
    """(N,) of (b - u)ᵀ C (b - u), in float64."""
    scaled = relaxed.astype(np.float64)
    difference = np.where(bits, 1.0, -1.0) - size * scaled / np.sqrt(np.square(scaled).mean(axis=1, keepdims=True))
    return np.einsum("nd,de,ne->n", difference, coupling.astype(np.float64), difference)


def test_the_coupling_is_the_mean_of_products_of_signs():
    images = np.array([[0.5, -0.1, 0.0], [0.2, 0.3, 0.9]], np.float32)  # +--, +++ (0 is no 1)
    texts = np.array([[-0.5, 0.1, 0.3]], np.float32)  # -++
    expected = np.array([[1, -1 / 3, -1 / 3], [-1 / 3, 1, 1], [-1 / 3, 1, 1]])
    np.testing.assert_allclose(coupling_of([images, texts], weight=1), expected, rtol=1e-6)
    half = 0.5 * expected + 0.5 * np.eye(3)
    np.testing.assert_allclose(coupling_of([images, texts], weight=0.5), half, rtol=1e-6)


@pytest.mark.parametrize(("rank", "helps"), [(2, False), (24, True)])
def test_signs_stay_where_they_serve_better(rank, helps):
    rng = np.random.default_rng(0)
    mixing, hidden = rng.normal(size=(rank, 64)), rng.normal(size=(400, rank))
    images = np.tanh(0.3 * hidden @ mixing / rank**0.5).astype(np.float32)
    options = {"weight": 0.3, "size": 0.75, "code_lengths": (64,)}
    coupling = learn_coupling(images, images[::2], **options)
    expected = coupling_of((images, images[::2]), weight=0.3) if helps else np.eye(64)
    np.testing.assert_array_equal(coupling, expected)


def test_codes_that_never_change_teach_nothing():
    images, texts = np.ones((5, 8), np.float32), -np.ones((3, 8), np.float32)
    coupling = learn_coupling(images, texts, weight=0.3, size=0.75, code_lengths=(8,))
    np.testing.assert_array_equal(coupling, np.eye(8))


@given(seed=st.integers(0, 10_000), size=st.floats(0.1, 2))
@settings(max_examples=40, deadline=None)
def test_no_single_bit_can_be_turned_for_the_better(seed, size):
    coupling, relaxed = _world(seed)
    bits = Rounding(coupling, size, (WIDTH,)).apply(relaxed) > 0
    error = _error(bits, relaxed, coupling, size)
    assert (error <= _error(relaxed > 0, relaxed, coupling, size) + 1e-3).all()
    for bit in range(WIDTH):
        turned = bits.copy()
        turned[:, bit] ^= True
        assert (error <= _error(turned, relaxed, coupling, size) + 1e-3).all()


def test_it_comes_near_the_best_of_all_codes():
    coupling, relaxed = _world(3, n=30)
    every = np.array(list(itertools.product([False, True], repeat=WIDTH)))
    best = np.array([_error(every, np.repeat(row[None], len(every), 0), coupling, 0.75).min() for row in relaxed])
    signs = _error(relaxed > 0, relaxed, coupling, 0.75)
    found = _error(Rounding(coupling, 0.75, (WIDTH,)).apply(relaxed) > 0, relaxed, coupling, 0.75)
    assert (best <= found + 1e-3).all()
    assert (found - best).sum() < 0.3 * (signs - best).sum()


@given(seed=st.integers(0, 10_000), lengths=st.sets(st.integers(1, WIDTH - 1), max_size=4))
@settings(max_examples=30, deadline=None)
def test_prefixes_stay_as_they_are_and_items_stand_alone(seed, lengths):
    coupling, relaxed = _world(seed)
    rounding = Rounding(coupling, 0.75, (*sorted(lengths), WIDTH))
    whole = rounding.apply(relaxed)
    for n_bits in range(1, WIDTH + 1):
        np.testing.assert_array_equal(rounding.apply(relaxed, n_bits=n_bits), whole[:, :n_bits])
    for length in lengths:  # of a model that ends there
        shorter = Rounding(coupling[:length, :length], 0.75, (*sorted(n for n in lengths if n < length), length))
        np.testing.assert_array_equal(shorter.apply(relaxed[:, :length]), whole[:, :length])
    alone = np.concatenate([rounding.apply(relaxed[row : row + 1]) for row in range(len(relaxed))])
    np.testing.assert_array_equal(alone > 0, whole > 0)


def test_only_turned_bits_change_and_nothing_is_written_over():
    coupling, relaxed = _world(0, n=300)
    before = relaxed.copy()
    rounded = Rounding(coupling, 0.75, (WIDTH,)).apply(relaxed)
    np.testing.assert_array_equal(relaxed, before)
    turned = (rounded > 0) != (relaxed > 0)
    assert 0 < turned.mean() < 0.5
    np.testing.assert_array_equal(rounded[~turned], relaxed[~turned])
    assert set(np.abs(rounded[turned])) == {np.float32(0.01)}


@pytest.mark.parametrize("values", [np.zeros((2, WIDTH)), np.full((2, WIDTH), np.nan), np.empty((0, WIDTH))])
def test_values_that_say_nothing_end_all_the_same(values):
    coupling, _ = _world(1)
    assert Rounding(coupling, 0.75, (WIDTH,)).apply(values.astype(np.float32)).shape == values.shape


def test_without_anything_learned_bits_are_signs():
    _, relaxed = _world(2)
    for size in (0.1, 0.75, 3):
        rounding = Rounding(np.eye(WIDTH, dtype=np.float32), size, (4, WIDTH))
        np.testing.assert_array_equal(rounding.apply(relaxed), relaxed)
