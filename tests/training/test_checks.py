"""What is wrong in a configuration is said before a picture is encoded, and nothing of it is silently ignored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hashret.config import build, difference
from hashret.data import Dataset
from hashret.errors import ConfigError
from hashret.model import CrossModalHasher, RerankerConfig
from hashret.training import RunConfig, train
from hashret.training.checks import check_groups, check_losses
from hashret.training.forward import check_needs
from hashret.training.optimiser import Stepper


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ({"losses": {"joint": {"kind": "joint_infonce", "temprature": 0.1}}}, "did you mean 'temperature'"),
        ({"losses": {"joint": {"kind": "joint_infonze"}}}, "did you mean 'joint_infonce'"),
        ({"losses": {"joint": {"kind": "triplet", "margin": float("inf")}}}, "margin must be a finite number"),
        ({"losses": {"joint": {"kind": "adversary", "top": float("nan")}}}, "top must be a finite number"),
        ({"train": ["hedas"]}, "did you mean 'heads'"),
        ({"train": ["reranker"]}, "no loss of the stage reaches it; add the loss matching"),
        ({"train": ["reranker"], "losses": {"matching": {"kind": "matching"}}}, "no trainable parameters"),
        ({"alternate": [["hedas"], ["heads"]]}, "did you mean 'heads'"),
        ({"lr": {"hedas": 1e-3}}, "did you mean 'heads'"),
    ],
)
def test_it_is_said_before_anything_is_encoded(
    config: Callable[..., RunConfig], picture_set: Dataset, tmp_path: Path, stage: dict[str, Any], said: str
) -> None:
    made = config(stage=stage)
    with pytest.raises(ConfigError, match=said):
        check_losses(made)
        check_groups(made, CrossModalHasher.build(made.model))
    with pytest.raises(ConfigError, match=said):
        train(made, picture_set, out=tmp_path / "run", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_matching_asks_a_re_ranker_that_a_stage_has_taught(config: Callable[..., RunConfig]) -> None:
    made = config(stage={"losses": {"matching": {"kind": "matching"}}})
    asked = replace(made, model=replace(made.model, reranker=RerankerConfig(kind="fusion", width=8)))
    with pytest.raises(ConfigError, match=r"no stage so far teaches .*add reranker to stages.heads.train"):
        check_losses(asked)
    teaching = replace(asked.stages[0], name="teaching", train=("reranker",))
    check_losses(replace(asked, stages=(teaching, *asked.stages)))
    with pytest.raises(ConfigError, match="no stage teaches it; add reranker to a stage's train"):
        check_losses(replace(asked, stages=config().stages))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"alternate": [["image.head"]]}, "text.head.* has no turn"),
        ({"train": ["image.head"], "alternate": [["image.head"], ["text.head"]]}, "text.head.* does not learn"),
        ({"train": ["image.head"], "lr": {"heads": 1e-3, "text.head": 1e-4}}, "'text.head', which does not learn"),
    ],
)
def test_every_part_that_is_named_learns_and_has_its_turn(
    config: Callable[..., RunConfig], changes: dict[str, Any], said: str
) -> None:
    made = config(stage=changes)
    with pytest.raises(ConfigError, match=said):
        Stepper(CrossModalHasher.build(made.model), {}, made.stages[0], total=1)


def test_captions_are_not_compared_with_themselves(
    config: Callable[..., RunConfig], hasher: Callable[..., CrossModalHasher], tables: Callable[..., Any]
) -> None:
    made = config(stage={"losses": {"texts": {"kind": "text_text"}}})
    one = tables(20, captions=1)
    needs = frozenset({"second_caption"})
    check_needs(hasher(made), made.stages[0], "texts", needs, tables(20, captions=2))
    with pytest.raises(ConfigError, match="several captions an image, and each has one"):
        check_needs(hasher(made), made.stages[0], "texts", needs, one)


def test_a_mixer_is_shared_by_both_towers_or_by_none(config: Callable[..., RunConfig]) -> None:
    made = config()
    bag = {"kind": "features", "name": "own", "width": 8, "output": "tokens"}
    towers = {
        "image": {"encoder": {**bag, "modality": "image"}, "mixers": [{"heads": 2, "shared": True}]},
        "text": {"encoder": {**bag, "modality": "text"}, "mixers": [{"heads": 2}]},
    }
    model = build(type(made.model), {"n_bits": 16, "towers": towers})
    with pytest.raises(ConfigError, match="have 1 and 0 with shared: true"):
        CrossModalHasher.build(model)


def test_the_first_token_of_a_network_without_a_class_token_is_refused(config: Callable[..., RunConfig]) -> None:
    made = config()
    image = {"kind": "image", "name": "test_efficientnet", "weights": "none", "output": "tokens"}
    for pooler in ("first", "first_mean"):
        tower = {"encoder": image, "pooler": pooler}
        model = build(type(made.model), {"n_bits": 16, "towers": {"image": tower, "text": {"encoder": TEXT}}})
        with pytest.raises(ConfigError, match=f"the pooler '{pooler}' takes a class token"):
            CrossModalHasher.build(model)


TEXT = {"kind": "features", "name": "own", "width": 8, "modality": "text"}


def test_the_first_difference_of_two_configurations_has_a_name() -> None:
    one = {"a": 1, "b": [{"c": 2}, {"d": 3}]}
    assert difference(one, one) == ""
    assert difference(one, {**one, "e": 4}) == "e"
    assert difference(one, {"a": 1, "b": [{"c": 2}, {"d": 5}]}) == "b.1.d"
    assert difference(one, {"a": 1, "b": []}) == "b"
