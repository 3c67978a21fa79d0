"""Two components in the losses of pairs: one of those that match, one of those that do not.

Knows numbers only, neither pairs nor models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import betaln, expit

from hashret.errors import TrainingError

LEAST_LOSSES = 10
CLOSEST_MEANS = 0.05  # of the range of the losses: nearer components are no two components
SMALLEST_WEIGHT = 0.01
_EDGE = 1e-4  # losses are kept this far from 0 and 1, where beta densities may be infinite
_BETA_VARIANCE = 1e-6
_GAUSS_VARIANCE = 5e-4  # added to each variance, as NCR's fit does
_TINY = 1e-12

Kind = Literal["beta", "gauss"]
Pair = tuple[float, float]


@dataclass(frozen=True)
class Mixture:
    """A fitted mixture; its second component, the one with the larger mean, is the noise.

    Args:
        kind: the family of both components.
        weights: shares of the components.
        parameters: of each component: (α, β) of a beta density, (mean, variance) of a Gaussian one.
        means: of the components, on losses scaled to 0…1.
        span: the smallest and the largest loss, which were scaled to 0 and 1.
    """

    kind: Kind
    weights: Pair
    parameters: tuple[Pair, Pair]
    means: Pair
    span: Pair

    @property
    def separated(self) -> bool:
        """Whether there are two components to speak of; if not, nothing should be taken for noise."""
        return self.means[1] - self.means[0] >= CLOSEST_MEANS and min(self.weights) >= SMALLEST_WEIGHT

    def posterior(self, losses: np.ndarray) -> np.ndarray:
        """(n,) float64: the probability that each of (n,) ``losses`` comes from the noise component.

        It never falls as the loss grows. Where one component is broader at both ends, the bare posterior turns back
        once, above the larger mean or below the smaller one; beyond its turn it keeps the value it has there.
        """
        if self.weights[1] == 0:
            return np.zeros(len(losses))
        scaled = _scale(np.asarray(losses, dtype=np.float64), self.span)
        turn = self._turn()
        if turn is not None:
            scaled = np.minimum(scaled, turn) if turn > self.means[1] else np.maximum(scaled, turn)
        logs = _log_densities(scaled, self.kind, self.weights, self.parameters)
        posterior: np.ndarray = expit(logs[1] - logs[0])
        return posterior

    def _turn(self) -> float | None:
        """Where the slope of the log-odds is 0; None where it is not within the losses.

        The slope has one zero at most, and is positive between the means.
        """
        (a, b), (c, d) = self.parameters
        # beta: (c-a)/x - (d-b)/(1-x) = 0; Gaussian: (x-a)/b - (x-c)/d = 0
        top, bottom = (c - a, (c - a) + (d - b)) if self.kind == "beta" else (a / b - c / d, 1 / b - 1 / d)
        turn = top / bottom if bottom else math.inf
        return turn if _EDGE < turn < 1 - _EDGE else None


def fit_beta(losses: np.ndarray, *, iterations: int = 10) -> Mixture:
    """Fit two beta densities to (n,) losses, scaled to 0…1, by EM with weighted moments for the M-step.

    γ_ik = π_k Beta(ℓ_i; α_k, β_k) / Σ_k; with x̄_k and s²_k the mean and variance under γ_·k:
    α_k = x̄_k (x̄_k (1 - x̄_k) / s²_k - 1), β_k = α_k (1 - x̄_k) / x̄_k, π_k = mean γ_·k.
    Starts at α = (1, 2), β = (2, 1), π = (½, ½). Equal losses give a mixture that is not separated.

    Raises:
        TrainingError: fewer than 10 losses, or one that is not finite.

    *Source:* Arazo et al., Unsupervised Label Noise Modeling and Loss Correction, ICML 2019, the section on
    label noise modelling (PyTorch code of the authors: 10 iterations from the same start).
    """
    span = _span(losses)
    scaled = _scale(losses, span)
    weights, parameters = np.array([0.5, 0.5]), np.array([[1.0, 2.0], [2.0, 1.0]])
    for _ in range(iterations):
        gamma = _responsibilities(scaled, "beta", weights, parameters)
        weights, mean, variance = _moments(scaled, gamma)
        alpha = mean * np.maximum(mean * (1 - mean) / np.maximum(variance, _BETA_VARIANCE) - 1, _TINY)
        parameters = np.stack([alpha, alpha * (1 - mean) / mean], axis=1)
    return _ordered("beta", weights, parameters, parameters[:, 0] / parameters.sum(axis=1), span)


def fit_gauss(losses: np.ndarray, *, iterations: int = 10) -> Mixture:
    """Fit two Gaussian densities to (n,) losses, scaled to 0…1, by EM.

    γ_ik = π_k N(ℓ_i; μ_k, v_k) / Σ_k; μ_k = Σ_i γ_ik ℓ_i / Σ_i γ_ik, v_k = Σ_i γ_ik (ℓ_i - μ_k)² / Σ_i γ_ik + 5e-4,
    π_k = mean γ_·k. Starts from the two halves that 2-means finds, γ_ik 0 or 1. Equal losses give a mixture that is not
    separated.

    Raises:
        TrainingError: fewer than 10 losses, or one that is not finite.

    *Source:* Li et al. (DivideMix), ICLR 2020, and Huang et al. (NCR), NeurIPS 2021, which fit it to the losses of an
    epoch by scikit-learn's GaussianMixture with this regularisation.
    """
    span = _span(losses)
    scaled = _scale(losses, span)
    border = 0.5
    for _ in range(iterations):
        low, high = scaled[scaled <= border], scaled[scaled > border]
        if not len(low) or not len(high):
            break
        border = (low.mean() + high.mean()) / 2
    gamma = np.stack([scaled <= border, scaled > border]).astype(np.float64)
    for _ in range(iterations):
        weights, mean, variance = _moments(scaled, gamma)
        parameters = np.stack([mean, variance + _GAUSS_VARIANCE], axis=1)
        gamma = _responsibilities(scaled, "gauss", weights, parameters)
    return _ordered("gauss", weights, parameters, parameters[:, 0], span)


def _span(losses: np.ndarray) -> Pair:
    if losses.ndim != 1 or len(losses) < LEAST_LOSSES:
        raise TrainingError(
            f"a mixture needs the losses of at least {LEAST_LOSSES} pairs, and got shape {losses.shape}; "
            f"train on more pairs, or without refurbish"
        )
    if not np.isfinite(losses).all():
        bad = int((~np.isfinite(losses)).sum())
        raise TrainingError(f"the losses of {bad} of {len(losses)} pairs are not finite; lower the learning rate")
    return float(losses.min()), float(losses.max())


def _scale(losses: np.ndarray, span: Pair) -> np.ndarray:
    low, high = span
    scaled = (losses.astype(np.float64) - low) / (high - low) if high > low else np.full(len(losses), 0.5)
    return np.clip(scaled, _EDGE, 1 - _EDGE)


def _log_densities(scaled: np.ndarray, kind: Kind, weights: object, parameters: object) -> np.ndarray:
    """(2, n) log of each component's weighted density."""
    first, second = np.asarray(parameters, dtype=np.float64).T[:, :, None]
    shares = np.log(np.maximum(np.asarray(weights, dtype=np.float64), _TINY))[:, None]
    if kind == "beta":
        logs = (first - 1) * np.log(scaled) + (second - 1) * np.log1p(-scaled) - betaln(first, second)
    else:
        logs = -((scaled - first) ** 2) / (2 * second) - np.log(2 * math.pi * second) / 2
    result: np.ndarray = shares + logs
    return result


