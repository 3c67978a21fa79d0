"""Joint semantics against its formula."""

from __future__ import annotations

import pytest
import torch

from hashret.errors import ConfigError
from hashret.losses import Dims, build_loss


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=1, keepdim=True)


def test_codes_follow_the_similarity_of_both_features(batch, logits):
    """The pooled features of these batches are their logits."""
    image, text = logits
    options = {"image_share": 0.7, "second_order": 0.4, "scale": 1.5, "inside": 0.1, "lengths": [4]}
    loss = build_loss("joint_semantics", options, dims=Dims(8))
    mixed = 0.7 * unit(image) @ unit(image).T + 0.3 * unit(text) @ unit(text).T
    target = (1.5 * (0.6 * mixed + 0.4 * mixed @ mixed.T / 5)).detach()
    f, g = unit(torch.tanh(image)[:, :4]), unit(torch.tanh(text)[:, :4])
    parts = [((a @ b.T - target) ** 2).mean() for a, b in ((f, g), (f, f), (g, g))]
    value = loss(batch(image, text))
    assert value.item() == pytest.approx((parts[0] + 0.1 * parts[1] + 0.1 * parts[2]).item(), rel=1e-5)
    value.backward()
    assert image.grad.abs().sum() > 0


def test_shares_are_checked():
    with pytest.raises(ConfigError, match="shares from 0 to 1"):
        build_loss("joint_semantics", {"image_share": 2.0}, dims=Dims(8))
