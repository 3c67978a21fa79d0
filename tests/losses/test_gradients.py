"""Every loss's gradient against differences of its value, in float64, for inputs and parameters alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hashret.losses import LOSSES, BatchOutputs, Dims, Keys, Loss, build_loss
from hashret.model import TowerOutput

WIDTHS = {"image": 3, "text": 2}
DIMS = Dims(6, (3, 6), n_labels=4, pooled_widths=WIDTHS, token_widths=WIDTHS)
LABELS = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.bool)
GROUP = torch.tensor([0, 1, 2, 1])
TARGET = torch.tensor([1.0, 0.5, 0.25, 0.8], dtype=torch.float64)
SHAPES = {
    "image": (4, 6), "text": (4, 6), "second": (4, 6), "match": (4, 4),
    "image tokens": (4, 3, 3), "text tokens": (4, 2, 2), "image pooled": (4, 3), "text pooled": (4, 2),
}  # fmt: skip
BOTH, POOLED = ("image", "text"), ("image pooled", "text pooled")
TOKENS, CAPTIONS = ("image tokens", "text tokens"), ("text", "second")
FLOAT, RELAXED = ["float", "float"], ["relaxed", "relaxed"]

# Each loss with options that make it smooth, and what has a gradient by its formula beside its parameters. A code's
# gradient is that of tanh by decree, and the towers' of an adversary is turned: other files compare both.
CASES: dict[str, list[tuple[dict[str, Any], tuple[str, ...]]]] = {
    "adversary": [({"hidden": 3, "dropout": 0.0}, ())],
    "balance": [({}, BOTH)],
    "binary_memory": [({"memory": 4, "negatives": 3, "contrast": c, "softness": 0.2}, BOTH) for c in (0.0, 1.0)],
    "decorrelation": [({}, BOTH)],
    "distillation": [
        ({"teacher": teacher, "match": match, "space": space, "temperature": 0.5}, BOTH)
        for teacher in ("features", "teacher")
        for match in ("square", "softmax")
        for space in ("float", "relaxed")
    ],
    "infonce": [({"between": between, "learnable": True}, BOTH) for between in (FLOAT, RELAXED)],
    "joint_infonce": [({"code_weight": 0, "cross_weight": 0, "spread": 0.3}, BOTH)],
    "joint_semantics": [({}, BOTH)],
    "label_bce": [({}, POOLED), ({"sees": "relaxed", "shared": True}, BOTH), ({"sees": "float"}, BOTH)],
    "local_mi": [({"max_tokens": 2}, BOTH + TOKENS)],
    "matching": [({"temperature": 1e-6, "space": "float"}, ("match",))],
    "momentum_contrast": [
        (options, BOTH)
        for options in ({"soft": 0.4}, {"within": True, "soft": 0.4}, {"within": True, "learnable": True})
    ],
    "pair_likelihood": [({"balance": balance, "similar": "labels"}, BOTH) for balance in (True, False)],
    "proxies": [({}, BOTH), ({"match": "softmax", "space": "float"}, BOTH)],
    "quantisation": [({}, BOTH)],
    "text_text": [({"margin": 0.37}, CAPTIONS), ({"form": "infonce", "between": FLOAT}, CAPTIONS)],
    "triplet": [
        ({"margin": 0.37, "negatives": negatives, "between": between}, BOTH)
        for negatives in ("sum", "mean", "semi", "hardest")
        for between in (FLOAT, RELAXED)
    ],
}
DOUBTED = ("matching", "momentum_contrast", "pair_likelihood", "triplet")  # an InfoNCE's own targets have no gradient


def batch_of(parts: dict[str, Tensor], *, doubted: bool) -> BatchOutputs:
    """A batch that has all that any loss may need."""
    generator = torch.Generator().manual_seed(8)
    queued, teacher = (torch.randn(2, 4, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    keys = [TowerOutput(logits=x, pooled=x) for x in (*queued, *queued[:, :3])]
    mask = torch.tensor([[True, True], [True, False], [True, True], [False, True]])
    return BatchOutputs(
        TowerOutput(parts["image"], parts["image pooled"], parts["image tokens"], torch.ones(4, 3, dtype=torch.bool)),
        TowerOutput(parts["text"], parts["text pooled"], parts["text tokens"], mask),
        group=GROUP,
        labels=LABELS,
        target=TARGET if doubted else None,
        teacher=tuple(x / x.norm(dim=1, keepdim=True) for x in teacher),
        second=TowerOutput(parts["second"], parts["text pooled"]),
        second_target=TARGET if doubted else None,
        keys=Keys(*keys, group=torch.tensor([1, 8, 9])),
        match=lambda images, texts: parts["match"][images, texts],
    )


def gradient_is_right(loss: Loss, reads: tuple[str, ...], *, doubted: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    parts = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_(name in reads)
        for name, shape in SHAPES.items()
    }

    def value(*_: Tensor) -> Tensor:
        torch.manual_seed(0)  # what is drawn is drawn alike
        return loss(batch_of(parts, doubted=doubted), progress=0.5)

    checked = (*(parts[name] for name in reads), *loss.parameters())  # gradcheck moves them where they are
    assert all(gradient.abs().max() > 0 for gradient in torch.autograd.grad(value(), checked))
    assert torch.autograd.gradcheck(value, checked, fast_mode=True)


@pytest.mark.parametrize("kind", LOSSES.names())
def test_a_gradient_is_that_of_the_value(kind):
    assert CASES.get(kind), f"the loss {kind} has no case in this file: how is its gradient known to be right?"
    for options, reads in CASES[kind]:
        for doubted in {False, kind in DOUBTED}:
            torch.manual_seed(0)
            loss = build_loss(kind, options, dims=DIMS).double().eval()
            gradient_is_right(loss, reads, doubted=doubted)
