"""The label heads against loops over items and labels."""

from __future__ import annotations

import math

import pytest
import torch

from hashret.errors import ConfigError, TrainingError
from hashret.losses import Dims, build_loss

DIMS = Dims(8, n_labels=3, pooled_widths={"image": 8, "text": 8})
LABELS = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1], [0, 0, 1]], dtype=torch.bool)


def label_bce(**options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_loss("label_bce", options, dims=DIMS).double()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sees": "relaxed", "positive_weight": 3.0},
        {"sees": "relaxed", "shared": True},
        {"sees": "float", "shared": True},
    ],
)
def test_the_mean_over_items_labels_and_sides(batch, logits, options):
    """The pooled features of these batches are their logits."""
    loss = label_bce(**options)
    views = {
        "pooled": lambda x: x,
        "relaxed": torch.tanh,
        "float": lambda x: 8**0.5 * x / x.norm(dim=1, keepdim=True),
    }
    expected = 0.0
    for name, x in zip(("image", "text"), logits):
        head = loss.heads["both" if "shared" in options else name]
        scores = (views[options.get("sees", "pooled")](x.detach()) @ head.weight.T + head.bias).tolist()
        for i, row in enumerate(scores):
            for c, z in enumerate(row):
                p = 1 / (1 + math.exp(-z))
                cost = -options.get("positive_weight", 1.0) * math.log(p) if LABELS[i, c] else -math.log(1 - p)
                expected += 0.5 * cost / 3 / 5
    assert loss(batch(*logits, labels=LABELS)).item() == pytest.approx(expected, rel=1e-9)


def test_the_order_of_rows_says_nothing(batch, logits):
    loss = label_bce(sees="relaxed")
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = loss(batch(*(x[order] for x in logits), labels=LABELS[order]))
    assert moved.item() == pytest.approx(loss(batch(*logits, labels=LABELS)).item())


def test_features_in_half_precision_are_taken(batch, logits):
    loss = label_bce().float()
    value = loss(batch(*(x.detach().bfloat16() for x in logits), labels=LABELS))
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(label_bce()(batch(*logits, labels=LABELS)).item(), rel=0.01)


def test_one_head_has_half_the_parameters():
    sizes = [sum(p.numel() for p in label_bce(sees="relaxed", shared=shared).parameters()) for shared in (False, True)]
    assert sizes == [2 * (8 * 3 + 3), 8 * 3 + 3]


def test_what_it_needs_is_said(batch, logits):
    assert label_bce().needs == {"labels"}
    with pytest.raises(TrainingError, match="reads labels"):
        label_bce()(batch(*logits))


@pytest.mark.parametrize(
    ("options", "dims", "said"),
    [
        ({"shared": True}, DIMS, "cannot serve the pooled features"),
        ({"positive_weight": 0}, DIMS, "positive_weight"),
        ({"sees": "codes"}, DIMS, "sees cannot be 'codes'"),
        ({}, Dims(8), "the data has none"),
    ],
)
def test_wrong_options_are_named(options, dims, said):
    with pytest.raises(ConfigError, match=said):
        build_loss("label_bce", options, dims=dims)
