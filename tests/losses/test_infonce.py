"""InfoNCE and the joint recipe against loops over pairs."""

from __future__ import annotations

import math

import pytest
import torch

from hashret.errors import ConfigError
from hashret.losses import Dims, build_loss
from hashret.losses.infonce import info_nce

DIMS = Dims(8, (4, 8))


def spaces(x: torch.Tensor, n_bits: int) -> dict[str, torch.Tensor]:
    part = x.detach()[:, :n_bits]
    return {
        "float": part / part.norm(dim=1, keepdim=True),
        "relaxed": torch.tanh(part) / n_bits**0.5,
        "code": torch.where(part > 0, 1.0, -1.0).double() / n_bits**0.5,
    }


def nce_by_loops(s: torch.Tensor, tau: float, group: list[int]) -> float:
    """½ (rows + columns), pair by pair."""
    total = 0.0
    for matrix in (s, s.T):
        for i in range(len(s)):
            others = [j for j in range(len(s)) if j == i or group[j] != group[i]]
            total -= math.log(math.exp(matrix[i, i] / tau) / sum(math.exp(matrix[i, j] / tau) for j in others))
    return total / (2 * len(s))


@pytest.mark.parametrize("between", [("float", "float"), ("code", "code"), ("float", "code"), ("relaxed", "relaxed")])
@pytest.mark.parametrize("group", [[0, 1, 2, 3, 4], [0, 1, 0, 3, 1]])
def test_infonce_is_the_mean_over_pairs_and_prefixes(batch, logits, between, group):
    image, text = logits
    loss = build_loss("infonce", {"between": list(between), "temperature": 0.3, "length_weights": [3, 1]}, dims=DIMS)
    expected = 0.0
    for n_bits, weight in ((4, 0.75), (8, 0.25)):
        a, b = spaces(image, n_bits)[between[0]], spaces(text, n_bits)[between[1]]
        expected += weight * nce_by_loops(a @ b.T, 0.3, group)
    assert loss(batch(image, text, group=torch.tensor(group))).item() == pytest.approx(expected, rel=1e-9)


def test_joint_infonce_is_the_weighted_sum_of_four_infonce(batch, logits):
    outputs = batch(*logits, group=torch.tensor([0, 1, 2, 0, 4]))
    options = {"lengths": [2, 5, 8], "temperature": 0.2}
    joint = build_loss(
        "joint_infonce", {**options, "float_weight": 0.5, "code_weight": 0.7, "cross_weight": 0.3}, dims=DIMS
    )
    parts = {("float", "float"): 0.5, ("code", "code"): 0.7, ("float", "code"): 0.3, ("code", "float"): 0.3}
    expected = sum(
        weight * build_loss("infonce", {**options, "between": list(between)}, dims=DIMS)(outputs)
        for between, weight in parts.items()
    )
    value = joint(outputs)
    assert value.item() == pytest.approx(expected.item(), rel=1e-9)
    got = torch.autograd.grad(value, logits, retain_graph=True)
    want = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_the_temperature_of_a_short_code_is_higher(batch, logits):
    outputs, tau, spread = batch(*logits), 0.2, 0.5
    weights = {"float_weight": 0.5, "code_weight": 0.7, "cross_weight": 0.3}
    options = {"lengths": [2, 8], "temperature": tau, "spread": spread, **weights}
    expected = [
        build_loss(
            "joint_infonce", {"lengths": [n], "temperature": math.sqrt(tau**2 + spread**2 / n), **weights}, dims=DIMS
        )(outputs)
        for n in (2, 8)
    ]
    value = build_loss("joint_infonce", options, dims=DIMS)(outputs)
    assert value.item() == pytest.approx(sum(expected).item() / 2, rel=1e-9)


def test_a_settled_prefix_is_trained_for_its_own_lengths_alone(batch, logits):
    outputs = batch(*logits)
    short, long, settled = (
        torch.autograd.grad(build_loss("joint_infonce", options, dims=DIMS)(outputs), logits, retain_graph=True)
        for options in (
            {"lengths": [3, 5]},
            {"lengths": [3, 5, 8]},
            {"lengths": [3, 5, 8], "settled": [5]},
        )
    )
    for alone, free, kept in zip(short, long, settled):
        torch.testing.assert_close(kept[:, :5], alone[:, :5] * 2 / 3)
        torch.testing.assert_close(kept[:, 5:], free[:, 5:])
        assert not torch.allclose(kept[:, :5], free[:, :5])


def test_a_longer_batch_of_the_same_group_has_no_negatives(batch, logits):
    loss = build_loss("infonce", dims=DIMS)
    assert loss(batch(*logits, group=torch.zeros(5, dtype=torch.int64))).item() == pytest.approx(0.0, abs=1e-12)


