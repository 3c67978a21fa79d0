"""What a stage may provide to its losses: a momentum twin, second captions, beliefs under noise, a re-ranker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hashret.config import build
from hashret.encoders import Encoded
from hashret.errors import ConfigError
from hashret.model import CrossModalHasher, ModelConfig
from hashret.model.config import RerankerConfig
from hashret.training import PairFeatures, RunConfig, Trainer
from hashret.training.momentum import MomentumConfig, Twin
from hashret.training.noise import corrupt
from hashret.training.pairs import draws

JOINT = {"kind": "joint_infonce"}


def _twin(hasher: CrossModalHasher, *, queue: int, decay: float = 0.9) -> Twin:
    names = {name for name, _ in hasher.named_parameters()}
    return Twin(hasher, MomentumConfig(decay=decay, queue=queue), learning=names)


def test_the_twin_follows_and_its_queue_keeps_the_latest(
    config: Callable[..., RunConfig], hasher: Callable[..., CrossModalHasher], tables: Callable[..., PairFeatures]
) -> None:
    run = config()
    model, pairs = hasher(run), tables(40)
    twin = _twin(model, queue=24)
    before = {name: value.clone() for name, value in twin.mean.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    twin.follow()
    for name, value in twin.mean.items():
        torch.testing.assert_close(value, before[name] + 0.1)

    model.eval()
    kept = []
    for start in (0, 16, 32):
        rows = torch.arange(start, min(start + 16, 40))
        features = {"image": pairs.image.batch(rows), "text": pairs.text.batch(3 * rows)}
        keys = twin.keys(features, rows, noise=0.0)
        assert keys.group.tolist() == [group for batch in reversed(kept) for group in batch][:24]
        kept.append(rows.tolist())
    assert twin.groups.tolist() == [*range(32, 40), *range(16, 32)]
    assert not keys.image.logits.requires_grad


def test_a_twin_of_towers_that_do_not_learn_stays_as_it_is(
    config: Callable[..., RunConfig], hasher: Callable[..., CrossModalHasher], tables: Callable[..., PairFeatures]
) -> None:
    losses = {"itc": {"kind": "momentum_contrast"}, "adversary": {"kind": "adversary"}}
    run = config(stage={"epochs": 1, "train": ["adversary"], "momentum": {"queue": 64}, "losses": losses})
    trainer = _trained(run, hasher, tables(60), tables(20, seed=1))
    assert trainer.curves[0]["loss.itc"] > 0


def test_the_twin_of_a_shared_mixer_follows_in_both_towers() -> None:
    encoder = {"kind": "features", "name": "own", "width": 12, "output": "tokens"}
    mixers = [{"layers": 1, "heads": 2, "ffn": 16, "shared": True}]
    towers = {
        m: {"encoder": {**encoder, "modality": m}, "mixers": mixers, "head": {"hidden": 8}} for m in ("image", "text")
    }
    model = CrossModalHasher.build(build(ModelConfig, {"n_bits": 16, "towers": towers}))
    twin = _twin(model, queue=0)
    tokens = Encoded(torch.randn(4, 3, 12), torch.ones(4, 3, dtype=torch.bool), None)
    features = {"image": tokens, "text": tokens}
    before = twin.keys(features, torch.arange(4), noise=0.0)
    with torch.no_grad():
        for parameter in model.tower("image").mixers.parameters():
            parameter.add_(torch.randn_like(parameter))
    after = twin.keys(features, torch.arange(4), noise=0.0)
    for side in ("image", "text"):  # the twin has not followed yet
        assert torch.equal(getattr(after, side).logits, getattr(before, side).logits)
    twin.follow()
    moved = twin.keys(features, torch.arange(4), noise=0.0)
    assert not torch.equal(moved.image.logits, before.image.logits)
    assert not torch.equal(moved.text.logits, before.text.logits)


def test_what_a_loss_remembers_goes_on_in_the_next_stage_and_after_a_break(
    config: Callable[..., RunConfig],
    hasher: Callable[..., CrossModalHasher],
    tables: Callable[..., PairFeatures],
    tmp_path: Path,
) -> None:
    memory = {"kind": "binary_memory", "memory": 40}
    stages = [{"name": n, "epochs": 1, "batch_size": 16, "losses": {"memory": memory}} for n in ("first", "second")]
    run = config(stages=stages)
    trainer = Trainer(hasher(run), run, train=tables(40), val=tables(20), out=tmp_path)
    first, second = (trainer.losses[name]["memory"].memory for name in ("first", "second"))
    assert first is second
    start = first.clone()
    trainer._run_stage(0)
    assert not torch.equal(second, start)
    again = Trainer(hasher(run), run, train=tables(40), val=tables(20), out=tmp_path)
    assert again.resume()
    assert torch.equal(again.losses["first"]["memory"].memory, second)


def test_a_stage_whose_losses_are_all_taken_away_is_refused(
    config: Callable[..., RunConfig], hasher: Callable[..., CrossModalHasher], tables: Callable[..., PairFeatures]
) -> None:
    run = config(stage={"losses": {"joint": {**JOINT, "weight": 0}}})
    with pytest.raises(ConfigError, match=r"stages\.heads: every loss has weight 0"):
        Trainer(hasher(run), run, train=tables(40), val=tables(20), out=None)


def test_a_second_caption_is_another_one_of_the_same_image(tables: Callable[..., PairFeatures]) -> None:
    owner = tables(50).owner
    generator = torch.Generator().manual_seed(0)
    for draw in draws(owner, batch_size=16, captions=1, passes=2, generator=generator, second=True):
        assert draw.second is not None
        assert torch.equal(owner[draw.second], draw.image)
        assert not bool((draw.second == draw.text).any())
    plain = [
        draw.text.tolist()
        for draw in draws(owner, batch_size=16, captions=1, passes=1, generator=torch.Generator().manual_seed(3))
    ]
    assert len(plain) == 3


@pytest.mark.parametrize(
    ("loss", "what"),
    [
        ({"kind": "momentum_contrast"}, "momentum"),
        ({"kind": "matching"}, "model.reranker"),
        ({"kind": "label_bce"}, "data.keywords"),
        ({"kind": "local_mi"}, "tokens"),
        ({"kind": "distillation", "teacher": "teacher"}, "key `teacher`"),
    ],
)
def test_a_need_that_is_not_met_is_said_before_training(
    config: Callable[..., RunConfig],
    hasher: Callable[..., CrossModalHasher],
    tables: Callable[..., PairFeatures],
    loss: dict[str, Any],
    what: str,
) -> None:
    run = config(stage={"losses": {"joint": JOINT, "extra": loss}})
    with pytest.raises(ConfigError, match=what):
        Trainer(hasher(run), run, train=tables(40), val=tables(20), out=None)


@pytest.mark.parametrize("loss", [{"kind": "text_text"}, {"kind": "distillation", "teacher": "teacher"}])
def test_what_compares_single_captions_is_refused_beside_mixtures(
    config: Callable[..., RunConfig],
    hasher: Callable[..., CrossModalHasher],
    tables: Callable[..., PairFeatures],
    loss: dict[str, Any],
) -> None:
    run = config(stage={"mix": 0.5, "losses": {"joint": JOINT, "extra": loss}})
    pairs = tables(40, captions=2)
    pairs = replace(pairs, teacher=(torch.zeros(40, 4), torch.zeros(80, 4)))
    with pytest.raises(ConfigError, match="extra compares single captions, and mix"):
        Trainer(hasher(run), run, train=pairs, val=tables(20), out=None)


def _trained(
    run: RunConfig, hasher: Callable[..., CrossModalHasher], train: PairFeatures, val: PairFeatures, **more: Any
) -> Trainer:
    trainer = Trainer(hasher(run), run, train=train, val=val, **{"out": None, **more})
    trainer.run()
    return trainer


def test_every_part_learns_in_one_stage_and_resumes_to_the_same_figures(
    config: Callable[..., RunConfig],
    hasher: Callable[..., CrossModalHasher],
    tables: Callable[..., PairFeatures],
    tmp_path: Path,
) -> None:
    stage = {
        "epochs": 3,
        "momentum": {"decay": 0.9, "queue": 64},
        "refurbish": {"mixture": "beta"},
        "losses": {
            "joint": JOINT,
            "itc": {"kind": "momentum_contrast"},
            "texts": {"kind": "text_text"},
            "gone": {"kind": "matching", "weight": 0},
        },
    }
    run = config(stage=stage)
    train, val = tables(120), tables(40, seed=1)
    whole = _trained(run, hasher, train, val, out=tmp_path / "whole")

    class Killed(Exception):
        pass

    broken = Trainer(hasher(run), run, train=train, val=val, out=tmp_path / "broken")
    finish = broken._finish_epoch

    def die(number: int, epoch: int, *rest: Any) -> None:
        finish(number, epoch, *rest)
        if epoch == 1:
            raise Killed

    broken._finish_epoch = die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        broken.run()
    again = Trainer(hasher(run), run, train=train, val=val, out=tmp_path / "broken")
    assert again.resume()
    again.run()
    for row, other in zip(whole.curves, again.curves, strict=True):
        assert {k: v for k, v in row.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    assert "gone" not in again.losses["heads"]


def test_beliefs_find_false_pairs(
    config: Callable[..., RunConfig], hasher: Callable[..., CrossModalHasher], tables: Callable[..., PairFeatures]
) -> None:
    warm = {"name": "warm", "epochs": 2, "passes": 2, "batch_size": 64, "lr": 5e-3, "losses": {"joint": JOINT}}
    hard = {**warm, "name": "robust", "epochs": 3, "refurbish": {"mixture": "beta"}}
    hard["losses"] = {"triplet": {"kind": "triplet", "negatives": "mean"}}
    run = config(stages=[warm, hard])
    train, val = tables(300, captions=2), tables(60, captions=2, seed=1)
    corruption = corrupt(train.owners, run.data.noise.__class__(kind="image", ratio=0.3))
    noisy = train.with_captions(torch.from_numpy(corruption.caption))
    trainer = _trained(run, hasher, noisy, val, noisy=corruption.noisy)
    found = [row["noise.AUC"] for row in trainer.curves if row["stage"] == "robust"]
    assert found[-1] > 0.9


def test_a_reordered_table_gives_the_captions_of_their_new_places(tables: Callable[..., PairFeatures]) -> None:
    pairs = tables(10)
    order = torch.from_numpy(np.random.default_rng(0).permutation(30))
    moved = pairs.with_captions(order)
    rows = torch.tensor([4, 0, 29])
    torch.testing.assert_close(moved.text.batch(rows).pooled, pairs.text.batch(order[rows]).pooled)


@pytest.mark.parametrize("more", [False, True])
def test_a_re_ranker_that_learns_with_the_towers_is_that_of_the_best_epoch(
    config: Callable[..., RunConfig],
    hasher: Callable[..., CrossModalHasher],
    tables: Callable[..., PairFeatures],
    more: bool,
) -> None:
    both = {"name": "both", "epochs": 4, "batch_size": 32, "lr": 5e-3, "schedule": "constant"}
    both |= {"train": ["all"], "losses": {"joint": JOINT, "matching": {"kind": "matching"}}}
    after = {"name": "after", "epochs": 1, "batch_size": 32, "train": ["reranker"], "start": "best"}
    after["losses"] = {"matching": {"kind": "matching"}}
    content = config(stages=[both, after] if more else [both], selection={"stage": "both"})
    run = replace(content, model=replace(content.model, reranker=RerankerConfig(kind="fusion", width=16, layers=1)))
    scales: dict[tuple[int, int], float] = {}
    val = tables(30, seed=1)
    false = val.with_captions(torch.arange(90).roll(45))

    class Watched(Trainer):
        def _finish_epoch(self, number: int, epoch: int, *rest: Any) -> None:
            scales[number, epoch + 1] = self.hasher.reranker.scale.item()
            self.val_pairs = val if epoch == 1 else false  # the second epoch will be the best one
            super()._finish_epoch(number, epoch, *rest)

    trainer = Watched(hasher(run), run, train=tables(80), val=val, out=None)
    trainer.run()
    assert trainer.best is not None and trainer.best["epoch"] == 2
    last = scales[1, 1] if more else scales[0, 2]
    assert trainer.hasher.reranker.scale.item() == last
    assert len(set(scales.values())) == len(scales)


def test_a_re_ranker_learns_after_the_towers_and_is_kept(
    config: Callable[..., RunConfig], hasher: Callable[..., CrossModalHasher], tables: Callable[..., PairFeatures]
) -> None:
    first = {"name": "heads", "epochs": 2, "batch_size": 32, "lr": 5e-3, "losses": {"joint": JOINT}}
    second = {"name": "match", "epochs": 2, "batch_size": 32, "lr": 5e-3, "start": "best", "train": ["reranker"]}
    second["losses"] = {"matching": {"kind": "matching"}}
    content = config(stages=[first, second], selection={"stage": "heads"})
    reranker = RerankerConfig(kind="fusion", width=16, layers=1, heads=2)
    run = replace(content, model=replace(content.model, reranker=reranker))
    built = hasher(run)
    before = {name: p.detach().clone() for name, p in built.reranker.named_parameters()}
    trainer = Trainer(built, run, train=tables(80), val=tables(30, seed=1), out=None)
    trainer.run()
    learned = {name: p.detach().clone() for name, p in built.named_parameters()}
    for name in ("read.weight", "scale", "blocks.0.ffn.1.weight"):
        assert not torch.equal(learned[f"reranker.{name}"], before[name]), name

    alone = hasher(content)
    Trainer(alone, replace(content, stages=run.stages[:1]), train=tables(80), val=tables(30, seed=1), out=None).run()
    for name, parameter in alone.towers.named_parameters():  # the second stage began from the best and left them alone
        assert torch.equal(learned[f"towers.{name}"], parameter), name
