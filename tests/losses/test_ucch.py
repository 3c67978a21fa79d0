"""The binary memory against its formula: what it is contrasted with, what it keeps, what it ranks."""

from __future__ import annotations

import math

import pytest
import torch

from hashret.errors import ConfigError, TrainingError
from hashret.losses import Dims, build_loss


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=1, keepdim=True)


def make(**options):
    return build_loss("binary_memory", {"memory": 9, **options}, dims=Dims(8)).double()


def test_the_contrast_is_with_signs_of_the_memory(batch, logits, monkeypatch):
    image, text = logits
    loss = make(contrast=1.0, temperature=0.5, negatives=3).eval()
    drawn = torch.tensor([8, 1, 6])
    monkeypatch.setattr(torch, "randint", lambda *args, **kwargs: drawn)
    keys = torch.where(loss.memory > 0, 1.0, -1.0).double() / math.sqrt(8)
    expected = 0.0
    for side in (image, text):
        h = unit(torch.tanh(side))
        for i in range(5):
            logit = [h[i] @ keys[i]] + [h[i] @ keys[n] for n in drawn.tolist() if n != i]
            expected -= torch.log_softmax(torch.stack(logit) / 0.5, 0)[0].detach().item() / 10
    assert loss(batch(image, text)).item() == pytest.approx(expected, rel=1e-6)


def test_far_negatives_are_pushed_less(batch, logits):
    image, text = logits
    loss = make(contrast=0.0, margin=0.3, shift=0.2, softness=0.1)
    s = unit(torch.tanh(image)) @ unit(torch.tanh(text)).T
    expected = 0.0
    for m in (s, s.T):
        for i in range(5):
            row = [m[i, j] if m[i, j] >= m[i, i] - 0.3 else m[i, j] - 0.2 for j in range(5)]
            soft = 0.1 * torch.logsumexp(torch.stack(row) / 0.1, 0)
            expected += max(0.0, (0.3 + soft - m[i, i]).detach().item()) / 10
    value = loss(batch(image, text))
    assert value.item() == pytest.approx(expected, rel=1e-6)
    value.backward()
    assert image.grad.abs().sum() > 0


def test_the_memory_moves_in_training_only(batch, logits):
    image, text = (x.detach() for x in logits)
    loss = make(momentum=0.25)
    before = loss.memory.clone()
    rows = torch.tensor([4, 0, 2, 8, 7])
    loss.eval()(batch(image, text, group=rows))
    assert torch.equal(loss.memory, before)
    loss.train()(batch(image, text, group=rows))
    seen = 0.5 * (torch.tanh(image) + torch.tanh(text))
    torch.testing.assert_close(loss.memory[rows], 0.25 * before[rows] + 0.75 * seen)
    others = [row for row in range(9) if row not in rows.tolist()]
    assert torch.equal(loss.memory[others], before[others])


def test_a_memory_that_does_not_fit_is_refused(batch, logits):
    with pytest.raises(ConfigError, match="number of training images"):
        build_loss("binary_memory", {}, dims=Dims(8))
    with pytest.raises(TrainingError, match="9 rows, and image 9 came by"):
        make()(batch(*logits, group=torch.arange(5, 10)))
