"""Matching: which pairs are judged, and what their logits cost."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from hashret.errors import ConfigError, TrainingError
from hashret.losses import Dims, build_loss

DIMS = Dims(8)


class Matcher:
    """A table of (B, B) match logits that remembers what it was asked."""

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.asked: list[tuple[int, int]] = []

    def __call__(self, images: Tensor, texts: Tensor) -> Tensor:
        self.asked += zip(images.tolist(), texts.tolist())
        return self.table[images, texts]


@pytest.fixture
def table() -> Tensor:
    return torch.randn(5, 5, generator=torch.Generator().manual_seed(5), dtype=torch.float64).requires_grad_()


def hardest(logits: tuple[Tensor, Tensor], group: list[int], space: str) -> list[tuple[int, int]]:
    """The pairs of a temperature near 0, by loops."""
    a, b = (x.detach() if space == "float" else torch.tanh(x.detach()) for x in logits)
    if space == "float":
        a, b = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
    s = (a @ b.T).tolist()
    rows = [i for i in range(5) if any(g != group[i] for g in group)]
    others = {i: [j for j in range(5) if group[j] != group[i]] for i in rows}
    texts = [(i, max(others[i], key=lambda j: s[i][j])) for i in rows]
    images = [(max(others[i], key=lambda j: s[j][i]), i) for i in rows]
    return texts + images


@pytest.mark.parametrize("space", ["relaxed", "float"])
@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4], [0, 1, 0, 1, 1], [0, 0, 0, 0, 0]])
@pytest.mark.parametrize("doubted", [False, True])
def test_each_pair_and_its_two_hardest_negatives(batch, logits, table, space, group, doubted):
    loss = build_loss("matching", {"space": space, "temperature": 1e-6}, dims=DIMS)
    match = Matcher(table)
    target = [1.0, 0.5, 1.0, 0.0, 0.25] if doubted else [1.0] * 5
    fields = {"target": torch.tensor(target).double()} if doubted else {}
    value = loss(batch(*logits, group=torch.tensor(group), match=match, **fields))
    negatives = hardest(logits, group, space)
    assert match.asked == [(i, i) for i in range(5)] + negatives
    cost = 0.0
    for k, (i, j) in enumerate(match.asked):
        p = 1 / (1 + math.exp(-float(table[i, j].detach())))
        label = target[i] if k < 5 else 0.0
        cost -= label * math.log(p) + (1 - label) * math.log(1 - p)
    assert value.item() == pytest.approx(cost / len(match.asked))


def test_negatives_are_drawn_by_their_similarity(batch, logits):
    """2,000 draws of a text for image 0 against softmax(s / τ) over the other groups."""
    loss = build_loss("matching", {"space": "relaxed", "temperature": 0.3}, dims=DIMS)
    match = Matcher(torch.zeros(5, 5))
    torch.manual_seed(0)
    group = torch.tensor([0, 1, 0, 3, 4])
    for _ in range(2000):
        loss(batch(*logits, group=group, match=match))
    drawn = Counter(texts for k, (_, texts) in enumerate(match.asked) if k % 15 == 5)
    s = torch.tanh(logits[0][0]) @ torch.tanh(logits[1]).T / 8
    chances = (s.detach()[[1, 3, 4]] / 0.3).softmax(0).tolist()
    assert set(drawn) == {1, 3, 4}
    assert [drawn[j] / 2000 for j in (1, 3, 4)] == pytest.approx(chances, abs=0.04)


def test_the_gradient_reaches_the_matcher_alone(batch, logits, table):
    loss = build_loss("matching", {"temperature": 1e-6, "space": "float"}, dims=DIMS)
    assert torch.autograd.gradcheck(lambda t: loss(batch(*logits, match=Matcher(t))), (table,))
    value = loss(batch(*logits, match=Matcher(table)))
    assert torch.autograd.grad(value, logits, allow_unused=True) == (None, None)


def test_the_order_of_rows_says_nothing(batch, logits, table):
    loss = build_loss("matching", {"temperature": 1e-6, "space": "float"}, dims=DIMS)
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = loss(batch(*(x[order] for x in logits), match=Matcher(table[order][:, order])))
    assert moved.item() == pytest.approx(loss(batch(*logits, match=Matcher(table))).item())


def test_what_it_needs_is_said(batch, logits):
    loss = build_loss("matching", dims=DIMS)
    assert loss.needs == {"matcher"}
    with pytest.raises(TrainingError, match="re-ranker"):
        loss(batch(*logits))
    with pytest.raises(ConfigError, match="above 0"):
        build_loss("matching", {"temperature": 0}, dims=DIMS)
