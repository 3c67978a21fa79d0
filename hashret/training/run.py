"""A whole run, from a configuration and a data set to a run directory:

config.yaml     the resolved configuration           splits.json   which record was in which split
curves.csv      a row an epoch                       figures.json  what came out, on what, in how long
checkpoints/    to go on from, the best weights too  model/        the trained CrossModalHasher
noise.json      false pairs, where ``data.noise`` put some among the training pairs
"""

from __future__ import annotations

import contextlib
import json
import logging
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from hashret._files import locked, write_whole
from hashret._lazy import require
from hashret.config import build, difference, plain
from hashret.data import Dataset, save_splits
from hashret.data.keywords import keyword_matrix, keywords
from hashret.errors import ConfigError, CorruptError, StorageError, TrainingError
from hashret.model import CrossModalHasher
from hashret.model.devices import pick_device
from hashret.model.storage import read_facts
from hashret.training import checkpoint
from hashret.training.checks import check_groups, check_losses
from hashret.training.config import Precision, RunConfig
from hashret.training.features import (
    calibrate,
    fit_adapters,
    identity_of,
    pair_features,
    teacher_vectors,
    usable,
)
from hashret.training.forward import precision_of
from hashret.training.measure import measure_pairs
from hashret.training.noise import Corruption, corrupt
from hashret.training.pairs import images_of
from hashret.training.trainer import Trainer, derive_seed
from hashret.training.validation import validate

_log = logging.getLogger(__name__)
_PACKAGES = ("hashret", "torch", "timm", "transformers", "numpy", "safetensors")


@dataclass(frozen=True)
class TrainResult:
    """What a run gave.

    Args:
        out: the run's directory; ``out / "model"`` holds the model.
        model: the model with its best weights, in evaluation mode.
        value: the selection metric of ``model`` on the validation split (its sign turned where lower is better); the
            curves are of codes whose bits are signs, since a rounding is learned at the end.
        stage: the stage of the best epoch.
        epoch: the best epoch, counted from 1 in its stage.
        curves: a mapping an epoch, as in ``curves.csv``.
        figures: as in ``figures.json``.
    """

    out: Path
    model: CrossModalHasher
    value: float
    stage: str
    epoch: int
    curves: tuple[dict[str, Any], ...]
    figures: dict[str, Any]


def train(
    config: RunConfig,
    dataset: Dataset,
    *,
    out: str | Path,
    resume: bool = False,
    cache_dir: str | Path | None = None,
    device: str = "auto",
    seed: int | None = None,
) -> TrainResult:
    """Train a model and save it with all that says how it came to be.

    Args:
        config: see ``RunConfig``.
        dataset: with the splits that ``config.data`` names; its test split is not read.
        out: a directory for the run; new or empty, unless ``resume``.
        resume: go on from the last checkpoint in ``out``, to the figures that an unbroken run gives; start anew where
            there is none.
        cache_dir: where features are kept; None: the default of ``hashret.encoders``.
        device: ``cpu``, ``cuda`` (``cuda:1``), or ``auto``: a GPU where there is one.
        seed: in the place of ``config.seed``.

    Raises:
        TrainingError: ``out`` holds another run, or another process trains there; the data set lacks a split; a loss is
            no longer finite.
        ConfigError: the configuration does not fit the model.
        DataError: a picture cannot be read.
    """
    config = config if seed is None else replace(config, seed=seed)
    where = pick_device(device)
    train_set = usable(dataset, config.data.train, max_captions=config.data.max_captions, limit=config.data.limit)
    val_set = usable(dataset, config.data.val)
    check_losses(config)
    run_dir = Path(out)
    with _alone(run_dir):
        return _train(config, dataset, run_dir, (train_set, val_set), resume=resume, cache_dir=cache_dir, where=where)


