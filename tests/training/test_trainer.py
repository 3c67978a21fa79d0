"""The loop on pairs that can be learnt."""

from __future__ import annotations

import csv
import logging
import math
from dataclasses import replace

import pytest
import torch

from hashret.errors import ConfigError, TrainingError
from hashret.model import CrossModalHasher
from hashret.model.devices import has_bfloat16
from hashret.training import Trainer
from hashret.training.groups import parameters_of, rates
from hashret.training.optimiser import Stepper
from hashret.training.pairs import TableOn
from hashret.training.validation import validate


@pytest.fixture
def trained(config, hasher, tables):
    """``trained(stage={…}, …)``: a trainer that ran on 256 pairs and 64 held-out ones."""

    def make(*, out=None, **changes):
        made = config(**changes)
        trainer = Trainer(hasher(made), made, train=tables(256, seed=1), val=tables(64, seed=2), out=out)
        trainer.run()
        return trainer

    return make


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.hasher.named_parameters()}


CHANCE = 3 * (1 + 5 + 10) * 100 / 64  # above the exact rSum of a random order on 64 images with 3 captions each


@pytest.mark.parametrize(
    "losses",
    [
        {"joint": {"kind": "joint_infonce"}},
        {"nce": {"kind": "infonce", "between": ["code", "code"], "learnable": True}},
        {"rank": {"kind": "triplet", "negatives": "mean"}, "gap": {"kind": "quantisation", "weight": [0, 0.1]}},
        {"rank": {"kind": "triplet", "negatives": "semi", "between": ["code", "code"]}},
        {
            "joint": {"kind": "joint_infonce"},
            "adversary": {"kind": "adversary", "hidden": 16},
            "balance": {"kind": "balance", "weight": 0.1},
            "apart": {"kind": "decorrelation", "weight": 0.1},
            "follow": {"kind": "distillation", "weight": 0.2},
        },
    ],
    ids=["joint", "infonce", "triplet", "semi-hard", "all"],
)
def test_every_loss_learns_retrieval_of_unseen_pairs(trained, losses):
    trainer = trained(stage={"losses": losses, "passes": 6})
    first, last = trainer.curves[0], trainer.curves[-1]
    assert last["val.rSum@64"] > 3 * CHANCE
    assert last["val.t2i.R@1"] > 10 * 100 / 64
    assert last["loss"] < first["loss"] or "gap" in losses
    assert 0.5 < last["val.entropy"] <= 1


def test_a_run_is_its_seed(trained):
    one, two, other = trained(), trained(), trained(seed=1)
    assert [row["loss"] for row in one.curves] == [row["loss"] for row in two.curves]
    assert one.hasher.fingerprint == two.hasher.fingerprint != other.hasher.fingerprint


def test_training_leaves_the_global_generator_alone(trained):
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    trainer = trained(stage={"epochs": 1})
    torch.set_rng_state(state)  # building a model seeds; the run itself must not
    trainer.position = (0, 0)
    trainer.run()
    assert torch.equal(torch.rand(2), expected)


def test_the_best_epoch_is_kept_not_the_last(trained):
    """With a rate that ruins the model in the end, the best weights come back."""
    trainer = trained(stage={"epochs": 4, "schedule": "constant", "lr": 2.0, "warmup": 1.0, "passes": 2})
    values = [(row["val.rSum@16"] + row["val.rSum@64"]) / 2 for row in trainer.curves]
    assert trainer.best["value"] == pytest.approx(max(values))
    assert trainer.best["epoch"] == values.index(max(values)) + 1
    assert validate(trainer.hasher, trainer.val_pairs, trainer.config.selection).value == trainer.best["value"]


def test_only_epochs_of_the_named_stage_are_chosen(trained, config):
    stages = [
        {"name": name, "epochs": 2, "batch_size": 32, "lr": lr, "losses": {"joint": {"kind": "joint_infonce"}}}
        for name, lr in (("learns", 5e-3), ("idles", 0.0))
    ]
    trainer = trained(stages=stages, selection={"n_bits": [16], "stage": "idles"})
    assert trainer.best["stage"] == "idles"
    with pytest.raises(ConfigError, match="did you mean 'idles'"):
        config(stages=stages, selection={"stage": "idels"})


def test_patience_ends_a_stage(trained):
    trainer = trained(stage={"epochs": 30, "lr": 0.0, "patience": 2})
    assert len(trainer.curves) == 3  # the first is the best, and two more are waited for


@pytest.mark.parametrize("group", ["image.head", "text", "heads", "all"])
def test_only_what_a_stage_names_learns(config, hasher, tables, group):
    made = config(stage={"train": [group], "epochs": 1})
    trainer = Trainer(hasher(made), made, train=tables(64), val=tables(16), out=None)
    before = weights(trainer)
    learning = {name.removeprefix("model/") for name in parameters_of(trainer.hasher, {})[group]}
    trainer.run()
    moved = {name for name, value in weights(trainer).items() if not torch.equal(value, before[name])}
    assert moved == learning and moved


