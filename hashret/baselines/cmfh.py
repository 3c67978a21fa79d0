"""Collective matrix factorisation hashing: one latent matrix behind both modalities."""

from __future__ import annotations

import numpy as np

from hashret.baselines.base import Affine, Baseline, Floats


class CMFH(Baseline):
    """``min Σ_t λ_t ‖X_t - U_t V‖² + μ Σ_t ‖V - W_t X_t‖² + γ (‖V‖² + Σ ‖U_t‖² + Σ ‖W_t‖²)``, code ``sign(W_t x)``.

    Features are centred and scaled to length 1 on average, so that the penalties mean the same for all features;
    without that V may shrink until every code is the same, and the figures are the base rate. Solved by turns:

        U_t = X_t Vᵀ (V Vᵀ + γ/λ_t I)⁻¹
        W_t = V X_tᵀ (X_t X_tᵀ + γ/μ I)⁻¹
        V   = (Σ λ_t U_tᵀ U_t + (2 μ + γ) I)⁻¹ Σ (λ_t U_tᵀ + μ W_t) X_t

    The signs of V are codes of the *pairs* learned from, which know both modalities. Papers that search the training
    set with text queries compare them with these codes, which is why they print much better figures for text→image than
    for image→text; an item that has a picture only can have no such code, and none is given here.

    Args:
        n_bits: length of the codes.
        seed: of the first V.
        weight: λ of pictures; texts have 1 - λ.
        coupling: μ.
        penalty: γ.
        rounds: of alternation.
        rows: pairs learned from at most, drawn at random; None: all. A round costs O(n · n_bits · D).

    *Source:* Ding, Guo and Zhou, "Collective matrix factorization hashing for multimodal data", CVPR 2014.
    """

    def __init__(
        self,
        *,
        n_bits: int,
        seed: int = 0,
        weight: float = 0.5,
        coupling: float = 100.0,
        penalty: float = 0.01,
        rounds: int = 50,
        rows: int | None = None,
    ) -> None:
        super().__init__(n_bits=n_bits, seed=seed)
        self.weight, self.coupling, self.penalty, self.rounds = weight, coupling, penalty, rounds
        self.rows = rows

    def _learn(self, images: Floats, texts: Floats, labels: Floats | None) -> tuple[Affine, Affine]:
        rng = np.random.default_rng(self.seed)
        if self.rows is not None and self.rows < len(images):
            chosen = np.sort(rng.permutation(len(images))[: self.rows])
            images, texts = images[chosen], texts[chosen]
        means = [x.mean(axis=0) for x in (images, texts)]
        centred = [x - mean for x, mean in zip((images, texts), means)]
        scales = [1.0 / max(float(np.sqrt((x**2).sum(axis=1).mean())), 1e-12) for x in centred]
        features = [x.T * scale for x, scale in zip(centred, scales)]  # (D_t, n)
        weights = (self.weight, 1.0 - self.weight)
        identity = np.eye(self.n_bits)
        latent = rng.standard_normal((self.n_bits, len(images)))
        inverses = [np.linalg.inv(x @ x.T + self.penalty / self.coupling * np.eye(len(x))) for x in features]
        for _ in range(self.rounds):
            gram = latent @ latent.T
            bases = [
                np.linalg.solve(gram + self.penalty / max(weight, 1e-12) * identity, latent @ x.T).T
                for x, weight in zip(features, weights)
            ]
            maps = [latent @ x.T @ inverse for x, inverse in zip(features, inverses)]
            system: Floats = (2 * self.coupling + self.penalty) * identity
            target = np.zeros_like(latent)
            for x, base, linear, weight in zip(features, bases, maps, weights):
                system = system + weight * base.T @ base
                target += (weight * base.T + self.coupling * linear) @ x
            latent = np.asarray(np.linalg.solve(system, target), dtype=np.float64)
        maps = [latent @ x.T @ inverse for x, inverse in zip(features, inverses)]
        zero = np.zeros(self.n_bits)
        first, second = (Affine(mean, linear.T * scale, zero) for mean, linear, scale in zip(means, maps, scales))
        return first, second
