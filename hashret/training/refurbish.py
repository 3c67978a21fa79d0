"""Learning under noisy pairs: a loss for every pair, a mixture of clean and noisy ones, a target for every pair.

    ledger_of → losses (M,) → Mixture → w, the probability of noise → y* = (1 - w)·1 + w·ŷ

Knows vectors and numbers, no towers; what a target does to a loss is the loss's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from hashret.errors import ConfigError, TrainingError
from hashret.losses.triplet import hinge
from hashret.training.mixture import Mixture, fit_beta, fit_gauss

_FITS = {"beta": fit_beta, "gauss": fit_gauss}


@dataclass(frozen=True)
class RefurbishConfig:
    """How pairs that look false are believed less.

    Args:
        mixture: the family that is fitted to the losses.
        iterations: of EM. The usual 10 leave a beta mixture half way (F1 0.81 against 0.85 after 30).
        warmup: epochs of the stage in which every pair is still believed.
        ema: how much of the noise probabilities of the epoch before is kept, from 0 (nothing) to below 1.
        cap: the largest noise probability: a pair is never wholly disbelieved.
        belief: what stands in for a noisy pair's target: the ``model``'s own match score, or ``zero``.
    """

    mixture: Literal["beta", "gauss"] = "beta"
    iterations: int = 30
    warmup: int = 0
    ema: float = 0.0
    cap: float = 0.95
    belief: Literal["model", "zero"] = "model"

    def __post_init__(self) -> None:
        if self.mixture not in _FITS or self.belief not in ("model", "zero"):
            raise ConfigError(
                f"refurbish takes the mixture 'beta' or 'gauss' and the belief 'model' or 'zero', and not "
                f"{self.mixture!r} and {self.belief!r}"
            )
        if self.warmup < 0 or self.iterations < 1:
            raise ConfigError(
                f"refurbish.warmup is 0 or more epochs and refurbish.iterations 1 or more; they are {self.warmup} and "
                f"{self.iterations}"
            )
        if not 0 <= self.ema < 1 or not 0 < self.cap <= 1:
            raise ConfigError(
                f"refurbish.ema lies from 0 to below 1 and refurbish.cap above 0 and up to 1; they are {self.ema} and "
                f"{self.cap}"
            )


class Ledger(NamedTuple):
    """What each pair costs: (M,) float32 each.

    Args:
        losses: what the mixture is fitted to, the sum of both ways at the margin ``reach``.
        i2t: mean hinge of its image against the captions of other images.
        t2i: mean hinge of its caption against other images.
    """

    losses: Tensor
    i2t: Tensor
    t2i: Tensor


@torch.no_grad()
def ledger_of(
    image_vectors: Tensor,
    text_vectors: Tensor,
    owner: Tensor,
    *,
    margin: float = 0.2,
    reach: float = 2.0,
    block: int = 1024,
    generator: torch.Generator | None = None,
) -> Ledger:
    """The loss of every pair against the other pairs of a random block, in cosines.

    ℓ_i = mean_j [r - s_ii + s_ij]₊ + mean_j [r - s_ii + s_ji]₊, j over the pairs of the block with another image. The
    hardest negative would be as hard for a clean pair. At a reach r of 2 no hinge is ever cut off; at the margin of
    training most clean pairs cost nothing, a shape that no beta density has: on Flickr8k with 40 % of the captions
    displaced, a beta mixture then finds the false ones with an F1 of 0.55 instead of 0.85.

    Args:
        image_vectors: (N, K), of any length.
        text_vectors: (M, K), row m what slot m shows.
        owner: (M,) int64, the image row of each slot.
        margin: α of the hinges ``i2t`` and ``t2i``.
        reach: r of ``losses``; equal to ``margin``, they are the sum of both hinges.
        block: pairs compared with each other, at most.
        generator: of the division into blocks (on the CPU).

    Raises:
        TrainingError: sizes that do not fit, or no two images.

    *Source:* Huang et al. (NCR), NeurIPS 2021: the loss of its warm-up, averaged instead of summed.
    """
    count = len(text_vectors)
    if len(owner) != count or not count or not 0 <= int(owner.min()) <= int(owner.max()) < len(image_vectors):
        raise TrainingError(f"{len(owner)} owners do not fit {count} captions of {len(image_vectors)} images")
    if block < 2 or bool((owner == owner[0]).all()):
        raise TrainingError("a ledger compares pairs: it needs two images, and blocks of at least 2 pairs")
    image, text = (torch.nn.functional.normalize(v.float(), dim=1) for v in (image_vectors, text_vectors))
    owner = owner.to(text.device)
    losses, i2t, t2i = torch.empty(3, count, device=text.device)
    order = torch.randperm(count, generator=generator).to(text.device)
    for rows in order.tensor_split(-(-count // block)):
        group = owner[rows]
        cosines = image[group] @ text[rows].T
        excluded = group[:, None] == group[None, :]
        near, far = (
            [
                hinge(matrix, margin=matrix.new_full((len(rows),), width), excluded=excluded, negatives="mean")
                for matrix in (cosines, cosines.T)
            ]
            for width in (margin, reach)
        )
        i2t[rows], t2i[rows] = near
        losses[rows] = far[0] + far[1]
    return Ledger(losses, i2t, t2i)


def match_scores(hinge_i2t: np.ndarray, hinge_t2i: np.ndarray, *, margin: float) -> np.ndarray:
    """(n,) in [0, 1]: how well the model itself thinks that each pair matches.

    p_i = clamp(α - (h_i2t + h_t2i) / 2, 0, α), over the mean of the highest tenth, at most 1.

    *Source:* Huang et al. (NCR), NeurIPS 2021 (the prediction that replaces a noisy label), over
    the whole training set instead of a batch.
    """
    raw = np.clip(margin - (np.asarray(hinge_i2t, np.float64) + hinge_t2i) / 2, 0, margin)
    top = np.sort(raw)[-max(1, -(-len(raw) // 10)) :].mean()
    scores: np.ndarray = np.clip(raw / top, 0, 1) if top > 0 else raw
    return scores


@dataclass(frozen=True)
class Refurbished:
    """What is believed of n pairs.

    Args:
        target: (n,) float32 in [0, 1], y*.
        noise: (n,) float32 in [0, 1], w.
        mixture: the fit of this epoch.
        separated: whether the fit found noise; without, this epoch adds none.
    """

    target: np.ndarray
    noise: np.ndarray
    mixture: Mixture
    separated: bool


class Refurbisher:
    """The noise probability of every pair, kept over the epochs of a stage.

    *Source:* RCAR (robust retrieval with alignment refurbishment) names a beta mixture and labels refurbished by the
    posterior of noise; the formula is the dynamic bootstrapping of Arazo et al., ICML 2019, with NCR's match score
    as the model's own belief.
    """

    def __init__(self, config: RefurbishConfig) -> None:
        self.config = config
        self.noise: np.ndarray | None = None

    def update(self, ledger: np.ndarray, match: np.ndarray) -> Refurbished:
        """Believe anew, from (n,) ``ledger`` losses and (n,) ``match`` scores in [0, 1].

        Raises:
            TrainingError: sizes differ from each other or from the epoch before, or losses are unusable.
        """
        before = len(ledger) if self.noise is None else len(self.noise)
        if not len(ledger) == len(match) == before:
            raise TrainingError(f"{len(ledger)} losses, {len(match)} match scores and {before} pairs do not fit")
        mixture = _FITS[self.config.mixture](ledger, iterations=self.config.iterations)
        noise = mixture.posterior(ledger) if mixture.separated else np.zeros(len(ledger))
        noise = np.minimum(noise, self.config.cap)
        if self.noise is not None:
            noise = self.config.ema * self.noise + (1 - self.config.ema) * noise
        self.noise = noise.astype(np.float32)
        believed = match if self.config.belief == "model" else np.zeros(len(match))
        target = (1 - self.noise) + self.noise * believed
        return Refurbished(target.astype(np.float32), self.noise, mixture, mixture.separated)

    def state(self) -> dict[str, np.ndarray]:
        """What a resumed stage needs."""
        return {} if self.noise is None else {"noise": self.noise}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """The inverse of ``state``."""
        self.noise = state["noise"].astype(np.float32) if "noise" in state else None


def detection(noise: np.ndarray, noisy: np.ndarray) -> dict[str, float]:
    """How well known noise is found: AUC of (n,) ``noise`` and F1 at ½ against (n,) bool ``noisy``.

    AUC is the chance that a noisy pair stands above a clean one, a tie counting half: (R - p (p + 1) / 2) / (p q) with
    R the sum of the mid-ranks of the p noisy among p + q pairs. Not a number where there are no noisy or no clean ones.

    *Source:* Hanley and McNeil, Radiology 143, 1982 (the Wilcoxon form of the AUC).
    """
    positives, negatives = int(noisy.sum()), int((~noisy).sum())
    ranks = rankdata(noise)[noisy].sum() - positives * (positives + 1) / 2
    found = noise > 0.5
    both = int((found & noisy).sum())
    called = int(found.sum()) + positives
    return {
        "AUC": float(ranks / (positives * negatives)) if positives and negatives else float("nan"),
        "F1": 2 * both / called if called else float("nan"),
    }
