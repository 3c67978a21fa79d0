"""``train`` on pictures and words, from files to a saved model."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hashret
from hashret.codes import pack
from hashret.config import build
from hashret.data import Dataset, Record, load_splits
from hashret.errors import DataError, HashretError, StorageError, TrainingError
from hashret.model import CrossModalHasher
from hashret.training import RunConfig, Trainer, train
from hashret.training.noise import Corruption

ENCODER = {"kind": "image", "name": "test_vit", "weights": "none", "image_size": 32}


def run_config(*, image: dict | None = None, tower: dict | None = None, **changes) -> RunConfig:
    towers = {
        "image": {"encoder": {**ENCODER, **(image or {})}, "head": {"hidden": 32}, **(tower or {})},
        "text": {"encoder": {"kind": "bag", "name": "tfidf", "vocabulary_size": 32}, "head": {"hidden": 32}},
    }
    stage = {
        "name": "heads",
        "epochs": 2,
        "passes": 10,
        "batch_size": 20,
        "lr": 1e-2,
        "losses": {"joint": {"kind": "joint_infonce"}},
    }
    content = {"name": "squares", "model": {"n_bits": 32, "code_lengths": [16], "towers": towers}, "stages": [stage]}
    return build(RunConfig, {**content, **changes})


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random encoders come from the global generator when they are built by hand; keep it fixed."""
    torch.manual_seed(0)


def test_a_run_leaves_a_model_and_says_how_it_came_to_be(picture_set, tmp_path):
    result = train(run_config(), picture_set, out=tmp_path / "run", cache_dir=tmp_path / "cache")
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"config.yaml", "splits.json", "curves.csv", "checkpoints", "model", "figures.json"}
    figures = json.loads((tmp_path / "run" / "figures.json").read_text())
    assert figures == json.loads(json.dumps(result.figures))
    assert figures["fingerprint"] == result.model.fingerprint
    assert figures["selection"]["value"] == result.value
    assert set(figures["validation"]["codes"]) == {"16", "32"}
    begun = json.loads((tmp_path / "run" / "checkpoints" / "run.json").read_text())["environment"]
    assert begun == {name: figures["environment"][name] for name in begun} and begun["packages"]["torch"]
    checkout = Path(hashret.__file__).parents[1]
    asked = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=checkout, capture_output=True, text=True)
    own = (checkout / ".git").exists() and asked.returncode == 0
    assert begun["git"].split("-")[0] == asked.stdout.strip() if own else begun["git"] is None
    (last,) = (row for row in result.curves if row["epoch"] == len(result.curves))
    seconds = sum(row["seconds"] for row in result.curves)
    assert figures["pairs_per_second"] == {last["stage"]: pytest.approx(last["steps"] * 20 / seconds)}
    chance = figures["validation"]["codes"]["32"]["chance"]["rSum"]
    assert figures["validation"]["codes"]["32"]["rSum"] > 1.5 * chance
    bare = Dataset("squares", tuple(replace(record, split=None) for record in picture_set))
    assert load_splits(bare, tmp_path / "run" / "splits.json").splits == picture_set.splits
    loaded = CrossModalHasher.load(tmp_path / "run" / "model")
    assert loaded.fingerprint == result.model.fingerprint
    captions = ["a red square on the left", "left red block"]
    np.testing.assert_array_equal(loaded.encode_texts(captions), result.model.encode_texts(captions))


def test_labels_of_other_splits_alone_are_none(picture_set, tmp_path):
    """A split keeps the names of the whole data set; learning that no item has any would be learning nothing."""
    from hashret.training.features import pair_features

    labelled = [replace(record, labels=("dog",) if record.split == "val" else ()) for record in picture_set]
    part = replace(picture_set, records=tuple(labelled)).split("train")
    assert part.label_names == ("dog",)
    hasher = CrossModalHasher.build(run_config().model)
    hasher.tower("text").encoder.fit(part.captions_flat()[0])
    assert pair_features(hasher, part, cache_dir=tmp_path, label="train").labels is None
    all_of_them = [replace(record, labels=("dog",)) for record in picture_set]
    part = replace(picture_set, records=tuple(all_of_them)).split("train")
    assert pair_features(hasher, part, cache_dir=tmp_path, label="train").labels.all()


def test_cached_features_give_the_codes_of_fresh_ones(picture_set, tmp_path):
    """What was trained on cached features is what encodes files."""
    from hashret.training.features import pair_features
    from hashret.training.validation import logits_of

    result = train(run_config(), picture_set, out=tmp_path / "run", cache_dir=tmp_path / "cache")
    part = picture_set.split("val")
    pairs = pair_features(result.model, part, cache_dir=tmp_path / "cache", label="val")
    fresh = result.model.encode_images([record.image for record in part], relaxed=True)
    beta = float(result.model.tower("image").beta)
    np.testing.assert_allclose(np.tanh(beta * logits_of(result.model, "image", pairs.image)), fresh, atol=1e-5)