def test_groups_have_rates_of_their_own(config, hasher, tables):
    made = config(stage={"train": ["heads"], "lr": {"heads": 5e-3, "text.head": 0.0}, "epochs": 1})
    trainer = Trainer(hasher(made), made, train=tables(64), val=tables(16), out=None)
    before = weights(trainer)
    trainer.run()
    moved = {name.split(".")[1] for name, value in weights(trainer).items() if not torch.equal(value, before[name])}
    assert moved == {"image"}


def test_rates_apply_in_the_order_they_are_written(config, hasher):
    groups = parameters_of(hasher(config()), {"adversary": torch.nn.Linear(2, 1)})
    wanted = ("heads", "adversary")
    given = rates(groups, {"all": 1.0, "text": 2.0, "image.head": 3.0}, wanted, where="stage")
    assert {given[name] for name in groups["text.head"]} == {2.0}
    assert {given[name] for name in groups["image.head"]} == {3.0}
    assert {given[name] for name in groups["adversary"]} == {1.0}
    assert set(rates(groups, {"image.head": 3.0, "heads": 4.0}, ("heads",), where="stage").values()) == {4.0}


def test_turns_train_one_group_a_step(config, hasher, tables):
    """One step in all: the first turn moves, the second has not come yet."""
    stage = {
        "train": ["heads"],
        "alternate": [["adversary"], ["heads"]],
        "epochs": 1,
        "batch_size": 64,
        "losses": {"adversary": {"kind": "adversary", "mode": "alternate", "hidden": 16}},
    }
    made = config(stage=stage)
    trainer = Trainer(hasher(made), made, train=tables(64), val=tables(16), out=None)
    heads = weights(trainer)
    classifier = [p.detach().clone() for p in trainer.losses["heads"]["adversary"].parameters()]
    trainer.run()
    assert all(torch.equal(value, heads[name]) for name, value in weights(trainer).items())
    assert any(not torch.equal(a, b) for a, b in zip(classifier, trainer.losses["heads"]["adversary"].parameters()))


def test_a_classifier_lives_through_stages(config, hasher, tables):
    """Warm-up without it, a stage for it alone, then both: one classifier throughout."""
    adversary = {"adversary": {"kind": "adversary", "mode": "alternate", "hidden": 16}}
    rank = {"rank": {"kind": "triplet", "negatives": "mean"}}
    stages = [
        {"name": "warm-up", "epochs": 1, "batch_size": 32, "lr": 5e-3, "losses": rank},
        {"name": "classifier", "epochs": 2, "batch_size": 32, "train": ["adversary"], "losses": adversary, "lr": 1e-2},
        {"name": "both", "epochs": 1, "batch_size": 32, "losses": {**rank, **adversary}, "start": "best"},
    ]
    made = config(stages=stages)
    trainer = Trainer(hasher(made), made, train=tables(128), val=tables(32), out=None)
    assert trainer.losses["classifier"]["adversary"].classifier.layers[0].weight is (
        trainer.losses["both"]["adversary"].classifier.layers[0].weight
    )
    trainer.run()
    assert [row["stage"] for row in trainer.curves] == ["warm-up", "classifier", "classifier", "both"]
    told = [row["loss.adversary"] for row in trainer.curves[1:3]]
    assert told[1] < told[0]  # it learns while the heads stand still
    assert trainer.curves[0]["val.rSum@64"] == trainer.curves[2]["val.rSum@64"]


def test_a_label_cannot_change_its_parameters(config, hasher, tables):
    adversary = {"kind": "adversary", "hidden": 16}
    stages = [
        {"name": name, "epochs": 1, "losses": {"adversary": {**adversary, "hidden": hidden}}}
        for name, hidden in (("one", 16), ("two", 8))
    ]
    made = config(stages=stages)
    with pytest.raises(ConfigError, match="does not fit the loss of that label"):
        Trainer(hasher(made), made, train=tables(8), val=tables(8), out=None)


def test_the_rate_warms_up_and_falls(config, hasher, tables):
    made = config(stage={"epochs": 2, "warmup": 0.25, "passes": 5, "batch_size": 64})
    trainer = Trainer(hasher(made), made, train=tables(64), val=tables(16), out=None)
    stepper = Stepper(trainer.hasher, trainer.losses["heads"], made.stages[0], total=100)
    factors = [stepper.factor(number) for number in range(100)]
    assert factors[0] == pytest.approx(1 / 26) and max(factors) == 1.0 and factors.index(1.0) == 25
    assert factors[25:] == sorted(factors[25:], reverse=True)
    assert factors[62] == pytest.approx(0.5 * (1 + math.cos(math.pi * 37 / 75)))
    assert factors[-1] < 0.001


