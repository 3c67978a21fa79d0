"""The pair likelihood against loops over pairs."""

from __future__ import annotations

import math

import pytest
import torch

from hashret.errors import ConfigError, TrainingError
from hashret.losses import Dims, build_loss

DIMS = Dims(8, (4, 8))
LABELS = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
GROUP = [0, 1, 2, 1, 4]


@pytest.mark.parametrize("doubted", [False, True])
@pytest.mark.parametrize("balance", [False, True])
@pytest.mark.parametrize("similar", ["labels", "pairs"])
@pytest.mark.parametrize("scale", [3.0, None])
def test_the_likelihood_of_every_pair(batch, logits, similar, balance, doubted, scale):
    options = {"similar": similar, "balance": balance, "scale": scale, "length_weights": [3, 1]}
    loss = build_loss("pair_likelihood", options, dims=DIMS)
    target = [1.0, 0.5, 1.0, 0.0, 0.25] if doubted else [1.0] * 5
    f, g = (torch.tanh(x.detach()) for x in logits)
    expected = 0.0
    for n_bits, share in ((4, 0.75), (8, 0.25)):
        costs, sizes = [0.0, 0.0], [0.0, 0.0]
        for i in range(5):
            for j in range(5):
                dot = float(f[i, :n_bits] @ g[j, :n_bits])
                theta = dot / 2 if scale is None else scale * dot / n_bits
                alike = GROUP[i] == GROUP[j] or (similar == "labels" and bool((LABELS[i] & LABELS[j]).any()))
                s = target[j] if alike else 0.0
                likely = 1 / (1 + math.exp(-theta))
                for k, (part, p) in enumerate(((s, likely), (1 - s, 1 - likely))):
                    costs[k] -= part * math.log(p)
                    sizes[k] += part
        if balance:
            expected += share * 0.5 * (costs[0] / sizes[0] + costs[1] / sizes[1])
        else:
            expected += share * sum(costs) / sum(sizes)
    fields = {"target": torch.tensor(target).double()} if doubted else {}
    value = loss(batch(*logits, group=torch.tensor(GROUP), labels=LABELS, **fields))
    assert value.item() == pytest.approx(expected, rel=1e-9)


def test_the_order_of_rows_says_nothing(batch, logits):
    loss = build_loss("pair_likelihood", dims=DIMS)
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = loss(batch(*(x[order] for x in logits), labels=LABELS[order]))
    assert moved.item() == pytest.approx(loss(batch(*logits, labels=LABELS)).item())


@pytest.mark.parametrize("balance", [False, True])
def test_long_codes_do_not_overflow(batch, balance):
    """The paper's θ at 2,048 bits is ±1,024, and e^1024 is no float32; a wrong pair costs |θ|."""
    loss = build_loss(
        "pair_likelihood", {"similar": "pairs", "scale": None, "balance": balance, "lengths": [2048]}, dims=Dims(2048)
    )
    image = (torch.full((2, 2048), 50.0) * torch.tensor([[1.0], [-1.0]])).requires_grad_()
    value = loss(batch(image, image.detach().flip(0)))
    assert value.item() == pytest.approx(1024.0)
    value.backward()
    assert torch.isfinite(image.grad).all()


def test_a_batch_of_one_kind_of_pair_is_a_number(batch, logits):
    loss = build_loss("pair_likelihood", dims=DIMS)
    value = loss(batch(*logits, labels=torch.ones(5, 3, dtype=torch.bool)))
    assert torch.isfinite(value) and value > 0


def test_what_it_needs_depends_on_what_is_similar(batch, logits):
    loss = build_loss("pair_likelihood", dims=DIMS)
    assert loss.needs == {"labels"}
    with pytest.raises(TrainingError, match="reads labels"):
        loss(batch(*logits))
    assert not build_loss("pair_likelihood", {"similar": "pairs"}, dims=DIMS).needs


@pytest.mark.parametrize(
    ("options", "said"),
    [({"scale": 0}, "above 0"), ({"similar": "label"}, "did you mean 'labels'"), ({"balance": 2}, "balance")],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(ConfigError, match=said):
        build_loss("pair_likelihood", options, dims=DIMS)
