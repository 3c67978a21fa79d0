"""Small models without pretrained weights, and one with real encoders of both modalities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
