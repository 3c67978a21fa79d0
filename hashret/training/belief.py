"""How far each training pair is believed: the noise handler of a stage, fed by one pass over all pairs an epoch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hashret.model import CrossModalHasher
from hashret.training.pairs import PairFeatures
from hashret.training.refurbish import RefurbishConfig, Refurbisher, detection, ledger_of, match_scores
from hashret.training.validation import logits_of

MARGIN = 0.2  # of the hinge whose size tells false pairs from true ones


class Belief:
    """Loss of every pair → mixture of clean and false → target of every pair.

    Args:
        config: of the stage.
        noisy: (M,) bool, the pairs known to be false, to report how well they are found; None: not known.
    """

    def __init__(self, config: RefurbishConfig, *, noisy: np.ndarray | None) -> None:
        self.config, self.noisy = config, noisy
        self.refurbisher = Refurbisher(config)
        self.targets: Tensor | None = None

    def update(self, hasher: CrossModalHasher, pairs: PairFeatures, *, epoch: int, seed: int) -> dict[str, float]:
        """Look at every pair with the model as it is; afterwards ``targets`` holds (M,) in [0, 1], or None.

        Returns:
            figures for the curves; AUC and F1 of finding false pairs where they are known.
        """
        if epoch < self.config.warmup:
            return {}
        images, texts = (torch.from_numpy(logits_of(hasher, m, getattr(pairs, m))) for m in ("image", "text"))
        generator = torch.Generator().manual_seed(seed)
        losses, i2t, t2i = ledger_of(images, texts, pairs.owner.cpu(), margin=MARGIN, generator=generator)
        refurbished = self.refurbisher.update(losses.numpy(), match_scores(i2t.numpy(), t2i.numpy(), margin=MARGIN))
        self.targets = torch.from_numpy(refurbished.target)
        figures = {"noise.separated": float(refurbished.separated), "noise.mean": float(refurbished.noise.mean())}
        if self.noisy is not None and self.noisy.any():
            figures |= {f"noise.{name}": value for name, value in detection(refurbished.noise, self.noisy).items()}
        return figures

    def state(self) -> dict[str, Tensor]:
        """What a resumed stage needs, by name."""
        return {f"belief/{name}": torch.from_numpy(array) for name, array in self.refurbisher.state().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of ``state``."""
        start = "belief/"
        self.refurbisher.restore({n.removeprefix(start): t.numpy() for n, t in tensors.items() if n.startswith(start)})
