"""A run that is killed goes on to the figures of one that is not, bit by bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from hashret.config import plain
from hashret.data import Dataset
from hashret.errors import CorruptError, TrainingError
from hashret.model.devices import has_bfloat16
from hashret.training import checkpoint, read_config, train

# A process that trains, and that dies by SIGKILL where it is told to.
PROGRAM = """
import os, signal, sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
from hashret.training import checkpoint, optimiser, read_config, train
sys.path.insert(0, sys.argv[1])
from data_of_run import dataset

place, count = sys.argv[3], int(sys.argv[4])
seen = 0
def deadly(function):
    def wrapped(*args, **kwargs):
        global seen
        seen += 1
        if seen == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return wrapped

if place == "step":
    optimiser.Stepper.step = deadly(optimiser.Stepper.step)
elif place == "write":
    checkpoint.write_whole = deadly(checkpoint.write_whole)
folder = Path(sys.argv[1])
train(read_config(folder / "run.yaml"), dataset(folder), out=sys.argv[2], resume="--resume" in sys.argv,
      cache_dir=folder / "cache", device="cpu")
"""

DATA = """
from pathlib import Path
from hashret.data import Dataset, Record

def dataset(folder):
    records = []
    for number in range(72):
        words = "a b c d e f g h i j k l".split()
        captions = (f"{words[number % 12]} {words[number // 12]}", f"{words[number // 12]} of {words[number % 12]}")
        split = "val" if number % 3 == 0 else "train"
        records.append(Record(str(number), captions, Path(folder) / "features" / f"{number}.npy", split))
    return Dataset("words", tuple(records))
