"""Distillation against its formula."""

from __future__ import annotations

import pytest
import torch

from hashret.errors import TrainingError
from hashret.losses import BatchOutputs, Dims, build_loss
from hashret.model import TowerOutput

DIMS = Dims(8)


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=1, keepdim=True)


def test_softmax_of_rows_and_columns(batch, logits):
    image, text = (x.detach() for x in logits)
    loss = build_loss("distillation", {"space": "relaxed", "temperature": 0.3}, dims=DIMS)
    t = (unit(image) @ unit(text).T).float().double() / 0.3
    s = torch.tanh(image) @ torch.tanh(text).T / 8 / 0.3
    expected = 0.0
    for a, b in ((t, s), (t.T, s.T)):
        for i in range(5):
            p, q = a[i].exp() / a[i].exp().sum(), b[i].exp() / b[i].exp().sum()
            expected -= 0.5 * float((p * q.log()).sum()) / 5
    assert loss(batch(image, text)).item() == pytest.approx(expected, rel=1e-6)


def test_square_difference_from_a_teacher(batch, logits):
    image, text = (x.detach() for x in logits)
    teacher = (torch.randn(5, 3), torch.randn(5, 3))
    loss = build_loss("distillation", {"teacher": "teacher", "match": "square"}, dims=DIMS)
    code = [torch.where(x > 0, 1.0, -1.0) for x in (image, text)]
    difference = code[0] @ code[1].T / 8 - unit(teacher[0]) @ unit(teacher[1]).T
    value = loss(batch(image, text, teacher=tuple(unit(x) for x in teacher)))
    assert value.item() == pytest.approx(float((difference**2).mean()), rel=1e-5)


def test_features_are_compared_inside_a_modality(batch, logits):
    """Pair by pair; the prefixes of a code have to keep the same distances."""
    torch.manual_seed(0)
    sides = [TowerOutput(logits=x.detach(), pooled=torch.randn(5, width).double()) for x, width in zip(logits, (3, 11))]
    outputs = BatchOutputs(*sides, group=torch.arange(5))
    options = {"teacher": "features", "match": "square", "lengths": [3, 8]}
    views = {"float": unit, "code": lambda x: torch.where(x > 0, 1.0, -1.0).double() / x.shape[1] ** 0.5}
    for space, view in views.items():
        expected = 0.0
        for side in sides:
            features = unit(side.pooled).tolist()
            for n_bits in (3, 8):
                vectors = view(side.logits[:, :n_bits]).tolist()
                for i in range(5):
                    for j in range(5):
                        wanted, had = (sum(a * b for a, b in zip(x[i], x[j])) for x in (features, vectors))
                        expected += 0.5 * 0.5 * (had - wanted) ** 2 / 25
        value = build_loss("distillation", {**options, "space": space}, dims=DIMS)(outputs)
        assert value.item() == pytest.approx(expected, rel=1e-5)


def test_the_teacher_has_no_gradient(batch, logits):
    loss = build_loss("distillation", {"teacher": "teacher", "space": "relaxed", "temperature": 0.5}, dims=DIMS)
    teacher = tuple(unit(torch.randn(5, 3, dtype=torch.float64, requires_grad=True)) for _ in range(2))
    value = loss(batch(*logits, teacher=teacher))
    assert torch.autograd.grad(value, teacher, allow_unused=True) == (None, None)


def test_a_missing_teacher_is_said(batch, logits):
    loss = build_loss("distillation", {"teacher": "teacher"}, dims=DIMS)
    assert loss.needs == {"teacher"}
    assert not build_loss("distillation", dims=DIMS).needs
    with pytest.raises(TrainingError, match="key `teacher`"):
        loss(batch(*logits))
