"""Two components in the losses of pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hashret.errors import TrainingError
from hashret.training.mixture import Mixture, fit_beta, fit_gauss
from hashret.training.refurbish import detection

FITS = [fit_beta, fit_gauss]


def sample(share: float, *, low: tuple[float, float], high: tuple[float, float], n: int = 4000, seed: int = 0):
    """Losses of a known beta mixture, spanning 0…1 exactly, and which are noise."""
    rng = np.random.default_rng(seed)
    noisy = rng.random(n) < share
    losses = np.where(noisy, rng.beta(*high, n), rng.beta(*low, n))
    losses[:2], noisy[:2] = (0.0, 1.0), (False, True)
    return losses, noisy


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_em_recovers_a_beta_mixture(share):
    losses, _ = sample(share, low=(2, 10), high=(8, 4))
    mixture = fit_beta(losses, iterations=50)
    assert mixture.separated
    assert mixture.means == pytest.approx((2 / 12, 8 / 12), abs=0.03)
    assert mixture.weights[1] == pytest.approx(share, abs=0.04)
    assert mixture.parameters[0] == pytest.approx((2, 10), rel=0.25)
    assert mixture.parameters[1] == pytest.approx((8, 4), rel=0.25)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("share", [0.2, 0.6])
def test_ten_iterations_find_the_noise(fit, share):
    losses, noisy = sample(share, low=(2, 10), high=(8, 4))
    posterior = fit(3 * losses - 1).posterior(3 * losses - 1)  # the scale of the losses does not matter
    bayes = stats.beta(8, 4).pdf(losses) * share / (
        stats.beta(8, 4).pdf(losses) * share + stats.beta(2, 10).pdf(losses) * (1 - share) + 1e-300
    )  # fmt: skip
    best, found = detection(bayes, noisy), detection(posterior, noisy)
    assert found["AUC"] > best["AUC"] - 0.005 and found["F1"] > best["F1"] - 0.06


def test_one_step_of_em_by_hand():
    losses = np.array([0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.6, 0.7, 0.9, 1.0])
    x = np.clip(losses, 1e-4, 1 - 1e-4)
    # Beta(1, 2) has density 2(1 - x) and Beta(2, 1) has 2x: the responsibilities are 1 - x and x
    gamma = np.stack([1 - x, x])
    mean = gamma @ x / gamma.sum(1)
    variance = [(g * (x - m) ** 2).sum() / g.sum() for g, m in zip(gamma, mean)]
    alpha = mean * (mean * (1 - mean) / variance - 1)
    mixture = fit_beta(losses, iterations=1)
    assert mixture.weights == pytest.approx(gamma.mean(1))
    assert mixture.means == pytest.approx(mean)
    assert np.array(mixture.parameters) == pytest.approx(np.stack([alpha, alpha * (1 - mean) / mean], axis=1))


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_em_recovers_a_gaussian_mixture(share):
    rng = np.random.default_rng(1)
    noisy = rng.random(4000) < share
    losses = np.where(noisy, rng.normal(3.0, 0.5, 4000), rng.normal(1.0, 0.3, 4000))
    mixture = fit_gauss(losses, iterations=50)
    low, high = mixture.span
    assert mixture.span == (losses.min(), losses.max()) and mixture.separated
    assert mixture.weights == pytest.approx((1 - share, share), abs=0.02)
    for (mean, variance), (true, deviation) in zip(mixture.parameters, ((1.0, 0.3), (3.0, 0.5))):
        assert low + mean * (high - low) == pytest.approx(true, abs=0.05)
        assert (variance - 5e-4) ** 0.5 * (high - low) == pytest.approx(deviation, rel=0.1)


def test_two_steps_of_gaussian_em_by_hand():
    """The first from the halves of 2-means, the second from the densities that it gave."""
    losses = np.array([0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.45, 0.6, 0.9, 1.0])
    x = np.clip(losses, 1e-4, 1 - 1e-4)
    # 2-means begins at 0.5: the means 0.193 and 0.833 lie around 0.513, which changes no half
    gamma = np.stack([x < 0.513, x > 0.513]).astype(float)
    for _ in range(2):
        weights = gamma.mean(1)
        mean = gamma @ x / gamma.sum(1)
        variance = [(g * (x - m) ** 2).sum() / g.sum() + 5e-4 for g, m in zip(gamma, mean)]
        density = np.stack([w * stats.norm.pdf(x, m, v**0.5) for w, m, v in zip(weights, mean, variance)])
        gamma = density / density.sum(0)
    assert 0.01 < gamma[1, 6] < 0.99  # between the halves, and so shared
    mixture = fit_gauss(losses, iterations=2)
    assert mixture.weights == pytest.approx(weights)
    assert mixture.means == pytest.approx(mean)
    assert np.array(mixture.parameters) == pytest.approx(np.stack([mean, variance], axis=1))
    assert mixture.posterior(losses[6:7])[0] == pytest.approx(gamma[1, 6])


@given(
    st.sampled_from(["beta", "gauss"]),
    st.lists(st.floats(0.2, 30), min_size=4, max_size=4),
    st.floats(0.05, 0.95),
)
def test_the_posterior_never_falls(kind, numbers, share):
    a, b, c, d = numbers
    if kind == "beta":
        parameters = sorted([(a, b), (c, d)], key=lambda p: p[0] / sum(p))
        means = tuple(p / (p + q) for p, q in parameters)
    else:
        parameters = sorted([(a / 30, b / 500), (c / 30, d / 500)])
        means = tuple(p for p, _ in parameters)
    if means[1] - means[0] < 0.05:
        return
    mixture = Mixture(kind, (1 - share, share), tuple(parameters), means, (0.0, 1.0))
    x = np.linspace(0, 1, 400)
    posterior = mixture.posterior(x)
    assert (np.diff(posterior) >= -1e-9).all()
    assert (posterior >= 0).all() and (posterior <= 1).all()
    # between the means nothing is changed
    inside = x[(x > means[0]) & (x < means[1]) & (x > 1e-4) & (x < 1 - 1e-4)]
    density = stats.beta.pdf if kind == "beta" else lambda x, m, v: stats.norm.pdf(x, m, v**0.5)
    clean, noise = ((w * density(inside, *p)) for w, p in zip(mixture.weights, parameters))
    np.testing.assert_allclose(mixture.posterior(inside), noise / (clean + noise), rtol=1e-6, atol=1e-12)


def test_above_the_peak_the_posterior_keeps_its_maximum():
    wide, narrow = (0.3, 0.04), (0.6, 0.005)
    mixture = Mixture("gauss", (0.5, 0.5), (wide, narrow), (0.3, 0.6), (0.0, 1.0))
    x = np.linspace(0.01, 0.99, 500)
    clean, noise = (stats.norm.pdf(x, m, v**0.5) for m, v in (wide, narrow))
    bare = noise / (clean + noise)
    peak = bare.argmax()
    assert bare[-1] < 0.5 < bare[peak]
    np.testing.assert_allclose(mixture.posterior(x)[:peak], bare[:peak], rtol=1e-6)
    np.testing.assert_allclose(mixture.posterior(x)[peak:], bare[peak], rtol=1e-3)


@pytest.mark.parametrize("fit", FITS)
def test_equal_losses_are_no_noise(fit):
    mixture = fit(np.full(50, 0.3))
    assert not mixture.separated
    assert mixture.posterior(np.full(50, 0.3)).tolist() == [0.0] * 50


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("losses", [np.eye(20)[0], 1 - np.eye(20)[0], np.repeat([0.0, 1.0], 20), np.arange(10.0)])
def test_extreme_losses_give_probabilities(fit, losses):
    posterior = fit(losses).posterior(losses)
    assert np.isfinite(posterior).all() and (posterior >= 0).all() and (posterior <= 1).all()


def test_near_or_empty_components_are_not_separated():
    def mixture(weights, means):
        return Mixture("gauss", weights, ((means[0], 0.01), (means[1], 0.01)), means, (0.0, 1.0))

    assert mixture((0.5, 0.5), (0.3, 0.36)).separated
    assert not mixture((0.5, 0.5), (0.3, 0.34)).separated
    assert not mixture((0.995, 0.005), (0.3, 0.6)).separated


@pytest.mark.parametrize("fit", FITS)
def test_bad_losses_are_refused(fit):
    with pytest.raises(TrainingError, match="at least 10"):
        fit(np.arange(9.0))
    with pytest.raises(TrainingError, match="2 of 20 pairs are not finite"):
        fit(np.array([np.nan, np.inf] + [1.0] * 18))
