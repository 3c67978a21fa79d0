"""A checkpoint is a directory of two files:

    tensors-<n>.safetensors    weights, optimiser moments, running means
    state.json                 numbers, and the name and sha256 of the tensors' file

The tensors are written and synced first, then state.json is replaced in one step: a kill at any moment leaves the
checkpoint before or the one after.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from hashret._files import write_whole
from hashret._lazy import require
from hashret.errors import CorruptError, StorageError

_STATE = "state.json"


def exists(directory: Path) -> bool:
    """Whether ``directory`` holds a checkpoint."""
    return (directory / _STATE).is_file()


def save(directory: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write a checkpoint, in the place of the one before.

    Raises:
        StorageError: it cannot be written; the one before is still there.
    """
    serialise = require("safetensors.torch", extra="learn").save
    try:
        before = sorted(directory.glob("tensors-*.safetensors"))
        number = max((int(path.stem.split("-")[1]) for path in before), default=-1) + 1
        content = serialise({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()})
        file = write_whole(directory / f"tensors-{number}.safetensors", content, what="the checkpoint")
        facts = {**state, "tensors": file.name, "sha256": hashlib.sha256(content).hexdigest()}
        try:
            write_whole(directory / _STATE, json.dumps(facts), what="the checkpoint")
        except StorageError:
            file.unlink(missing_ok=True)
            raise
        for path in before:
            path.unlink()
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"the checkpoint cannot be written in {str(directory)!r}: {error}") from error


def load(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the state of a checkpoint.

    Raises:
        CorruptError: a file is missing or damaged.
    """
    deserialise = require("safetensors.torch", extra="learn").load
    try:
        state = json.loads((directory / _STATE).read_text(encoding="utf-8"))
        content = (directory / state["tensors"]).read_bytes()
        if hashlib.sha256(content).hexdigest() != state["sha256"]:
            raise ValueError(f"{state['tensors']} has changed since it was written")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptError(
            f"the checkpoint in {str(directory)!r} is damaged: {error}; remove the run's directory and train again"
        ) from error
    return deserialise(content), state
