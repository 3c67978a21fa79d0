"""Distillation against its formula."""

from __future__ import annotations

import pytest
import torch

from hashret.errors import TrainingError
from hashret.losses import Dims, build_loss

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
    """The pooled features of these batches are their logits."""
    image, text = (x.detach() for x in logits)
    loss = build_loss("distillation", {"teacher": "features", "match": "square", "space": "code"}, dims=DIMS)
    expected = 0.0
    for x in (image, text):
        code = torch.where(x > 0, 1.0, -1.0).double()
        expected += 0.5 * float(((code @ code.T / 8 - unit(x) @ unit(x).T) ** 2).mean())
    assert loss(batch(image, text)).item() == pytest.approx(expected, rel=1e-5)


def test_the_teacher_has_no_gradient_and_the_student_a_right_one(batch, logits):
    loss = build_loss("distillation", {"teacher": "teacher", "space": "relaxed", "temperature": 0.5}, dims=DIMS)
    teacher = tuple(unit(torch.randn(5, 3, dtype=torch.float64, requires_grad=True)) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: loss(batch(a, b, teacher=teacher)), logits)
    value = loss(batch(*logits, teacher=teacher))
    assert torch.autograd.grad(value, teacher, allow_unused=True) == (None, None)


def test_a_missing_teacher_is_said(batch, logits):
    loss = build_loss("distillation", {"teacher": "teacher"}, dims=DIMS)
    assert loss.needs == {"teacher"}
    assert not build_loss("distillation", dims=DIMS).needs
    with pytest.raises(TrainingError, match="key `teacher`"):
        loss(batch(*logits))
