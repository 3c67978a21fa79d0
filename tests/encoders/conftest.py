"""Tiny real models: a BERT and a CLIP with a small WordPiece vocabulary, written to folders, and pictures."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"  # read once by the hub's client, when it is imported
WORDS = ["a", "an", "the", "dog", "cat", "on", "in", "beach", "snow", "runs", "sleeps", "red", "blue", "car", "man"]
WORDS += ["with", "two", "##s", "##ing"]
CAPTIONS = ["a dog runs on the beach", "two cats sleeping in the snow", "a man with a red car", "dog", "a blue car"]


@pytest.fixture
def captions() -> list[str]:
    return list(CAPTIONS)


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder such as the hub gives: configuration, weights and tokenizer of a BERT with 4 layers of width 32."""
    from hashret.encoders import _torchvision

    _torchvision.ready()
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=5 + len(WORDS),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=48,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizerFast(vocab_file=str(vocabulary)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Ten small JPEG files of different sizes."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    paths = []
    for number in range(10):
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        path = folder / f"{number}.jpg"
        coarse.resize((180 + 10 * number, 200), Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return paths