def _responsibilities(scaled: np.ndarray, kind: Kind, weights: object, parameters: object) -> np.ndarray:
    logs = _log_densities(scaled, kind, weights, parameters)
    second = expit(logs[1] - logs[0])
    return np.stack([1 - second, second])


def _moments(scaled: np.ndarray, gamma: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight, mean and variance of each component under (2, n) ``gamma``."""
    total = gamma.sum(axis=1)
    gamma = np.where(total[:, None] > _TINY, gamma, 1.0)  # an empty component stays where all losses are
    sums = gamma.sum(axis=1)
    mean = np.clip(gamma @ scaled / sums, _EDGE, 1 - _EDGE)
    variance = (gamma * (scaled - mean[:, None]) ** 2).sum(axis=1) / sums
    return total / total.sum(), mean, variance


def _ordered(kind: Kind, weights: np.ndarray, parameters: np.ndarray, means: np.ndarray, span: Pair) -> Mixture:
    """The mixture with its noise component second."""
    if span[0] == span[1]:
        weights = np.array([1.0, 0.0])
    elif means[0] > means[1]:
        weights, parameters, means = weights[::-1], parameters[::-1], means[::-1]
    clean, noise = parameters.tolist()
    return Mixture(kind, _pair(weights), (_pair(clean), _pair(noise)), _pair(means), span)


def _pair(values: Sequence[float] | np.ndarray) -> Pair:
    return float(values[0]), float(values[1])