def test_soft_targets_move_weight_from_the_diagonal(logits):
    s = (logits[0] @ logits[1].T).detach()
    target = torch.tensor([1.0, 0.5, 0.0, 1.0, 0.2]).double()
    soft = torch.rand(5, 5, generator=torch.Generator().manual_seed(0)).double().softmax(1)
    log_p = (s / 0.5).log_softmax(1)
    y = target[:, None] * torch.eye(5).double() + (1 - target[:, None]) * soft
    expected = -(y * log_p).sum(1).mean()
    assert info_nce(s, temperature=0.5, target=target, soft=soft).item() == pytest.approx(expected.item())
    own = -(target[:, None] * torch.eye(5) * log_p + (1 - target[:, None]) * log_p.exp() * log_p).sum(1).mean()
    assert info_nce(s, temperature=0.5, target=target).item() == pytest.approx(own.item())


@pytest.mark.parametrize("kind", ["infonce", "joint_infonce"])
def test_a_doubted_pair_pulls_by_its_target(batch, logits, kind):
    """With the model's own softmax as soft targets, the gradient of a row is t times that of a sure pair."""
    loss = build_loss(kind, {"temperature": 0.3}, dims=DIMS)
    target = torch.tensor([1.0, 0.5, 0.0, 1.0, 0.2]).double()

    def gradient(target=None):
        return torch.autograd.grad(loss(batch(*logits, target=target)), logits)

    each = [gradient(row) for row in torch.eye(5).double()]  # one pair is sure, and the others do not pull
    pulled = [sum(t * parts[side] for t, parts in zip(target, each)) for side in (0, 1)]
    torch.testing.assert_close(list(gradient(target)), pulled)
    torch.testing.assert_close(list(gradient()), [sum(parts[side] for parts in each) for side in (0, 1)])
    sure = loss(batch(*logits, target=torch.ones(5).double()))
    assert sure.item() == pytest.approx(loss(batch(*logits)).item())


def test_a_code_has_the_gradient_of_tanh(batch, logits):
    """Straight through: dL/dlogits = dL/dcode · (1 - tanh²)."""
    image, text = logits
    loss = build_loss("infonce", {"between": ["code", "code"], "temperature": 0.5, "lengths": [8]}, dims=DIMS)
    (gradient,) = torch.autograd.grad(loss(batch(image, text)), image)
    code = torch.where(image > 0, 1.0, -1.0).double().requires_grad_()
    s = (code / 8**0.5) @ (torch.where(text > 0, 1.0, -1.0).double() / 8**0.5).T / 0.5
    target = torch.arange(5)
    direct = 0.5 * (torch.nn.functional.cross_entropy(s, target) + torch.nn.functional.cross_entropy(s.T, target))
    (through,) = torch.autograd.grad(direct, code)
    torch.testing.assert_close(gradient, through * (1 - torch.tanh(image.detach()) ** 2))


def test_a_learnable_temperature_learns_and_stays_in_its_bounds(batch, logits):
    loss = build_loss("infonce", {"temperature": 0.2, "learnable": True}, dims=DIMS)
    assert float(loss.temperature().detach()) == pytest.approx(0.2)
    loss(batch(*logits)).backward()
    assert loss.temperature.log.grad.abs() > 0
    for far, bound in ((-20, 0.01), (20, 0.5)):
        with torch.no_grad():
            loss.temperature.log.fill_(far)
        loss.zero_grad()
        loss(batch(*logits)).backward()
        assert float(loss.temperature().detach()) == pytest.approx(bound)
        assert loss.temperature.log.grad.abs() > 0  # it can come back
    assert not list(build_loss("infonce", dims=DIMS).parameters())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temprature": 0.1}, "did you mean 'temperature'"),
        ({"temperature": 0}, "above 0"),
        ({"between": ["float", "bits"]}, "between"),
        ({"between": ["float"]}, "2 entries"),
        ({"lengths": [16]}, "cannot be applied at"),
        ({"lengths": [4, 8], "length_weights": [1]}, "length_weights"),
    ],
)
def test_wrong_options_are_named(options, said):
    with pytest.raises(ConfigError, match=said):
        build_loss("infonce", options, dims=DIMS, where="stages.heads.losses.float")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"spread": -1}, "spread"),
        ({"lengths": [4, 8], "settled": [5]}, r"settled, and not \[5\]"),
        ({"float_weight": -0.1}, "numbers of 0 or more, .* not -0.1, 0.5, 0.25"),
        ({"float_weight": 0, "code_weight": 0, "cross_weight": 0}, "one of them above 0"),
    ],
)
def test_wrong_options_of_the_joint_loss_are_named(options, said):
    with pytest.raises(ConfigError, match=said):
        build_loss("joint_infonce", options, dims=DIMS)


def test_an_unknown_loss_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'infonce'"):
        build_loss("infonc", dims=DIMS)
