"""Checkpoints survive what interrupts their writing."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from hashret.errors import CorruptError, StorageError
from hashret.training import checkpoint


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file may grow beyond ``room`` bytes; Python ignores the signal, and the write fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_gives_back_what_was_saved(tmp_path):
    shared = torch.randn(4)
    tensors = {"a": shared, "b": shared[:2], "n": torch.tensor(3), "empty": torch.zeros(0, 2)}
    assert not checkpoint.exists(tmp_path / "last")
    checkpoint.save(tmp_path / "last", tensors, {"epoch": 1, "best": None})
    checkpoint.save(tmp_path / "last", tensors, {"epoch": 2, "best": 0.1 + 0.2})
    loaded, state = checkpoint.load(tmp_path / "last")
    assert state["epoch"] == 2 and state["best"] == 0.1 + 0.2
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert len(list((tmp_path / "last").iterdir())) == 2


def test_a_kill_between_the_two_files_leaves_the_one_before(tmp_path):
    checkpoint.save(tmp_path / "last", {"a": torch.ones(2)}, {"epoch": 1})
    (tmp_path / "last" / "tensors-1.safetensors").write_bytes(b"half of a fi")  # the next one, as a kill left it
    loaded, state = checkpoint.load(tmp_path / "last")
    assert state["epoch"] == 1 and torch.equal(loaded["a"], torch.ones(2))
    checkpoint.save(tmp_path / "last", {"a": torch.zeros(2)}, {"epoch": 2})
    assert checkpoint.load(tmp_path / "last")[1]["epoch"] == 2


@pytest.mark.parametrize("how", ["cut", "gone", "state"])
def test_a_damaged_checkpoint_is_said(tmp_path, how):
    checkpoint.save(tmp_path / "last", {"a": torch.ones(200)}, {"epoch": 1})
    file = tmp_path / "last" / json.loads((tmp_path / "last" / "state.json").read_text())["tensors"]
    if how == "cut":
        file.write_bytes(file.read_bytes()[:-7])
    elif how == "gone":
        file.unlink()
    else:
        (tmp_path / "last" / "state.json").write_text('{"epoch":')
    with pytest.raises(CorruptError, match="checkpoint"):
        checkpoint.load(tmp_path / "last")


@pytest.mark.parametrize("room", [0, 100, 4000])
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, room):
    checkpoint.save(tmp_path / "last", {"a": torch.ones(2)}, {"epoch": 1})
    with full_disk(room), pytest.raises(StorageError, match="cannot be written"):
        checkpoint.save(tmp_path / "last", {"a": torch.zeros(2000)}, {"epoch": 2})
    assert checkpoint.load(tmp_path / "last")[1]["epoch"] == 1
    assert len(list((tmp_path / "last").iterdir())) == 2
    checkpoint.save(tmp_path / "last", {"a": torch.zeros(2000)}, {"epoch": 2})
    assert checkpoint.load(tmp_path / "last")[1]["epoch"] == 2


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        checkpoint.save(tmp_path / "file" / "last", {}, {})