def _train(
    config: RunConfig,
    dataset: Dataset,
    run_dir: Path,
    sets: tuple[Dataset, Dataset],
    *,
    resume: bool,
    cache_dir: str | Path | None,
    where: torch.device,
) -> TrainResult:
    """What ``train`` does once it has ``run_dir`` to itself."""
    begun, (train_set, val_set) = time.perf_counter(), sets
    going_on = _open_run(run_dir, config, dataset, where, resume=resume)
    config = replace(config, precision=going_on or precision_of(config, where))  # whatever "auto" means elsewhere
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "heads", 0))
        hasher = CrossModalHasher.build(config.model).to(where)
    check_groups(config, hasher)
    captions, owner = train_set.captions_flat()
    hasher.tower("text").encoder.fit(captions)
    hasher.tower("image").encoder.fit([record.image for record in train_set])
    cache = None if cache_dir is None else Path(cache_dir)
    train_pairs = pair_features(hasher, train_set, cache_dir=cache, label="training")
    if config.teacher is not None:
        vectors = teacher_vectors(config.teacher, hasher, train_set, train_pairs, cache_dir=cache)
        train_pairs = replace(train_pairs, teacher=vectors)
    noisy = None
    if config.data.noise.ratio:
        drawn = run_dir / "noise.json"
        if not (going_on and drawn.is_file()):  # another version of numpy may draw otherwise
            corrupt(owner, config.data.noise).save(drawn)
        corruption = Corruption.load(drawn)
        train_pairs, noisy = train_pairs.with_captions(torch.from_numpy(corruption.caption)), corruption.noisy
        captions = [captions[row] for row in corruption.caption]
    if train_pairs.labels is None and config.data.keywords:
        words = keywords(captions, owner, count=config.data.keywords)
        train_pairs = replace(train_pairs, labels=torch.from_numpy(keyword_matrix(captions, owner, words)))
    val_pairs = pair_features(hasher, val_set, cache_dir=cache, label="validation")
    prepared = time.perf_counter()

    trainer = Trainer(hasher, config, train=train_pairs, val=val_pairs, out=run_dir, noisy=noisy)
    if not (going_on and trainer.resume()):
        fit_adapters(hasher, train_pairs)
    trainer.run()
    assert trainer.best is not None  # run() refuses to end without
    calibrate(hasher, train_pairs)
    hasher.save(run_dir / "model")
    figures = {
        "name": config.name,
        "seed": config.seed,
        "fingerprint": hasher.fingerprint,
        "selection": {**plain(config.selection), **trainer.best},
        "validation": measure_pairs(hasher, val_pairs).to_dict(),
        "pairs": {"train": len(train_pairs.text), "train_images": len(train_set), "val_images": len(val_set)},
        "seconds": {
            "features": prepared - begun,
            "training": sum(row["seconds"] for row in trainer.curves),
            "this_call": time.perf_counter() - begun,
        },
        "pairs_per_second": _throughput(config, trainer.curves, len(train_pairs.image)),
        "environment": {**environment(where), "precision": config.precision},
    }
    write_whole(run_dir / "figures.json", json.dumps(figures, indent=1) + "\n")
    best = trainer.best
    return TrainResult(
        out=run_dir,
        model=hasher,
        value=best["value"] if config.model.rounding is None else validate(hasher, val_pairs, config.selection).value,
        stage=best["stage"],
        epoch=best["epoch"],
        curves=tuple(trainer.curves),
        figures=figures,
    )


