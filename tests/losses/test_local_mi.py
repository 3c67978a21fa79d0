"""Local mutual information against loops over tokens."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hashret.errors import ConfigError, TrainingError
from hashret.losses import BatchOutputs, Dims, build_loss
from hashret.losses.local_mi import spread
from hashret.model import TowerOutput

DIMS = Dims(8, (4, 8), token_widths={"image": 3, "text": 6})
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [0, 1, 0, 1]], dtype=torch.bool)


def local_mi(**options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_loss("local_mi", {"temperature": 0.3, **options}, dims=DIMS).double()


@pytest.fixture
def tokens() -> tuple[Tensor, Tensor]:
    """(5, 7, 3) of images and (5, 4, 6) of texts."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((5, 7, 3), (5, 4, 6))
    image, text = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return image.requires_grad_(), text.requires_grad_()


def outputs_of(logits, tokens, *, group: list[int] | None = None, **fields: object) -> BatchOutputs:
    sides = (
        TowerOutput(logits=logits[0], pooled=logits[0], tokens=tokens[0]),
        TowerOutput(logits=logits[1], pooled=logits[1], tokens=tokens[1], mask=MASK.to(tokens[1].device)),
    )
    return BatchOutputs(*sides, group=torch.tensor(group or [0, 1, 2, 3, 4]), **fields)


@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4], [0, 1, 0, 3, 3]])
@pytest.mark.parametrize("space", ["float", "relaxed", "code"])
def test_each_token_against_the_tokens_of_other_items(logits, tokens, group, space):
    loss = local_mi(space=space, max_tokens=7)
    expected = 0.0
    for name, x, parts, mask in zip(("image", "text"), logits, tokens, (torch.ones(5, 7, dtype=torch.bool), MASK)):
        projected = (parts @ loss.projections[name].weight.T + loss.projections[name].bias).detach()
        for n_bits in (4, 8):
            m = x.detach()[:, :n_bits]
            if space == "float":
                m = m / m.norm(dim=1, keepdim=True)
            else:
                m = (torch.tanh(m) if space == "relaxed" else torch.where(m > 0, 1.0, -1.0).double()) / n_bits**0.5
            local = projected[:, :, :n_bits] / projected[:, :, :n_bits].norm(dim=2, keepdim=True)
            e = (torch.einsum("jnk,ik->jni", local, m) / 0.3).exp().tolist()
            counted = [[n for n in range(mask.shape[1]) if mask[j, n]] for j in range(5)]
            for i in range(5):
                others = sum(e[j][n][i] for j in range(5) if group[j] != group[i] for n in counted[j])
                costs = [-math.log(e[i][n][i] / (e[i][n][i] + others)) for n in counted[i]]
                expected += 0.5 * 0.5 * sum(costs) / len(costs) / 5
    value = loss(outputs_of(logits, tokens, group=group))
    assert value.item() == pytest.approx(expected, rel=1e-9)


def test_tokens_are_taken_evenly_from_those_inside_the_mask():
    tokens = torch.arange(12.0).view(2, 6, 1)
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 0, 0, 1, 0]], dtype=torch.bool)
    chosen, kept = spread(tokens, mask, most=3)
    assert chosen[0, :, 0].tolist() == [0.0, 2.0, 4.0] and kept[0].tolist() == [True] * 3
    assert chosen[1, :2, 0].tolist() == [7.0, 10.0] and kept[1].tolist() == [True, True, False]
    assert spread(tokens, None, most=6)[0] is tokens


def test_what_is_outside_the_mask_and_the_order_of_rows_say_nothing(logits, tokens):
    loss = local_mi()
    image, text = (x.detach() for x in tokens)
    before = loss(outputs_of(logits, (image, text)))
    noisy = torch.where(MASK[:, :, None], text, 1e3)
    assert loss(outputs_of(logits, (image, noisy))).item() == pytest.approx(before.item())
    order = torch.tensor([3, 0, 4, 1, 2])
    sides = (
        TowerOutput(logits=logits[0][order], pooled=logits[0], tokens=image[order]),
        TowerOutput(logits=logits[1][order], pooled=logits[1], tokens=text[order], mask=MASK[order]),
    )
    assert loss(BatchOutputs(*sides, group=torch.arange(5))).item() == pytest.approx(before.item())


def test_a_batch_without_negatives_costs_nothing_and_has_a_gradient(logits, tokens):
    value = local_mi()(outputs_of(logits, tokens, group=[7] * 5))
    assert value.item() == 0.0
    value.backward()
    assert all(torch.isfinite(x.grad).all() for x in (*logits, *tokens))


def test_tokens_in_half_precision_are_taken(logits, tokens):
    loss = local_mi().float()
    value = loss(outputs_of([x.detach().float() for x in logits], [x.detach().bfloat16() for x in tokens]))
    assert value.item() == pytest.approx(local_mi()(outputs_of(logits, tokens)).item(), rel=0.02)


def test_pooled_features_are_refused(batch, logits):
    assert local_mi().needs == {"tokens"}
    with pytest.raises(ConfigError, match="tower of text gives pooled features only"):
        build_loss("local_mi", dims=Dims(8, token_widths={"image": 3}))
    with pytest.raises(TrainingError, match="reads tokens"):
        local_mi()(batch(*logits))


@pytest.mark.parametrize(
    ("options", "said"), [({"max_tokens": 0}, "max_tokens"), ({"temperature": 0}, "above 0"), ({"space": "x"}, "space")]
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(ConfigError, match=said):
        local_mi(**options)
