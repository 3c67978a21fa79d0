"""Contrast against momentum keys, against loops over keys."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hashret.errors import ConfigError, TrainingError
from hashret.losses import Dims, Keys, build_loss
from hashret.model import TowerOutput

DIMS = Dims(8, (4, 8))


def make_keys(queued: int, *, group: list[int] | None = None) -> Keys:
    generator = torch.Generator().manual_seed(7)
    parts = [torch.randn(n, 8, generator=generator, dtype=torch.float64) for n in (5, 5, queued, queued)]
    rows = torch.tensor(group if group is not None else range(100, 100 + queued), dtype=torch.int64)
    return Keys(*(TowerOutput(logits=x, pooled=x) for x in parts), group=rows)


def cosines(queries: Tensor, keys: Tensor, space: str, n_bits: int) -> list[list[float]]:
    def vectors(x: Tensor) -> Tensor:
        x = x.detach()[:, :n_bits]
        if space == "float":
            return x / x.norm(dim=1, keepdim=True)
        return (torch.tanh(x) if space == "relaxed" else torch.where(x > 0, 1.0, -1.0).double()) / n_bits**0.5

    return (vectors(queries) @ vectors(keys).T).tolist()


def by_loops(s, twin, *, tau, sure, group, key_group) -> float:
    total = 0.0
    for i, row in enumerate(s):
        allowed = [j for j in range(len(row)) if j == i or key_group[j] != group[i]]
        p = {j: math.exp(row[j] / tau) / sum(math.exp(row[k] / tau) for k in allowed) for j in allowed}
        soft = {j: math.exp(twin[i][j] / tau) / sum(math.exp(twin[i][k] / tau) for k in allowed) for j in allowed}
        y = {j: sure[i] * (j == i) + (1 - sure[i]) * soft[j] for j in allowed}
        total -= sum(y[j] * math.log(p[j]) for j in allowed)
    return total / len(s)


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("space", ["float", "relaxed", "code"])
@pytest.mark.parametrize(
    ("queued", "group", "key_group"),
    [(0, [0, 1, 2, 3, 4], []), (3, [0, 1, 2, 3, 4], [9, 8, 7]), (4, [0, 1, 0, 3, 3], [1, 0, 9, 0])],
)
def test_every_key_counts_once(batch, logits, within, space, queued, group, key_group):
    options = {"within": within, "space": space, "temperature": 0.3, "soft": 0.4, "length_weights": [3, 1]}
    loss = build_loss("momentum_contrast", options, dims=DIMS)
    keys = make_keys(queued, group=key_group)
    target = [1.0, 0.5, 1.0, 0.0, 0.8]
    outputs = batch(
        *logits,
        group=torch.tensor(group),
        keys=keys,
        target=torch.tensor(target, dtype=torch.float64),
    )
    image = torch.cat([keys.image.logits, keys.image_queue.logits])
    text = torch.cat([keys.text.logits, keys.text_queue.logits])
    found = (image, text) if within else (text, image)
    sure = [0.7 * (1.0 if within else t) for t in target]  # three quarters through: a = 0.3
    expected = 0.0
    for n_bits, share in ((4, 0.75), (8, 0.25)):
        for x, twin, k in zip(logits, (keys.image.logits, keys.text.logits), found):
            s, soft = cosines(x, k, space, n_bits), cosines(twin, k, space, n_bits)
            expected += 0.5 * share * by_loops(
                s, soft, tau=0.3, sure=sure, group=group, key_group=group + key_group
            )  # fmt: skip
    assert loss(outputs, progress=0.75).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("within", [False, True])
def test_gradients_are_right_and_stop_at_the_keys(batch, logits, within):
    loss = build_loss("momentum_contrast", {"within": within, "space": "relaxed", "soft": 0.4}, dims=DIMS)
    keys = make_keys(3, group=[1, 7, 8])
    group = torch.tensor([0, 1, 2, 1, 4])
    for tensors in ("image", "text", "image_queue", "text_queue"):
        getattr(keys, tensors).logits.requires_grad_()

    def value(a: Tensor, b: Tensor) -> Tensor:
        return loss(batch(a, b, group=group, keys=keys), progress=0.5)

    assert torch.autograd.gradcheck(value, logits)
    value(*logits).backward()
    assert keys.image.logits.grad is None and keys.text_queue.logits.grad is None


def test_the_order_of_rows_and_of_the_queue_says_nothing(batch, logits):
    loss = build_loss("momentum_contrast", {"soft": 0.4}, dims=DIMS)
    keys, order, queue = make_keys(4, group=[0, 9, 3, 8]), torch.tensor([3, 0, 4, 1, 2]), torch.tensor([2, 0, 3, 1])
    group = torch.arange(5)
    rows = (order, order, queue, queue)
    sides = (keys.image, keys.text, keys.image_queue, keys.text_queue)
    logits_moved = [side.logits[take] for side, take in zip(sides, rows)]
    moved = Keys(*(TowerOutput(logits=x, pooled=x) for x in logits_moved), group=keys.group[queue])
    before = loss(batch(*logits, group=group, keys=keys), progress=1.0)
    after = loss(batch(*(x[order] for x in logits), group=group[order], keys=moved), progress=1.0)
    assert after.item() == pytest.approx(before.item())


def test_a_learnable_temperature_learns(batch, logits):
    loss = build_loss("momentum_contrast", {"learnable": True, "temperature": 0.2}, dims=DIMS)
    loss(batch(*logits, keys=make_keys(2))).backward()
    assert loss.temperature.log.grad.abs() > 0
    with torch.no_grad():
        loss.temperature.log.fill_(-20)
    assert float(loss.temperature().detach()) == pytest.approx(0.001)


def test_what_it_needs_is_said(batch, logits):
    loss = build_loss("momentum_contrast", dims=DIMS)
    assert loss.needs == {"momentum"}
    with pytest.raises(TrainingError, match="momentum twin"):
        loss(batch(*logits))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"soft": 1.5}, "from 0 to 1"),
        ({"temperature": 0}, "above 0"),
        ({"space": "bits"}, "space"),
        ({"inside": True}, "no key 'inside'"),
        ({"lengths": [16]}, "cannot be applied at"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(ConfigError, match=said):
        build_loss("momentum_contrast", options, dims=DIMS)
