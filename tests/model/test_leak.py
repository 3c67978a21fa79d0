"""No code depends on another item: for every configuration in configs/, whatever its partner and its batch.

Each model is built as configured, but on tiny random encoders of the same kinds, which are told to give the same
outputs (tokens or pooled, trained blocks or not).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from hashret.encoders import EncoderConfig, build_encoder
from hashret.model import CrossModalHasher
from hashret.training import read_config

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").rglob("*.yaml"))
TEXTS = ["a dog on the beach", "two cats in snow", "a man with a red car", "dog", "a blue car runs"]
PICTURES = [np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8) for seed in range(5)]
ITEMS = {"image": PICTURES, "text": TEXTS}


def tiny(config: EncoderConfig, bert: Path) -> EncoderConfig:
    """The same encoder in small: a ViT for a ViT, a CNN for a CNN, a BERT for a BERT, without trained weights."""
    blocks = min(config.train_blocks, 2)
    if config.kind == "image":
        vit = "vit" in config.name
        grid = config.token_grid and min(config.token_grid, 2)
        return dataclasses.replace(
            config,
            name="test_vit" if vit else "test_efficientnet",
            weights="none",
            image_size=64,
            train_blocks=blocks,
            token_grid=grid,
            stand_in=None,
        )
    if config.kind == "text":
        return dataclasses.replace(
            config,
            name=str(bert),
            weights="none",
            train_blocks=blocks,
            max_length=min(config.max_length, 32),
            stand_in=None,
        )
    return config


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda path: path.stem)
def hasher(request: pytest.FixtureRequest, bert_folder: Path) -> CrossModalHasher:
    """A model of a configuration, its weights drawn wide enough that items differ."""
    model = read_config(request.param).model
    towers = {
        modality: dataclasses.replace(tower, encoder=tiny(tower.encoder, bert_folder))
        for modality, tower in model.towers.items()
    }
    torch.manual_seed(0)
    encoders = {modality: build_encoder(tower.encoder) for modality, tower in towers.items()}
    for modality, encoder in encoders.items():
        encoder.fit(ITEMS[modality])
    hasher = CrossModalHasher(dataclasses.replace(model, towers=towers), encoders)
    if hasher.reranker is not None:
        torch.nn.init.normal_(hasher.reranker.read.weight)
    if model.rounding is not None:
        hasher.learn_rounding({modality: hasher.encode_floats(modality, items) for modality, items in ITEMS.items()})
    return hasher


def test_there_are_configurations():
    assert {"hashret", "emoji"} <= {path.stem for path in CONFIGS}


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_code_does_not_depend_on_its_batch(hasher, leaks, modality):
    leaks(hasher, modality, ITEMS[modality])
    logits = hasher.encode_floats(modality, ITEMS[modality])
    assert len(np.unique(logits, axis=0)) == len(logits)  # the items do differ, so that a leak would show


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_code_is_bit_identical_when_the_others_of_its_batch_are_replaced(hasher, modality):
    """The same place in a batch of the same size: no rounding differs, so neither may any bit of any float."""
    tower = hasher.tower(modality)
    inputs = tower.encoder.prepare(ITEMS[modality])
    kept = 2
    others = torch.tensor([4, 4, kept, 1, 1])
    outputs = []
    for rows in (torch.arange(5), others):
        mine = {name: tensor[rows] for name, tensor in inputs.items()}
        outputs += list(hasher.project(modality, [tower.encoder.prefix(mine)]))
    assert torch.equal(outputs[0].logits[kept], outputs[1].logits[kept])
    assert not torch.equal(outputs[0].logits[0], outputs[1].logits[0])


def test_a_code_is_bit_identical_whatever_partner_it_was_scored_with(hasher):
    """Pairs are scored between two encodings, each time others, and nothing of a code may change."""
    sides = {}
    for modality, items in ITEMS.items():
        encoder = hasher.tower(modality).encoder
        sides[modality] = next(hasher.project(modality, [encoder.prefix(encoder.prepare(items))]))
    before = {m: hasher.encode(m, items, relaxed=True, batch_size=1) for m, items in ITEMS.items()}
    fingerprint = hasher.fingerprint
    for shift in (0, 2):
        if hasher.reranker is not None:
            scores = hasher.rerank(sides["image"], sides["text"], np.arange(5), (np.arange(5) + shift) % 5)
            assert np.isfinite(scores).all() and scores.std() > 0
        partners = {m: items[shift:] + items[:shift] for m, items in ITEMS.items()}
        for modality in ("text", "image"):
            codes = hasher.encode(modality, partners[modality], relaxed=True, batch_size=1)
            np.testing.assert_array_equal(np.roll(codes, shift, axis=0), before[modality])
    assert hasher.fingerprint == fingerprint
