"""Configurations of runs: what is refused before anything is trained, and with which words."""

from __future__ import annotations

import json
import math

import pytest
import yaml

from hashret.config import build, plain
from hashret.errors import ConfigError, HashretError
from hashret.training import RunConfig, Trainer, read_config
from hashret.training.config import weight_at


def test_a_configuration_survives_being_saved(config):
    made = config(stage={"beta": [1, 10], "lr": {"heads": 1e-3}, "alternate": [["image.head"], ["text.head"]]})
    assert build(RunConfig, yaml.safe_load(yaml.safe_dump(plain(made)))) == made
    json.dumps(plain(made))


def test_overrides_reach_a_stage_by_name(config, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(plain(config())), encoding="utf-8")
    settings = ["stages.heads.lr=1e-4", "model.n_bits=64", "seed=3", "stages.heads.losses.joint.temperature=0.2"]
    made = read_config(path, settings)
    assert (made.stages[0].lr, made.seed, made.stages[0].losses["joint"]["temperature"]) == (1e-4, 3, 0.2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stage": {"epoch": 3}}, "did you mean 'epochs'"),
        ({"stage": {"epochs": 0}}, "epochs must be at least 1"),
        ({"stage": {"batch_size": 1}}, "batch_size must be at least 2"),
        ({"stage": {"captions": 40}}, "fewer than two items of 40 captions"),
        ({"stage": {"losses": {}}}, "no losses"),
        ({"stage": {"losses": {"a": {"kind": 3}}}}, "needs a kind"),
        ({"stage": {"beta": 0.0}}, "steepness of tanh"),
        ({"stage": {"beta": [1.0, 2.0, 3.0]}}, "beta must have 2 entries"),
        ({"stage": {"lr": {"heads": "fast"}}}, "lr.heads must be a number"),
        ({"stage": {"start": "best"}, "selection": {"stage": "heads"}}, "selection.stage lets none before it"),
        ({"stage": {"losses": {"a": {"weight": 1}}}}, "needs a kind"),
        ({"stage": {"warmup": 5}}, "warmup is a share"),
        ({"stage": {"lr": -1}}, "finite numbers from 0 on"),
        ({"stage": {"lr": float("nan")}}, "finite numbers from 0 on"),
        ({"stage": {"weight_decay": float("inf")}}, "finite numbers from 0 on"),
        ({"stage": {"ema": 1.0}}, "ema is a decay"),
        ({"stage": {"mix": 2}}, "mix is a share"),
        ({"stage": {"mix": 0.5, "refurbish": {}}}, "refurbish believes single captions"),
        ({"stage": {"patience": 0}}, "patience"),
        ({"stage": {"grad_clip": 0}}, "grad_clip"),
        ({"stage": {"grad_clip": float("nan")}}, "grad_clip is a finite number"),
        ({"stage": {"beta": [1.0, float("inf")]}}, "steepness of tanh, is a finite number"),
        ({"data": {"val": "train"}}, "both name the split 'train'"),
        ({"stage": {"schedule": "step"}}, "schedule"),
        ({"stages": []}, "at least one stage"),
        ({"selection": {"n_bits": 65}}, "selection.n_bits"),
        ({"selection": {"metric": "mAP"}}, "metric"),
        ({"data": {"limit": 0}}, "data.limit"),
        ({"sed": 1}, "did you mean 'seed'"),
    ],
)
def test_wrong_values_are_named(config, changes, said):
    with pytest.raises(ConfigError, match=said):
        if changes.get("stages") == []:
            build(RunConfig, {**plain(config()), "stages": []})
        else:
            config(**changes)


def test_two_stages_need_two_names(config):
    content = plain(config())
    with pytest.raises(ConfigError, match="name of its own"):
        build(RunConfig, {**content, "stages": content["stages"] * 2})


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"train": ["head"]}, "did you mean 'heads'"),
        ({"train": ["image.encoder"]}, "no trainable parameters in this model; set train_blocks"),
        ({"train": ["poolers"]}, "no trainable parameters"),
        ({"alternate": [["heads"], ["advers"]]}, "which is no group"),
        ({"lr": {"image.head": 1e-3}}, "no rate for 'heads'"),
        ({"lr": {"heads": 1e-3, "haeds": 1e-3}}, "names 'haeds'"),
        ({"losses": {"a": {"kind": "infonc"}}}, "did you mean 'infonce'"),
        ({"losses": {"a": {"kind": "infonce", "temperture": 1}}}, "did you mean 'temperature'"),
        ({"losses": {"a": {"kind": "infonce", "weight": "heavy"}}}, "weight of a loss"),
        ({"losses": {"a": {"kind": "infonce", "weight": -1}}}, "weight of a loss is a number of 0 or more"),
        ({"losses": {"a": {"kind": "infonce", "weight": [1, -1]}}}, "weight of a loss is a number of 0 or more"),
        ({"losses": {"a": {"kind": "infonce", "weight": math.nan}}}, "weight of a loss is a number of 0 or more"),
        ({"losses": {"a": {"kind": "infonce", "temperature": math.inf}}}, "temperature must be a number above 0"),
        ({"losses": {"a": {"kind": "infonce", "temperature": 0.9, "learnable": True}}}, "begins from 0.01 to 0.5"),
        ({"losses": {"a": {"kind": "infonce", "length_weights": [1, math.nan]}}}, "length_weights must be"),
        ({"losses": {"a": {"kind": "quantisation"}}, "refurbish": {}}, "no loss of the stage reads that; add one of"),
        ({"train": []}, "trains nothing"),
        ({"losses": {"heads": {"kind": "adversary"}}}, "name of a group"),
    ],
)
def test_what_does_not_fit_the_model_is_said_before_training(config, hasher, tables, stage, said):
    made = config(stage=stage)
    with pytest.raises(HashretError, match=said):
        Trainer(hasher(made), made, train=tables(8), val=tables(8), out=None)


def test_a_weight_may_ramp():
    assert weight_at({"kind": "x"}, 0.5) == 1.0
    assert weight_at({"kind": "x", "weight": "1e-1"}, 0.5) == 0.1
    assert weight_at({"kind": "x", "weight": [0, 0.4]}, 0.25) == pytest.approx(0.1)
