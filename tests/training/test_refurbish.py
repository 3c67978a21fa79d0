"""Ledger, match scores, targets and detection."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hashret.config import build
from hashret.errors import ConfigError, TrainingError
from hashret.training.noise import NoiseConfig, corrupt
from hashret.training.refurbish import RefurbishConfig, Refurbisher, detection, ledger_of, match_scores


def vectors(counts: list[int], *, width: int = 6, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return torch.randn(len(counts), width, generator=generator), torch.randn(
        len(owner), width, generator=generator
    ), owner  # fmt: skip


def test_the_ledger_against_loops():
    image, text, owner = vectors([3, 1, 2, 4])
    ledger = ledger_of(image, text, owner, margin=0.2)
    same = ledger_of(image, text, owner, margin=0.2, reach=0.2)
    torch.testing.assert_close(same.losses, ledger.i2t + ledger.t2i)
    unit_image, unit_text = image / image.norm(dim=1, keepdim=True), text / text.norm(dim=1, keepdim=True)
    for m in range(len(owner)):
        own = float(unit_image[owner[m]] @ unit_text[m])
        others = [j for j in range(len(owner)) if owner[j] != owner[m]]
        i2t = np.mean([max(0.0, 0.2 - own + float(unit_image[owner[m]] @ unit_text[j])) for j in others])
        t2i = np.mean([max(0.0, 0.2 - own + float(unit_image[owner[j]] @ unit_text[m])) for j in others])
        assert float(ledger.i2t[m]) == pytest.approx(i2t, abs=1e-5)
        assert float(ledger.t2i[m]) == pytest.approx(t2i, abs=1e-5)
        away = np.mean(
            [float(unit_image[owner[m]] @ unit_text[j] + unit_image[owner[j]] @ unit_text[m]) for j in others]
        )
        assert float(ledger.losses[m]) == pytest.approx(2 * (2 - own) + away, abs=1e-5)


def test_blocks_follow_from_the_generator_and_agree_on_average():
    image, text, owner = vectors([2] * 60)
    whole = ledger_of(image, text, owner).losses
    first, again, other = (
        ledger_of(image, text, owner, block=50, generator=torch.Generator().manual_seed(seed)).losses
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    many = [
        ledger_of(image, text, owner, block=50, generator=torch.Generator().manual_seed(seed)).losses
        for seed in range(100)
    ]
    torch.testing.assert_close(torch.stack(many).mean(0), whole, atol=0.05, rtol=0.0)


def test_a_ledger_needs_pairs_that_fit():
    image, text, owner = vectors([2, 2])
    for bad in (owner[:3], owner + 1, owner * 0):
        with pytest.raises(TrainingError):
            ledger_of(image, text, bad)
    with pytest.raises(TrainingError, match="blocks of at least 2"):
        ledger_of(image, text, owner, block=1)


def test_match_scores_by_hand():
    i2t = np.array([0.0, 0.1, 0.3, 0.2, 0.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    t2i = np.array([0.0, 0.1, 0.3, 0.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    # raw: .2, .1, 0, .1, .15, .1 …; the highest tenth of 11, rounded up, is two: (.2 + .15) / 2
    expected = [1.0, 0.1 / 0.175, 0.0, 0.1 / 0.175, 0.15 / 0.175] + [0.1 / 0.175] * 6
    np.testing.assert_allclose(match_scores(i2t, t2i, margin=0.2), expected)
    assert match_scores(np.ones(3), np.ones(3), margin=0.2).tolist() == [0.0, 0.0, 0.0]


def losses_and_match() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.beta(2, 12, 300), rng.beta(9, 4, 100)])
    return losses, rng.random(400)


@pytest.mark.parametrize("mixture", ["beta", "gauss"])
@pytest.mark.parametrize("belief", ["model", "zero"])
def test_the_target_is_refurbished(mixture, belief):
    losses, match = losses_and_match()
    result = Refurbisher(RefurbishConfig(mixture, belief=belief, cap=0.9)).update(losses, match)
    noise = np.minimum(result.mixture.posterior(losses), 0.9)
    assert result.separated and result.mixture.kind == mixture
    np.testing.assert_allclose(result.noise, noise, rtol=1e-6)
    np.testing.assert_allclose(result.target, (1 - noise) + noise * (match if belief == "model" else 0), rtol=1e-5)
    assert result.target.dtype == result.noise.dtype == np.float32
    assert result.noise.max() == np.float32(0.9)


def test_where_nothing_separates_all_is_believed():
    result = Refurbisher(RefurbishConfig()).update(np.full(40, 0.1), np.zeros(40))
    assert not result.separated and (result.target == 1).all() and (result.noise == 0).all()


def test_noise_is_smoothed_over_epochs_and_resumed():
    losses, match = losses_and_match()
    config = RefurbishConfig(ema=0.75)
    whole = Refurbisher(config)
    first = whole.update(losses, match)
    resumed = Refurbisher(config)
    resumed.restore({name: array.copy() for name, array in whole.state().items()})
    second = whole.update(losses[::-1].copy(), match)
    again = resumed.update(losses[::-1].copy(), match)
    fresh = Refurbisher(config).update(losses[::-1].copy(), match)
    np.testing.assert_allclose(second.noise, 0.75 * first.noise + 0.25 * fresh.noise, rtol=1e-5)
    assert np.array_equal(second.noise, again.noise) and np.array_equal(second.target, again.target)
    assert Refurbisher(config).state() == {}
    resumed.restore({})
    assert np.array_equal(resumed.update(losses, match).noise, first.noise)


def test_pairs_must_stay_the_same():
    refurbisher = Refurbisher(RefurbishConfig())
    losses, match = losses_and_match()
    refurbisher.update(losses, match)
    with pytest.raises(TrainingError, match="do not fit"):
        refurbisher.update(losses[:50], match[:50])


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_detection_against_all_pairs(rows):
    noise, noisy = np.array([n / 5 for n, _ in rows]), np.array([b for _, b in rows])
    result = detection(noise, noisy)
    wins = [(a > b) + 0.5 * (a == b) for a in noise[noisy] for b in noise[~noisy]]
    assert result["AUC"] == pytest.approx(np.mean(wins) if wins else float("nan"), nan_ok=True)
    found = noise > 0.5
    if found.any() and noisy.any() and (found & noisy).any():
        precision, recall = noisy[found].mean(), found[noisy].mean()
        assert result["F1"] == pytest.approx(2 * precision * recall / (precision + recall))
    elif found.any() or noisy.any():
        assert result["F1"] == 0
    else:
        assert np.isnan(result["F1"])


@pytest.mark.parametrize("kind", ["caption", "image"])
def test_noise_put_into_pairs_is_found(kind):
    """The whole way on pairs whose vectors nearly agree, 40 % of them false."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(200, 16, generator=generator)
    owner = torch.arange(200).repeat_interleave(3)
    corruption = corrupt(owner.numpy(), NoiseConfig(kind, 0.4))
    text = (image[owner] + 0.8 * torch.randn(600, 16, generator=generator))[torch.from_numpy(corruption.caption)]
    losses, i2t, t2i = ledger_of(image, text, owner, generator=generator)
    match = match_scores(i2t.numpy(), t2i.numpy(), margin=0.2)
    result = Refurbisher(RefurbishConfig()).update(losses.numpy(), match)
    assert result.separated
    assert detection(result.noise, corruption.noisy)["AUC"] > 0.98
    assert result.target[~corruption.noisy].mean() > 0.95 > 0.3 > result.target[corruption.noisy].mean()


@pytest.mark.parametrize(
    "content",
    [
        {"mixture": "three"},
        {"belief": "none"},
        {"warmup": -1},
        {"iterations": 0},
        {"ema": 1.0},
        {"cap": 0.0},
        {"cap": 1.1},
    ],
)
def test_options_are_checked(content):
    with pytest.raises(ConfigError):
        build(RefurbishConfig, content)
    with pytest.raises(ConfigError):
        RefurbishConfig(**content)