def test_relaxed_codes_of_a_trained_model_are_not_saturated(picture_set, tmp_path):
    """A saturated query would carry no more than its bits."""
    model = train(run_config(), picture_set, out=tmp_path / "run", cache_dir=tmp_path / "cache").model
    captions = picture_set.split("val").captions_flat()[0]
    relaxed = model.encode_texts(captions, relaxed=True)
    assert 0.2 < np.sqrt(np.square(relaxed).mean()) < 0.7
    np.testing.assert_array_equal(pack(relaxed), model.encode_texts(captions))


def test_the_last_blocks_of_an_encoder_are_trained_from_cached_tokens(picture_set, tmp_path):
    config = run_config(
        image={"train_blocks": 1, "output": "tokens"},
        tower={"pooler": "gpo"},
        stages=[
            {
                "name": "all",
                "epochs": 1,
                "passes": 2,
                "batch_size": 20,
                "train": ["heads", "poolers", "image.encoder"],
                "lr": {"heads": 1e-2, "poolers": 1e-3, "image.encoder": 1e-3},
                "losses": {"joint": {"kind": "joint_infonce"}},
            }
        ],
    )
    result = train(config, picture_set, out=tmp_path / "run", cache_dir=tmp_path / "cache")
    with torch.random.fork_rng():
        from hashret.training.trainer import derive_seed

        torch.manual_seed(derive_seed(config.seed, "heads", 0))
        untrained = CrossModalHasher.build(config.model)
    before, after = (dict(h.tower("image").encoder.named_parameters()) for h in (untrained, result.model))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith(("model.blocks.", "model.norm")) for name in moved)
    blocks = {name.split(".")[2] for name in moved if "blocks" in name}
    assert len(blocks) == 1
    assert CrossModalHasher.load(tmp_path / "run" / "model").fingerprint == result.model.fingerprint


def test_a_teacher_lends_its_similarities(picture_set, tmp_path):
    teacher = train(run_config(), picture_set, out=tmp_path / "teacher", cache_dir=tmp_path / "cache")
    stage = {
        "name": "follow",
        "epochs": 1,
        "passes": 10,
        "batch_size": 20,
        "lr": 1e-2,
        "losses": {"follow": {"kind": "distillation", "teacher": "teacher"}},
    }
    # the same teacher for a model with the same features, and for one with others
    for number, image in enumerate(({}, {"pool": "mean"})):
        config = run_config(image=image, stages=[stage], teacher=str(tmp_path / "teacher" / "model"))
        result = train(config, picture_set, out=tmp_path / f"student{number}", cache_dir=tmp_path / "cache")
        chance = result.figures["validation"]["codes"]["32"]["chance"]["rSum"]
        assert result.figures["validation"]["codes"]["32"]["rSum"] > 1.2 * chance
    assert teacher.figures["fingerprint"] != result.figures["fingerprint"]


def test_a_run_goes_on_with_the_teacher_that_it_began_with(picture_set, tmp_path):
    cache = tmp_path / "cache"
    train(run_config(), picture_set, out=tmp_path / "teacher", cache_dir=cache)
    place = tmp_path / "teacher" / "model"
    stage = {"name": "follow", "epochs": 1, "batch_size": 20}
    stage["losses"] = {"follow": {"kind": "distillation", "teacher": "teacher"}}
    config = run_config(stages=[stage], teacher=str(place))
    train(config, picture_set, out=tmp_path / "student", cache_dir=cache)
    train(config, picture_set, out=tmp_path / "student", cache_dir=cache, resume=True)
    train(run_config(), picture_set, out=tmp_path / "other", cache_dir=cache, seed=7)
    CrossModalHasher.load(tmp_path / "other" / "model").save(place)
    with pytest.raises(TrainingError, match="started with another teacher at that path"):
        train(config, picture_set, out=tmp_path / "student", cache_dir=cache, resume=True)


@pytest.mark.parametrize("image", [{}, {"pool": "mean"}])
def test_a_teacher_sees_the_captions_that_noise_has_moved(picture_set, tmp_path, monkeypatch, image):
    built = run_config().model
    teacher = CrossModalHasher.build(built)
    captions, _ = picture_set.split("train").captions_flat()
    teacher.tower("text").encoder.fit(captions)
    teacher.save(tmp_path / "teacher")
    seen = []

    class Watched(Trainer):
        def run(self):
            seen.append(self.train_pairs)
            super().run()

    monkeypatch.setattr("hashret.training.run.Trainer", Watched)
    follow = {"name": "follow", "epochs": 1, "batch_size": 20}
    follow["losses"] = {"follow": {"kind": "distillation", "teacher": "teacher"}}
    noise = {"kind": "caption", "ratio": 0.5}
    config = run_config(image=image, stages=[follow], teacher=str(tmp_path / "teacher"), data={"noise": noise})
    train(config, picture_set, out=tmp_path / "run", cache_dir=tmp_path / "cache", device="cpu")
    order = Corruption.load(tmp_path / "run" / "noise.json").caption
    expected = teacher.encode_floats("text", [captions[row] for row in order])
    np.testing.assert_allclose(seen[0].teacher[1].numpy(), expected, atol=1e-5)


