"""Can modality be told from codes? A fresh linear probe on held-out relaxed codes, and the cheap null beside it.

An adversary is worth its cost only where it brings the probe nearer to chance than subtracting each modality's median
does, at no loss of retrieval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from hashret.codes import pack
from hashret.errors import InputError

MIN_PAIRS = 4


@dataclass(frozen=True)
class Probe:
    """What a linear probe found.

    Args:
        accuracy: share of unseen codes whose modality it told; 0.5 is chance.
        train_accuracy: the same on the half that it learnt from.
        count: codes that it was measured on.
    """

    accuracy: float
    train_accuracy: float
    count: int


def modality_probe(image: np.ndarray, text: np.ndarray, *, seed: int = 0, penalty: float = 1e-3) -> Probe:
    """Train a linear probe on one half of held-out pairs, and measure it on the other.

    Args:
        image: (N, n_bits) relaxed codes of images that no model was trained on, or ±1.
        text: (N, n_bits) relaxed codes, row i a caption of image i; both of a pair fall into one half.
        seed: of the halves.
        penalty: weight of ‖w‖²/2 in the logistic loss (on features of unit variance).

    Raises:
        InputError: the shapes differ, or there are fewer than 4 pairs.

    *Source:* Alain & Bengio, Understanding intermediate layers using linear classifier probes, ICLR 2017 workshop.
    """
    if image.shape != text.shape or image.ndim != 2 or len(image) < MIN_PAIRS:
        raise InputError(
            f"a probe needs as many texts as images, at least {MIN_PAIRS} each and of one length, and was given "
            f"{image.shape} and {text.shape}; take one caption an image"
        )
    order = np.random.default_rng(seed).permutation(len(image))
    halves = [order[: len(order) // 2], order[len(order) // 2 :]]
    features, labels = zip(*(_stack(image[rows], text[rows]) for rows in halves))
    mean, deviation = features[0].mean(0), features[0].std(0).clamp_min(1e-6)
    features = tuple((x - mean) / deviation for x in features)
    weight, bias = _logistic(features[0], labels[0], penalty=penalty)
    scores = [(((x @ weight + bias) > 0) == (y > 0.5)).double().mean().item() for x, y in zip(features, labels)]
    return Probe(accuracy=scores[1], train_accuracy=scores[0], count=len(labels[1]))


def median_codes(logits: np.ndarray, *, reference: np.ndarray) -> np.ndarray:
    """Codes whose every bit is on above its median in one modality: the null that an adversary has to beat.

    Args:
        logits: (N, n_bits) logits or relaxed codes of one modality.
        reference: (M, n_bits) of the same modality, from the training or validation split.

    Returns:
        (N, n_bytes) uint8 codes.
    """
    return pack(logits > np.median(reference, axis=0))


def _stack(image: np.ndarray, text: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    codes = torch.from_numpy(np.concatenate([image, text])).double()
    return codes, torch.cat([torch.ones(len(image)), torch.zeros(len(text))]).double()


def _logistic(x: torch.Tensor, y: torch.Tensor, *, penalty: float) -> tuple[torch.Tensor, torch.Tensor]:
    weight = torch.zeros(x.shape[1], dtype=x.dtype, requires_grad=True)
    bias = torch.zeros((), dtype=x.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(x @ weight + bias, y)
        loss = loss + 0.5 * penalty * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimiser.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
