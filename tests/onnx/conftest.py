"""Small models of every kind of tower, exported once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
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
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a BERT with 2 layers of width 32: configuration, weights, tokenizer."""
    from hashret.encoders import _torchvision

    _torchvision.ready()
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=5 + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=48,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make(bert: Path) -> Callable[..., CrossModalHasher]:
    """A model from the encoders of both towers; ``more`` holds further options of a tower."""

    def make(image: dict[str, Any], text: dict[str, Any], *, n_bits: int = 100, **more: Any) -> CrossModalHasher:
        towers = {
            "image": {"encoder": image, "head": {"hidden": 16}, **more},
            "text": {
                "encoder": text if text["kind"] != "text" else {"name": str(bert), **text},
                "head": {"hidden": 16},
                **more,
            },
        }
        torch.manual_seed(0)
        config = build(ModelConfig, {"n_bits": n_bits, "code_lengths": [32, n_bits], "towers": towers})
        hasher = CrossModalHasher.build(config)
        encoder = hasher.tower("text").encoder
        encoder.fit(itertools.islice(samples.texts(), 100))
        return hasher

    return make
