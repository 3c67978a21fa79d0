"""Sweeps: every combination, each in its own directory, refused before anything is trained where it cannot work."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hashret.config import build
from hashret.data import Dataset
from hashret.errors import ConfigError
from hashret.training import RunConfig
from hashret.training.sweep import at, folder_of, points_of, sweep, table, with_length


def test_points_are_every_combination() -> None:
    points = points_of(["seed=0, 1", "n_bits=16,64"])
    assert points == [
        (("seed", "0"), ("n_bits", "16")),
        (("seed", "0"), ("n_bits", "64")),
        (("seed", "1"), ("n_bits", "16")),
        (("seed", "1"), ("n_bits", "64")),
    ]
    (points,) = zip(*points_of(["model.code_lengths=[16, 64],[64],{a: [1, 2], b: 3}"]))
    assert [value for _, value in points] == ["[16, 64]", "[64]", "{a: [1, 2], b: 3}"]


@pytest.mark.parametrize("axes", [[], ["seed"], ["seed="], ["=1"], ["seed=0", "seed=1"]])
def test_an_axis_that_cannot_be_read_is_refused(axes: list[str]) -> None:
    with pytest.raises(ConfigError, match="sweep"):
        points_of(axes)


def test_a_long_point_has_a_directory_that_file_systems_take() -> None:
    assert folder_of((("seed", "0"), ("n_bits", "64"))) == "seed=0,n_bits=64"
    names = [folder_of((("stages.heads.losses.é", "x" * 300 + end),)) for end in "ab"]
    assert names[0] != names[1] and all(len(name.encode()) < 255 and "=xxx" in name for name in names)


def test_a_length_takes_nested_ones_and_the_selection_with_it(config: Callable[..., RunConfig]) -> None:
    shorter = with_length(config(), 32)
    assert shorter.model.n_bits == 32 and shorter.model.code_lengths == (16, 32)
    assert shorter.selection.lengths == (16, 32)
    assert at(config(), (("model.code_lengths", "[32, 64]"),)).model.code_lengths == (32, 64)
    assert at(config(), (("n_bits", "16"), ("stages.heads.lr", "0.5"))).stages[0].lr == 0.5
    weights = {"kind": "joint_infonce", "length_weights": [3, 1]}
    weighted = config(stage={"losses": {"joint": weights, "near": {"kind": "infonce", "lengths": [8, 64]}}})
    for n_bits, expected, near in ((64, [3, 1], [8, 64]), (32, [3, 1], [8]), (16, [3], [8]), (4, [3], [4])):
        losses = with_length(weighted, n_bits).stages[0].losses
        assert losses["joint"]["length_weights"] == expected and losses["near"]["lengths"] == near
    mixed_up = replace(weighted, model=replace(weighted.model, code_lengths=weighted.model.code_lengths[::-1]))
    assert with_length(mixed_up, 32).stages[0].losses["joint"]["length_weights"] == [1, 3]
    assert with_length(weighted, 128).stages[0].losses["joint"]["length_weights"] == [3, 1, 1]
    assert with_length(config(), 64) == config()
    partly = config(selection={"n_bits": [16]})  # a length that stays is what is chosen by
    assert with_length(partly, 32).selection.lengths == with_length(partly, 64).selection.lengths == (16,)
    with pytest.raises(ConfigError, match="whole number"):
        at(config(), (("n_bits", "many"),))


def test_a_sweep_trains_each_point_and_writes_mean_and_spread(picture_set: Dataset, tmp_path: Path) -> None:
    towers: dict[str, Any] = {
        "image": {"encoder": {"kind": "image", "name": "test_vit", "weights": "none", "image_size": 32}},
        "text": {"encoder": {"kind": "bag", "name": "bow", "vocabulary_size": 16}},
    }
    stage = {"name": "heads", "epochs": 1, "batch_size": 16, "losses": {"joint": {"kind": "joint_infonce"}}}
    config = build(RunConfig, {"name": "tiny", "model": {"n_bits": 32, "towers": towers}, "stages": [stage]})
    axes = ["seed=0,1", "n_bits=16"]
    results = list(sweep(config, axes, picture_set, out=tmp_path, cache_dir=tmp_path / "cache", device="cpu"))
    assert [point for point, _ in results] == points_of(axes)
    assert (tmp_path / "seed=1,n_bits=16" / "model").is_dir()
    rows = json.loads((tmp_path / "sweep.json").read_text())
    assert [row["seed"] for row in rows] == ["0", "1"] and all(set(row["rSum"]) == {"16"} for row in rows)
    lines = list(table(rows))
    wrong = sweep(config, ["stages.heads.losses.joint.temperature=0.1,-1"], picture_set, out=tmp_path / "wrong")
    with pytest.raises(ConfigError, match="temperature"):
        next(wrong)
    assert not (tmp_path / "wrong").exists()  # said before the first point was trained
    assert "±" in lines[-1] and lines[-1].endswith("| 2 |")
