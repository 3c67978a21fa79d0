"""The modality adversary: its value, whose gradient goes where, and that it works."""

from __future__ import annotations

import math

import pytest
import torch

from hashret.errors import ConfigError
from hashret.losses import Dims, build_loss
from hashret.losses.adversary import ramp, reverse_gradient

DIMS = Dims(8)
PLAIN = {"hidden": 16, "dropout": 0.0, "ramp": False, "top": 0.5}


def adversary(**options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_loss("adversary", {**PLAIN, **options}, dims=DIMS).double()


def bce(scores: torch.Tensor, label: float) -> float:
    p = [1 / (1 + math.exp(-float(score.detach()))) for score in scores]
    return -sum(math.log(x) if label else math.log(1 - x) for x in p)


def test_reversal_turns_and_scales_the_gradient():
    x = torch.randn(3, requires_grad=True)
    reverse_gradient(x, scale=0.25).sum().backward()
    assert x.grad.tolist() == [-0.25] * 3


def test_lambda_rises_from_nothing_to_its_top():
    assert ramp(0.0, top=0.1) == 0.0
    assert ramp(0.5, top=0.1) == pytest.approx(0.1 * (2 / (1 + math.exp(-5)) - 1))
    assert 0.0999 < ramp(1.0, top=0.1) < 0.1


def test_both_modes_have_the_value_of_their_formula(batch, logits):
    loss = adversary()
    scores = [loss.classifier(torch.tanh(x.detach())) for x in logits]
    judged = (bce(scores[0], 1) + bce(scores[1], 0)) / 10
    assert loss(batch(*logits)).item() == pytest.approx(judged)
    loss = adversary(mode="alternate")
    fooled = (bce(scores[0], 0) + bce(scores[1], 1)) / 10
    assert loss(batch(*logits)).item() == pytest.approx(judged + 0.5 * fooled)


def test_reversal_gives_the_towers_the_opposite_of_the_classifiers_wish(batch, logits):
    loss = adversary()
    gradient = torch.autograd.grad(loss(batch(*logits)), logits[0])[0]
    codes = [torch.tanh(x) for x in logits]
    scores = loss.classifier(torch.cat(codes))
    labels = torch.cat([torch.ones(5), torch.zeros(5)]).double()
    honest = torch.nn.functional.binary_cross_entropy_with_logits(scores, labels)
    torch.testing.assert_close(gradient, -0.5 * torch.autograd.grad(honest, logits[0])[0])


@pytest.mark.parametrize("space", ["relaxed", "float"])
def test_alternating_mode_gives_the_towers_lambda_times_the_flipped_loss(batch, logits, space):
    """dL/dx = λ/(2B) · (D - y)·∇D's logit with the flipped label y; the sigmoid's slope is worked out by hand."""
    loss = adversary(mode="alternate", ramp=True, space=space)
    got = torch.autograd.grad(loss(batch(*logits), progress=0.3), logits)
    scale = 0.5 * (2 / (1 + math.exp(-3)) - 1)
    for x, gradient, flipped in zip(logits, got, (0, 1)):
        codes = torch.tanh(x) if space == "relaxed" else x / x.norm(dim=1, keepdim=True)
        scores = loss.classifier(codes)
        slope = (1 / (1 + torch.exp(-scores)) - flipped).detach() / 10
        torch.testing.assert_close(gradient, scale * torch.autograd.grad(scores, x, slope)[0])
        assert gradient.abs().max() > 0


def test_alternating_mode_keeps_both_players_apart(batch, logits):
    loss = adversary(mode="alternate", top=0.0)
    gradient = torch.autograd.grad(loss(batch(*logits)), logits[0])[0]
    assert gradient.abs().max() == 0  # the classifier's own term does not reach the towers
    value, still = adversary(mode="alternate"), adversary(mode="alternate", top=0.0)
    value(batch(*logits)).backward()
    still(batch(*logits)).backward()
    for a, b in zip(value.parameters(), still.parameters()):  # fooling does not reach the classifier
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("options", [{"mode": "reverse"}, {"mode": "alternate"}, {"space": "float"}])
def test_training_against_it_hides_the_modality(batch, options):
    """Codes that differ by a shift alone; it vanishes where the classifier learns faster than the codes move."""
    codes = torch.randn(256, 8, generator=torch.Generator().manual_seed(1)) * 0.8
    shift = torch.full((8,), 0.5).requires_grad_()
    torch.manual_seed(0)
    loss = build_loss("adversary", {**PLAIN, "top": 1.0, **options}, dims=DIMS)
    classifier, towers = torch.optim.Adam(loss.parameters(), 2e-2), torch.optim.SGD([shift], 0.05)

    def told() -> float:
        with torch.no_grad():
            outputs = batch(codes + shift, codes - shift)
            views = [side.float_() if "space" in options else side.relaxed for side in (outputs.image, outputs.text)]
            right = [loss.classifier(views[0]) > 0, loss.classifier(views[1]) <= 0]
            return float(torch.cat(right).float().mean())

    for _ in range(20):
        classifier.zero_grad()
        loss(batch((codes + shift).detach(), (codes - shift).detach())).backward()
        classifier.step()
    assert told() > 0.9
    for _ in range(120):
        classifier.zero_grad()
        towers.zero_grad()
        loss(batch(codes + shift, codes - shift)).backward()
        classifier.step()
        towers.step()
    assert shift.detach().abs().mean() < 0.15
    assert told() < 0.75


def test_wrong_options_are_refused():
    with pytest.raises(ConfigError, match="hidden"):
        build_loss("adversary", {"hidden": 0}, dims=DIMS)