"""


def two_stages() -> dict:
    """Everything that a checkpoint has to hold: two stages, a mean of weights, a classifier, patience."""
    towers = {
        "image": {"encoder": {"kind": "features", "name": "own", "width": 16, "modality": "image"}},
        "text": {"encoder": {"kind": "bag", "name": "tfidf", "vocabulary_size": 16}},
    }
    for tower in towers.values():
        tower["head"] = {"hidden": 8, "batch_norm": True}
    common = {"batch_size": 16, "passes": 2, "lr": 5e-3, "noise": 0.1}
    adversary = {"kind": "adversary", "hidden": 8}
    stages = [
        {"name": "warm", "epochs": 3, "ema": 0.8, "losses": {"joint": {"kind": "joint_infonce"}}, **common},
        {
            "name": "both",
            "epochs": 4,
            "patience": 3,
            "start": "best",
            "losses": {"joint": {"kind": "joint_infonce"}, "adversary": adversary},
            **common,
        },
    ]
    return {"name": "killed", "model": {"n_bits": 24, "towers": towers}, "stages": stages}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A configuration, a data set and the program that trains on it."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "run.yaml").write_text(yaml.safe_dump(two_stages()), encoding="utf-8")
    (folder / "data_of_run.py").write_text(DATA, encoding="utf-8")
    (folder / "features").mkdir()
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 12, 16))
    for number in range(72):
        vector = one[number % 12] + two[number // 12] + 0.2 * rng.normal(size=16)
        np.save(folder / "features" / f"{number}.npy", vector.astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def unbroken(folder) -> Path:
    """The run that nothing interrupts, in a process of its own like the others."""
    launch(folder, folder / "unbroken", "never", 0)
    return folder / "unbroken"


def launch(folder: Path, out: Path, place: str, count: int, *options: str) -> int:
    command = [sys.executable, "-c", PROGRAM, str(folder), str(out), place, str(count), *options]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def results(out: Path) -> tuple[str, list, dict]:
    """Fingerprint, curves without times, and validation figures."""
    figures = json.loads((out / "figures.json").read_text(encoding="utf-8"))
    lines = [line.split(",") for line in (out / "curves.csv").read_text(encoding="utf-8").splitlines()]
    timed = lines[0].index("seconds")
    curves = [line[:timed] + line[timed + 1 :] for line in lines]
    return figures["fingerprint"], curves, figures["validation"] | figures["selection"]


@pytest.mark.parametrize(
    ("place", "count"),
    [
        pytest.param("step", 9, marks=pytest.mark.slow),  # in the second epoch of the first stage
        ("step", 23),  # in the second stage
        pytest.param("step", 1, marks=pytest.mark.slow),  # before any checkpoint
        pytest.param("write", 2, marks=pytest.mark.slow),  # between the files of the first checkpoint
        ("write", 10),  # between those of the first epoch that started from the best, and may be the best itself
        pytest.param("write", 12, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_to_the_same_figures(folder, unbroken, tmp_path, place, count):
    out = tmp_path / "killed"
    assert launch(folder, out, place, count) == -signal.SIGKILL
    assert not (out / "figures.json").exists()
    assert launch(folder, out, "never", 0, "--resume") == 0
    assert results(out) == results(unbroken)


@pytest.mark.slow
def test_a_run_killed_twice(folder, unbroken, tmp_path):
    out = tmp_path / "twice"
    assert launch(folder, out, "step", 8) == -signal.SIGKILL
    assert launch(folder, out, "step", 12, "--resume") == -signal.SIGKILL
    assert launch(folder, out, "never", 0, "--resume") == 0
    assert results(out) == results(unbroken)


def records(folder: Path) -> Dataset:
    space: dict = {}
    exec(DATA, space)
    return space["dataset"](folder)


def test_a_finished_run_resumes_to_itself(folder, unbroken):
    before = results(unbroken)
    train(read_config(folder / "run.yaml"), records(folder), out=unbroken, resume=True, cache_dir=folder / "cache")
    assert results(unbroken) == before


def test_a_run_is_not_overwritten_or_mixed_with_another(folder, unbroken):
    here = has_bfloat16(torch.device("cpu"))
    config, data = read_config(folder / "run.yaml"), records(folder)
    with pytest.raises(TrainingError, match="holds a run already"):
        train(config, data, out=unbroken)
    other = read_config(folder / "run.yaml", ["stages.warm.lr=1e-4"])
    with pytest.raises(TrainingError, match=r"another configuration, in stages\.0\.lr"):
        train(other, data, out=unbroken, resume=True)
    with pytest.raises(TrainingError, match="another configuration"):
        train(config, data, out=unbroken, resume=True, seed=5)
    with pytest.raises(TrainingError, match="another configuration, in precision"):
        train(replace(config, precision="float32" if here else "bfloat16"), data, out=unbroken, resume=True)
    tagged = Dataset(data.name, (replace(data.records[0], labels=("new",)), *data.records[1:]))
    with pytest.raises(TrainingError, match="another data set"):
        train(config, tagged, out=unbroken, resume=True)
    fewer = Dataset(data.name, data.records[:-1])
    with pytest.raises(TrainingError, match="another data set"):
        train(config, fewer, out=unbroken, resume=True)


def test_a_run_goes_on_in_the_precision_that_it_began_with(folder, unbroken, tmp_path, monkeypatch):
    out = tmp_path / "run"
    assert launch(folder, out, "step", 23) == -signal.SIGKILL
    here = has_bfloat16(torch.device("cpu"))
    monkeypatch.setattr("hashret.training.forward.has_bfloat16", lambda device: not here)  # on another machine
    train(read_config(folder / "run.yaml"), records(folder), out=out, resume=True, cache_dir=folder / "cache")
    assert results(out) == results(unbroken)


def test_a_checkpoint_of_an_earlier_version_keeps_its_best_weights(folder, unbroken, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(unbroken, out)
    tensors, state = checkpoint.load(out / "checkpoints" / "last")
    best = {name.removeprefix("best/"): tensor for name, tensor in tensors.items() if name.startswith("best/")}
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith("best/")}
    shutil.rmtree(out / "checkpoints" / "last")
    checkpoint.save(out / "checkpoints" / "best", best, state["best"])
    checkpoint.save(out / "checkpoints" / "last", rest, state)
    train(read_config(folder / "run.yaml"), records(folder), out=out, resume=True, cache_dir=folder / "cache")
    assert results(out) == results(unbroken)


def test_a_run_of_a_version_without_some_keys_goes_on(folder, unbroken, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(unbroken, out)
    known = out / "checkpoints" / "run.json"
    before = json.loads(known.read_text())
    del before["config"]["claims"], before["config"]["stages"][0]["mix"]
    known.write_text(json.dumps(before))
    train(read_config(folder / "run.yaml"), records(folder), out=out, resume=True, cache_dir=folder / "cache")
    assert results(out) == results(unbroken)


def test_two_processes_do_not_train_in_one_directory(folder, unbroken):
    holder = (
        "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(unbroken / "checkpoints" / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(TrainingError, match="another process trains in"):
            train(read_config(folder / "run.yaml"), records(folder), out=unbroken, resume=True)
        other.communicate("")


def test_a_damaged_checkpoint_stops_a_resume_with_a_sentence(folder, unbroken, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(unbroken, out)
    state = out / "checkpoints" / "last" / "state.json"
    state.write_text(state.read_text()[:40])
    with pytest.raises(CorruptError, match="damaged"):
        train(read_config(folder / "run.yaml"), records(folder), out=out, resume=True, cache_dir=folder / "cache")


def test_the_configuration_is_saved_as_it_was_resolved(folder, unbroken):
    assert plain(read_config(unbroken / "config.yaml")) == plain(read_config(folder / "run.yaml"))
