"""Small models without pretrained weights, and one with real encoders of both modalities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hashret.config import build
from hashret.model import CrossModalHasher, ModelConfig


def features(modality: str, width: int, **more: Any) -> dict[str, Any]:
    return {"kind": "features", "name": "own", "width": width, "modality": modality, **more}


@pytest.fixture
def make() -> Callable[..., CrossModalHasher]:
    """A model on own features, 12 wide for images and 10 for texts; ``tower`` holds options of both towers."""

    def make(*, n_bits: int = 20, tower: dict[str, Any] | None = None, output: str = "pooled", **model: Any):
        towers = {
            modality: {"encoder": features(modality, width, output=output), **(tower or {})}
            for modality, width in (("image", 12), ("text", 10))
        }
        torch.manual_seed(0)
        return CrossModalHasher.build(build(ModelConfig, {"n_bits": n_bits, "towers": towers, **model}))

    return make


@pytest.fixture(scope="session")
def drawn() -> Callable[[torch.nn.Module], torch.nn.Module]:
    """A part in float64 and evaluation whose every parameter is drawn, biases and norms too, whatever ran before."""

    def drawn(part: torch.nn.Module) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(2)
        part = part.double().eval()
        with torch.no_grad():
            for parameter in part.parameters():
                parameter.copy_(0.6 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        return part

    return drawn


@pytest.fixture(scope="session")
def leaks() -> Callable[[CrossModalHasher, str, list[Any]], None]:
    """A check that the code of each of ``items`` depends on that item alone."""

    def leaks(hasher: CrossModalHasher, modality: str, items: list[Any]) -> None:
        """An item's logits are the same to rounding in any batch, so its bits are wherever a logit is not nearly 0."""
        alone = np.concatenate([hasher.encode(modality, [item], relaxed=True) for item in items])
        again = np.concatenate([hasher.encode(modality, [item], relaxed=True) for item in items])
        np.testing.assert_array_equal(alone, again)  # one batch size on one machine: every bit of every float
        rng = np.random.default_rng(1)
        for batch_size in (2, 3, len(items)):
            order = rng.permutation(len(items))
            partners = [items[row] for row in order]
            together = np.empty_like(alone)
            together[order] = hasher.encode(modality, partners, relaxed=True, batch_size=batch_size)
            scale = np.abs(alone).mean()
            np.testing.assert_allclose(together, alone, atol=2e-5 * scale)
            clear = np.abs(alone) > 2e-5 * scale
            assert clear.mean() > 0.999
            assert ((together > 0) == (alone > 0))[clear].all()

    return leaks
