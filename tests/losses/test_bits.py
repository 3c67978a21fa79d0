"""Penalties on bits against loops over bits."""

from __future__ import annotations

import pytest
import torch

from hashret.losses import Dims, build_loss

DIMS = Dims(8)


def relaxed(x: torch.Tensor) -> list[list[float]]:
    return torch.tanh(x.detach()).tolist()


def test_quantisation_is_the_squared_gap_to_the_sign(batch, logits):
    gaps = [(v - (1 if v > 0 else -1)) ** 2 for x in logits for row in relaxed(x) for v in row]
    value = build_loss("quantisation", dims=DIMS)(batch(*logits))
    assert value.item() == pytest.approx(sum(gaps) / len(gaps))


def test_quantisation_counts_zero_as_minus_one(batch):
    zero = torch.zeros(2, 8)
    assert build_loss("quantisation", dims=DIMS)(batch(zero, zero)).item() == pytest.approx(1.0)


def test_balance_is_the_squared_mean_of_each_bit(batch, logits):
    expected = 0.0
    for x in logits:
        columns = list(zip(*relaxed(x)))
        expected += sum((sum(column) / len(column)) ** 2 for column in columns) / len(columns)
    assert build_loss("balance", dims=DIMS)(batch(*logits)).item() == pytest.approx(expected)


def test_decorrelation_is_the_distance_of_the_gram_matrix_from_identity(batch, logits):
    expected = 0.0
    for x in logits:
        columns = list(zip(*relaxed(x)))
        for i, a in enumerate(columns):
            for j, b in enumerate(columns):
                gram = sum(p * q for p, q in zip(a, b)) / len(a)
                expected += 0.5 * (gram - (i == j)) ** 2 / 64
    assert build_loss("decorrelation", dims=DIMS)(batch(*logits)).item() == pytest.approx(expected)


def test_balanced_uncorrelated_saturated_codes_cost_nothing(batch):
    hadamard = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]]).double() * 50
    for kind in ("quantisation", "balance", "decorrelation"):
        assert build_loss(kind, dims=Dims(2))(batch(hadamard, hadamard)).item() == pytest.approx(0.0, abs=1e-12)
