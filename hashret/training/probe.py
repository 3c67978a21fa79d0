"""Can modality be told from codes? A fresh linear probe on held-out relaxed codes, and the cheap null beside it.

An adversary is worth its cost only where it brings the probe nearer to chance than subtracting each modality's median
does, at no loss of retrieval; ``modality_report`` gives all four figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from hashret.codes import pack
from hashret.errors import InputError
from hashret.evaluation import evaluate_codes
from hashret.model import CrossModalHasher
from hashret.training.pairs import PairFeatures
from hashret.training.validation import logits_of

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


@dataclass(frozen=True)
class ModalityReport:
    """How much of modality is in the codes, and what taking it out costs.

    Args:
        probe: on relaxed codes.
        r_sum: of the codes, code against code.
        null_probe: on relaxed codes shifted by the median of their modality.
        null_r_sum: of the codes above that median.
    """

    probe: Probe
    r_sum: float
    null_probe: Probe
    null_r_sum: float


def modality_report(
    hasher: CrossModalHasher,
    held_out: PairFeatures,
    reference: PairFeatures,
    *,
    n_bits: int | None = None,
    seed: int = 0,
) -> ModalityReport:
    """Probe a model on pairs that it was not trained on, one caption an image.

    Args:
        hasher: the model.
        held_out: pairs of another split than the training's.
        reference: the pairs whose medians the null subtracts, such as the training split's.
        n_bits: a prefix of the codes; None: whole codes.
        seed: of the probe's halves.
    """
    length = n_bits or hasher.n_bits
    logits = {m: logits_of(hasher, m, getattr(held_out, m)) for m in ("image", "text")}
    medians = {m: np.median(logits_of(hasher, m, getattr(reference, m)), axis=0) for m in logits}
    first = np.unique(held_out.owners, return_index=True)[1]

    def measure(shift: dict[str, np.ndarray]) -> tuple[Probe, float]:
        moved = {m: logits[m] - shift[m] for m in logits}
        relaxed = {m: hasher.relaxed_of(m, moved[m], length) for m in moved}
        probe = modality_probe(relaxed["image"], relaxed["text"][first], seed=seed)
        codes = {m: pack(relaxed[m]) for m in moved}
        return probe, evaluate_codes(codes["image"], codes["text"], held_out.owners, n_bits=length).r_sum

    own, null = measure(dict.fromkeys(logits, np.zeros(hasher.n_bits, np.float32))), measure(medians)
    return ModalityReport(probe=own[0], r_sum=own[1], null_probe=null[0], null_r_sum=null[1])


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