def test_a_run_that_goes_on_keeps_the_false_pairs_that_it_began_with(picture_set, tmp_path):
    config, out = run_config(data={"noise": {"ratio": 0.5}}), tmp_path / "run"
    train(config, picture_set, out=out, cache_dir=tmp_path / "cache")
    drawn = Corruption.load(out / "noise.json")
    other = replace(drawn, caption=np.roll(drawn.caption, 1))  # as another version of numpy might have drawn
    other.save(out / "noise.json")
    train(config, picture_set, out=out, cache_dir=tmp_path / "cache", resume=True)
    np.testing.assert_array_equal(Corruption.load(out / "noise.json").caption, other.caption)


def test_limits_cut_the_training_split_only(picture_set, tmp_path):
    config = run_config(data={"limit": 10, "max_captions": 1})
    result = train(config, picture_set, out=tmp_path / "run", cache_dir=tmp_path / "cache")
    assert result.figures["pairs"] == {"train": 10, "train_images": 10, "val_images": 20}


def broken(dataset: Dataset, how: str, folder: Path) -> Dataset:
    records = list(dataset)
    if how == "no val":
        records = [replace(record, split="train") for record in records]
    elif how == "no captions":
        records = [replace(record, captions=()) for record in records]
    elif how == "no picture":
        records = [replace(record, image=None) for record in records]
    elif how == "bad picture":
        (folder / "bad.png").write_bytes(b"no picture")
        records[3] = replace(records[3], image=folder / "bad.png")
    elif how == "missing picture":
        records[3] = replace(records[3], image=folder / "missing.png")
    return Dataset(dataset.name, tuple(records))


@pytest.mark.parametrize(
    ("how", "error", "said"),
    [
        ("no val", TrainingError, "needs the split 'val'"),
        ("no captions", TrainingError, "with a picture and a caption"),
        ("no picture", TrainingError, "with a picture and a caption"),
        ("bad picture", DataError, "bad.png"),
        ("missing picture", DataError, "missing.png"),
    ],
)
def test_data_that_cannot_be_trained_on_is_said(picture_set, tmp_path, how, error, said):
    with pytest.raises(error, match=said):
        train(run_config(), broken(picture_set, how, tmp_path), out=tmp_path / "run", cache_dir=tmp_path / "cache")


def test_a_place_that_holds_something_else_is_left_alone(picture_set, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("x")
    with pytest.raises(TrainingError, match="not empty and holds no run"):
        train(run_config(), picture_set, out=tmp_path / "run")
    (tmp_path / "file").write_text("x")
    with pytest.raises(HashretError):
        train(run_config(), picture_set, out=tmp_path / "file")
    with pytest.raises(StorageError, match="cannot be written"):
        train(run_config(), picture_set, out=tmp_path / "file" / "run")


def test_a_run_that_never_began_can_be_started_again(picture_set, tmp_path):
    """A picture is mended, and the same command works; nothing was there to be lost."""
    with pytest.raises(DataError, match=r"bad\.png"):
        train(
            run_config(), broken(picture_set, "bad picture", tmp_path), out=tmp_path / "run", cache_dir=tmp_path / "c"
        )
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(tmp_path / "bad.png")
    mended = list(picture_set)
    mended[3] = replace(mended[3], image=tmp_path / "bad.png")
    result = train(run_config(), Dataset("squares", tuple(mended)), out=tmp_path / "run", cache_dir=tmp_path / "cache")
    assert result.epoch


def test_a_device_that_is_not_here_is_said(picture_set, tmp_path):
    for device in ("cuda:63", "tpu9"):
        with pytest.raises(HashretError, match="cannot be used here"):
            train(run_config(), picture_set, out=tmp_path / "run", device=device)


def test_items_without_a_picture_or_a_caption_are_left_out(picture_set, tmp_path):
    more = (Record("words", ("red",), None, "train"), Record("silent", (), picture_set[0].image, "train"))
    dataset = Dataset("squares", picture_set.records + more)
    result = train(run_config(), dataset, out=tmp_path / "run", cache_dir=tmp_path / "cache")
    assert result.figures["pairs"]["train_images"] == 40
