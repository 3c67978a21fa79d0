"""Small models of every kind of tower, exported once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from hashret.config import build
from hashret.model import CrossModalHasher, ModelConfig
from hashret.onnx import samples

WORDS = sorted({word for text in samples.texts() for word in text.lower().replace(",", "").split() if word.isascii()})
CNN = {"kind": "image", "name": "test_efficientnet", "weights": "none"}
VIT = {"kind": "image", "name": "test_vit", "weights": "none", "train_blocks": 2, "token_grid": 3}
BAG = {"kind": "bag", "name": "tfidf", "vocabulary_size": 40}


@pytest.fixture(scope="session")
def make(bert_of: Callable[[Sequence[str]], Path]) -> Callable[..., CrossModalHasher]:
    """A model from the encoders of both towers; ``more`` holds further options of a tower."""
    bert = bert_of(WORDS)

    def make(
        image: dict[str, Any],
        text: dict[str, Any],
        *,
        n_bits: int = 100,
        rounding: dict[str, float] | None = None,
        **more: Any,
    ) -> CrossModalHasher:
        towers = {
            "image": {"encoder": image, "head": {"hidden": 16}, **more},
            "text": {
                "encoder": text if text["kind"] != "text" else {"name": str(bert), **text},
                "head": {"hidden": 16},
                **more,
            },
        }
        torch.manual_seed(0)
        content = {"n_bits": n_bits, "code_lengths": [32, n_bits], "towers": towers, "rounding": rounding}
        config = build(ModelConfig, content)
        hasher = CrossModalHasher.build(config)
        encoder = hasher.tower("text").encoder
        encoder.fit(itertools.islice(samples.texts(), 100))
        return hasher

    return make
