"""Captions against other captions: the losses of image-text pairs, on other vectors."""

from __future__ import annotations

import math

import pytest
import torch

from hashret.errors import ConfigError, TrainingError
from hashret.losses import BatchOutputs, Dims, build_loss
from hashret.model import TowerOutput

DIMS = Dims(8, (4, 8))


def captions(first: torch.Tensor, second: torch.Tensor, **fields: object) -> BatchOutputs:
    """A batch whose images say nothing."""
    image, text, other = (TowerOutput(logits=x, pooled=x) for x in (torch.zeros_like(first), first, second))
    return BatchOutputs(image, text, **{"group": torch.arange(len(first)), **fields}, second=other)


def cosines(first: torch.Tensor, second: torch.Tensor, n_bits: int) -> list[list[float]]:
    """The first relaxed, the second as codes."""
    return (torch.tanh(first[:, :n_bits]) @ torch.where(second[:, :n_bits] > 0, 1.0, -1.0).double().T / n_bits).tolist()


@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4], [0, 1, 0, 3, 3]])
@pytest.mark.parametrize("form", ["triplet", "infonce"])
def test_the_loss_of_every_pair_of_captions(logits, form, group):
    first, second = [1.0, 1.0, 1.0, 0.0, 1.0], [1.0, 0.5, 1.0, 0.25, 0.75]  # both captions have to be believed
    target = [a * b for a, b in zip(first, second)]
    options = {"between": ["relaxed", "code"], "margin": 0.4, "negatives": "sum", "temperature": 0.3}
    loss = build_loss("text_text", {**options, "form": form, "softening": "linear"}, dims=DIMS)
    expected = 0.0
    for n_bits in (4, 8):
        s = cosines(*(x.detach() for x in logits), n_bits)
        for i in range(5):
            for row in (s[i], [s[j][i] for j in range(5)]):
                others = [j for j in range(5) if group[j] != group[i]]
                if form == "triplet":
                    cost = sum(max(0.0, 0.4 * target[i] - row[i] + row[j]) for j in others)
                else:
                    z = sum(math.exp(row[j] / 0.3) for j in [i, *others])
                    p = {j: math.exp(row[j] / 0.3) / z for j in [i, *others]}
                    own = -sum(q * math.log(q) for q in p.values())
                    cost = 0.5 * (-target[i] * math.log(p[i]) + (1 - target[i]) * own)
                expected += 0.5 * cost / 5
    fields = {"target": torch.tensor(first).double(), "second_target": torch.tensor(second).double()}
    value = loss(captions(*logits, group=torch.tensor(group), **fields))
    assert value.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("options", [{"margin": 0.37}, {"form": "infonce", "between": ["float", "float"]}])
def test_the_order_of_rows_says_nothing(logits, options):
    loss = build_loss("text_text", options, dims=DIMS)
    order = torch.tensor([3, 0, 4, 1, 2])
    assert loss(captions(*(x[order] for x in logits))).item() == pytest.approx(loss(captions(*logits)).item())


def test_what_it_needs_is_said(batch, logits):
    loss = build_loss("text_text", dims=DIMS)
    assert loss.needs == {"second_caption"}
    with pytest.raises(TrainingError, match="another caption"):
        loss(batch(*logits))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"margin": 0}, "margin"),
        ({"temperature": -1}, "above 0"),
        ({"form": "triplets"}, "did you mean 'triplet'"),
        ({"between": ["relaxed"]}, "2 entries"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(ConfigError, match=said):
        build_loss("text_text", options, dims=DIMS)