def _throughput(config: RunConfig, curves: Sequence[Mapping[str, Any]], n_images: int) -> dict[str, float]:
    """Pairs that a second of training went through, by stage."""
    found = {}
    for stage in config.stages:
        rows = [row for row in curves if row["stage"] == stage.name]
        if rows:
            images = images_of(n_images, batch_size=stage.batch_size, captions=stage.captions)
            pairs = rows[-1]["steps"] * images * stage.captions
            found[stage.name] = pairs / sum(row["seconds"] for row in rows)
    return found


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, machine and git revision, so that figures can be traced."""
    packages = {}
    for package in _PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "packages": packages,
        "python": platform.python_version(),
        "device": f"{device.type} ({name})",
        "threads": torch.get_num_threads(),
        "git": _git_revision(),
    }


@contextlib.contextmanager
def _alone(run_dir: Path) -> Iterator[None]:
    """Hold the run's directory for this process; the system lets go when the process ends, however it ends.

    Raises:
        TrainingError: it is no run's, or another process has it.
        StorageError: it cannot be written.
    """
    try:
        strange = not run_dir.is_dir() or any(path.name != "checkpoints" for path in run_dir.iterdir())
        if run_dir.exists() and strange and not (run_dir / "checkpoints" / "run.json").is_file():
            raise TrainingError(f"{str(run_dir)!r} is not empty and holds no run; give a new directory")
        (run_dir / "checkpoints").mkdir(parents=True, exist_ok=True)
        file = (run_dir / "checkpoints" / "lock").open("w")
    except OSError as error:
        raise StorageError(f"the run cannot be written in {str(run_dir)!r}: {error}") from error
    with file:
        if not locked(file):
            raise TrainingError(f"another process trains in {str(run_dir)!r}; wait for it, or give another directory")
        yield


def _open_run(
    run_dir: Path, config: RunConfig, dataset: Dataset, where: torch.device, *, resume: bool
) -> Precision | None:
    """Prepare the run's directory; where a run in it goes on, the precision that it began with.

    A run without a checkpoint has nothing to lose: it starts anew.
    """
    yaml = require("yaml", extra="learn")
    settings = {
        "config": plain(config),
        "data": identity_of(dataset),
        "precision": precision_of(config, where),
        "teacher": None if config.teacher is None else read_facts(config.teacher)["fingerprint"],
        "environment": environment(where),  # now, so that also a run that fails says what it ran on
    }
    known = run_dir / "checkpoints" / "run.json"
    if known.is_file() and checkpoint.exists(run_dir / "checkpoints" / "last"):
        if not resume:
            raise TrainingError(f"{str(run_dir)!r} holds a run already; resume it, or give another directory")
        return _begun_with(known, config, settings, dataset, where)
    try:
        write_whole(known, json.dumps(settings))
        write_whole(run_dir / "config.yaml", yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True))
        save_splits(dataset, run_dir / "splits.json")
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"the run cannot be written in {str(run_dir)!r}: {error}") from error
    return None


def _begun_with(
    known: Path, config: RunConfig, settings: dict[str, Any], dataset: Dataset, where: torch.device
) -> Precision:
    """The precision that the run in a directory began with, once it is sure to be the one that ``config`` asks for."""
    place = str(known.parent.parent)
    remedy = "resume it with the same one, or give another directory"
    try:
        before = json.loads(known.read_text(encoding="utf-8"))
        begun, data, precision = build(RunConfig, before["config"]), before["data"], before.get("precision")
    except ConfigError as error:
        raise TrainingError(f"the run in {place!r} was started by another version of hashret: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"the run in {place!r} cannot go on: {known.name} is damaged; train again") from error
    early = precision is None  # before runs said it, they knew bfloat16 on GPUs only, and no labels were compared
    if early:
        precision = "float32" if where.type == "cpu" else precision_of(begun, where)
    # a key that came into being since has its default; claims say nothing of how a run goes
    same = {"claims": {}, "precision": precision}
    wanted = replace(config, **{**same, "precision": precision if config.precision == "auto" else config.precision})
    other = difference(plain(replace(begun, **same)), plain(wanted))
    if other:
        raise TrainingError(f"the run in {place!r} was started with another configuration, in {other}; {remedy}")
    if data != identity_of(dataset, labels=not early):
        raise TrainingError(f"the run in {place!r} was started with another data set; {remedy}")
    if before.get("teacher", settings["teacher"]) != settings["teacher"]:  # early runs did not say it
        raise TrainingError(f"the run in {place!r} was started with another teacher at that path; {remedy}")
    return wanted.precision


def _git_revision() -> str | None:
    """Of hashret's own checkout; None where it was installed otherwise, maybe below somebody else's."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, cwd=root)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
