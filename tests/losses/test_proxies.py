"""Proxies against their formula."""

from __future__ import annotations

import pytest
import torch

from hashret.errors import ConfigError, TrainingError
from hashret.losses import Dims, build_loss

LABELS = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=1, keepdim=True)


def test_the_hinge_pulls_to_own_proxies_and_keeps_strangers_apart(batch, logits):
    image, text = logits
    options = {"threshold": 0.1, "apart": 0.8, "lengths": [6]}
    loss = build_loss("proxies", options, dims=Dims(8, n_labels=4)).double()
    f, g = unit(torch.tanh(image)[:, :6]), unit(torch.tanh(text)[:, :6])
    p = unit(loss.proxies[:, :6])
    expected = 0.0
    for h in (f, g):
        cosines = h @ p.T
        expected += ((1 - cosines)[LABELS].mean() + (cosines - 0.1).clamp_min(0)[~LABELS].mean()).item()
    for a, b in ((f, f), (g, g), (f, g)):  # rows 0 and 1 alone have several labels each and share none
        expected += 0.8 * (a @ b.T - 0.1).clamp_min(0)[[0, 1], [1, 0]].mean().item()
    value = loss(batch(image, text, labels=LABELS))
    assert value.item() == pytest.approx(expected, rel=1e-6)
    value.backward()
    assert loss.proxies.grad[:, :6].abs().sum() > 0
    assert loss.proxies.grad[:, 6:].abs().sum() == 0


def test_the_softmax_shares_a_row_among_its_labels(batch, logits):
    image, text = logits
    options = {"match": "softmax", "space": "code", "temperature": 0.5}
    loss = build_loss("proxies", options, dims=Dims(8, n_labels=4)).double()
    expected = 0.0
    for side in (image, text):
        code = torch.where(side > 0, 1.0, -1.0).double()
        log_p = torch.log_softmax(unit(code) @ unit(loss.proxies).T / 0.5, dim=1)
        expected -= 0.5 * sum(log_p[i][LABELS[i]].mean().item() for i in range(5)) / 5
    assert loss(batch(image, text, labels=LABELS)).item() == pytest.approx(expected, rel=1e-6)


def test_without_labels_there_are_no_proxies(batch, logits):
    with pytest.raises(ConfigError, match="needs labels"):
        build_loss("proxies", {}, dims=Dims(8))
    with pytest.raises(TrainingError, match="reads labels"):
        build_loss("proxies", {}, dims=Dims(8, n_labels=4))(batch(*logits))