def test_beta_rises_over_a_stage_and_is_saved_with_the_model(trained, tmp_path):
    trainer = trained(stage={"beta": [1, 9], "epochs": 2})
    beta = float(trainer.hasher.tower("image").beta)
    steps = 2 * 8
    assert beta in (pytest.approx(1 + 8 * (steps - 1) / steps), pytest.approx(1 + 8 * (steps // 2 - 1) / steps))
    trainer.hasher.save(tmp_path / "model")
    assert float(CrossModalHasher.load(tmp_path / "model").tower("image").beta) == beta


def test_a_running_mean_of_the_weights_is_what_is_kept(config, hasher, tables):
    made = config(stage={"ema": 0.9, "epochs": 2, "passes": 3})
    trainer = Trainer(hasher(made), made, train=tables(128), val=tables(32), out=None)
    plain = config(stage={"epochs": 2, "passes": 3})
    other = Trainer(hasher(plain), plain, train=tables(128), val=tables(32), out=None)
    trainer.run()
    other.run()
    assert [r["loss"] for r in trainer.curves] == [r["loss"] for r in other.curves]  # the same steps
    assert trainer.curves[-1]["val.rSum@64"] != other.curves[-1]["val.rSum@64"]
    assert validate(trainer.hasher, trainer.val_pairs, made.selection).value == trainer.best["value"]


def test_captions_can_be_mixed_and_features_disturbed(trained, config, hasher, tables):
    trainer = trained(stage={"mix": 0.7, "noise": 0.2, "captions": 2, "passes": 4})
    assert trainer.curves[-1]["val.rSum@64"] > 2 * CHANCE
    made = config(stage={"mix": 0.5})
    pairs = tables(64)
    swapped = replace(pairs, text=TableOn(pairs.text, torch.device("cpu")))
    with pytest.raises(ConfigError, match="mix needs a text encoder"):
        Trainer(hasher(made), made, train=swapped, val=pairs, out=None).run()


def test_bfloat16_learns_too(trained):
    exact, rough = trained(precision="float32"), trained(precision="bfloat16")
    assert rough.curves[-1]["loss"] == pytest.approx(exact.curves[-1]["loss"], rel=0.1)
    assert rough.curves[-1]["val.rSum@64"] > CHANCE
    assert all(p.dtype == torch.float32 for p in rough.hasher.parameters())
    usual = trained(precision="auto")
    same = rough if has_bfloat16(torch.device("cpu")) else exact
    assert usual.curves[-1]["loss"] == same.curves[-1]["loss"]


def test_a_loss_that_explodes_ends_the_run_with_its_name(config, hasher, tables):
    made = config(stage={"lr": 1e30, "warmup": 0.0, "schedule": "constant"})
    trainer = Trainer(hasher(made), made, train=tables(256), val=tables(16), out=None)
    with pytest.raises(TrainingError, match="'joint' is no longer finite in epoch 1 of stage 'heads'"):
        trainer.run()


def test_collapsing_codes_are_warned_of(config, hasher, tables, caplog):
    made = config(stage={"epochs": 1, "lr": 0.0})
    model = hasher(made)
    with torch.no_grad():
        for modality in ("image", "text"):
            model.tower(modality).head.linear.bias.fill_(1e3)
    with caplog.at_level(logging.WARNING, logger="hashret"):
        Trainer(model, made, train=tables(64), val=tables(16), out=None).run()
    assert "codes collapse" in caplog.text


def test_a_group_that_no_loss_reaches_is_named(config, hasher, tables, caplog):
    """The labels are told from pooled features, ahead of the heads."""
    made = config(stage={"epochs": 2, "losses": {"words": {"kind": "label_bce"}}})
    pairs = replace(tables(64), labels=torch.eye(4).repeat(16, 1))
    with caplog.at_level(logging.WARNING, logger="hashret"):
        Trainer(hasher(made), made, train=pairs, val=tables(16), out=None).run()
        assert caplog.text.count("stages.heads trains heads, but what its losses (words) read does not") == 1
        caplog.clear()
        made = config(stage={"epochs": 1, "losses": {"words": {"kind": "label_bce", "sees": "relaxed"}}})
        Trainer(hasher(made), made, train=pairs, val=tables(16), out=None).run()
    assert "does not depend on it" not in caplog.text


def test_codes_that_say_nothing_but_the_modality_collapse(caplog, config, hasher, tables):
    made = config(stage={"lr": 0, "epochs": 1})
    model = hasher(made)
    with torch.no_grad():
        for modality, bias in (("image", 1e3), ("text", -1e3)):
            model.tower(modality).head.linear.bias.fill_(bias)
    with caplog.at_level(logging.WARNING, logger="hashret"):
        Trainer(model, made, train=tables(64), val=tables(16), out=None).run()
    assert "codes collapse" in caplog.text


def test_curves_hold_a_row_an_epoch(trained, tmp_path):
    trainer = trained(out=tmp_path)
    with (tmp_path / "curves.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["val.rSum@64"]) == trainer.curves[-1]["val.rSum@64"]
    assert {"stage", "lr", "loss", "loss.joint", "val.i2t.R@10", "val.float.rSum", "val.entropy"} <= rows[0].keys()
