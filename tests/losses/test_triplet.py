"""Triplet losses against loops over triplets."""

from __future__ import annotations

import pytest
import torch

from hashret.errors import ConfigError
from hashret.losses import Dims, build_loss
from hashret.losses.triplet import hinge, margins

DIMS = Dims(8)


def by_loops(s: torch.Tensor, margin: list[float], group: list[int], negatives: str) -> float:
    total = 0.0
    for matrix in (s.tolist(), s.T.tolist()):
        for i, row in enumerate(matrix):
            others = [j for j in range(len(row)) if group[j] != group[i]]
            costs = {j: max(0.0, margin[i] - row[i] + row[j]) for j in others}
            if negatives == "sum":
                total += sum(costs.values())
            elif negatives == "mean":
                total += sum(costs.values()) / len(costs)
            elif negatives == "hardest":
                total += max(costs.values())
            else:
                semi = [j for j in others if row[j] < row[i]]
                total += costs[max(semi, key=row.__getitem__) if semi else min(others, key=row.__getitem__)]
    return total / len(s)


@pytest.mark.parametrize("negatives", ["sum", "mean", "semi", "hardest"])
@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4], [0, 1, 0, 3, 3]])
@pytest.mark.parametrize("between", [("relaxed", "relaxed"), ("float", "float"), ("code", "code")])
def test_triplet_is_the_mean_over_triplets(batch, logits, negatives, group, between):
    image, text = logits
    views = {
        "relaxed": lambda x: torch.tanh(x) / 8**0.5,
        "float": lambda x: x / x.norm(dim=1, keepdim=True),
        "code": lambda x: torch.where(x > 0, 1.0, -1.0).double() / 8**0.5,
    }
    s = views[between[0]](image.detach()) @ views[between[1]](text.detach()).T
    loss = build_loss("triplet", {"between": list(between), "margin": 0.4, "negatives": negatives}, dims=DIMS)
    value = loss(batch(image, text, group=torch.tensor(group)))
    assert value.item() == pytest.approx(by_loops(s, [0.4] * 5, group, negatives), rel=1e-9)


def test_a_hand_made_case():
    s = torch.tensor([[0.9, 0.8, 0.1], [0.3, 0.5, 0.6], [0.0, 0.0, 1.0]])
    margin = torch.full((3,), 0.2)
    rows = {
        name: hinge(s, margin=margin, excluded=None, negatives=name).tolist() for name in ("sum", "hardest", "semi")
    }
    assert rows["sum"] == pytest.approx([0.1, 0.3, 0.0])
    assert rows["hardest"] == pytest.approx([0.1, 0.3, 0.0])
    assert rows["semi"] == pytest.approx([0.1, 0.0, 0.0])  # in row 1 the harder negative is above the positive


def test_margins_shrink_with_the_belief_in_a_pair(batch, logits):
    target = torch.tensor([1.0, 0.5, 0.0, 1.0, 1.0]).double()
    like = torch.zeros(5, 5).double()
    soft = margins(target, margin=0.2, softening="exponential", like=like)
    assert soft.tolist() == pytest.approx([0.2, 0.2 * (10**0.5 - 1) / 9, 0.0, 0.2, 0.2])
    assert margins(target, margin=0.2, softening="linear", like=like)[1].item() == pytest.approx(0.1)
    image, text = logits
    loss = build_loss("triplet", {"margin": 0.2, "negatives": "sum", "softening": "linear"}, dims=DIMS)
    s = torch.tanh(image.detach()) @ torch.tanh(text.detach()).T / 8
    expected = by_loops(s, (0.2 * target).tolist(), list(range(5)), "sum")
    assert loss(batch(image, text, target=target)).item() == pytest.approx(expected)


def test_a_margin_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="margin"):
        build_loss("triplet", {"margin": 0.0}, dims=DIMS)
