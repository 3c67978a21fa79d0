"""Pairs that can be learnt: two noisy linear views of one hidden vector."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hashret.config import build
from hashret.data import Dataset, Record
from hashret.model import CrossModalHasher
from hashret.training import PairFeatures, RunConfig
from hashret.training.pairs import VectorTable

WIDTHS = {"image": 24, "text": 18}


def views(count: int, *, captions: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 24) image and (N · captions, 18) text features of N hidden vectors."""
    maps = np.random.default_rng(99)
    to_image, to_text = maps.normal(size=(8, 24)), maps.normal(size=(8, 18))
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(count, 8))
    image = hidden @ to_image + 0.3 * rng.normal(size=(count, 24)) + 5
    text = np.repeat(hidden, captions, axis=0) @ to_text + 0.3 * rng.normal(size=(count * captions, 18)) - 3
    return image.astype(np.float32), text.astype(np.float32)


def features(count: int, *, captions: int = 3, seed: int = 0) -> PairFeatures:
    """The same as tables in memory."""
    image, text = views(count, captions=captions, seed=seed)
    owner = torch.arange(count).repeat_interleave(captions)
    return PairFeatures(VectorTable(torch.from_numpy(image)), VectorTable(torch.from_numpy(text)), owner)


def plain_config(**changes: Any) -> dict[str, Any]:
    """A run of one stage on own features, as it would be in YAML."""
    towers = {
        m: {
            "encoder": {"kind": "features", "name": "own", "width": width, "modality": m},
            "head": {"hidden": 16},
        }
        for m, width in WIDTHS.items()
    }
    stage = {
        "name": "heads",
        "epochs": 3,
        "batch_size": 32,
        "lr": 5e-3,
        "losses": {"joint": {"kind": "joint_infonce"}},
    }
    model = {"n_bits": 64, "code_lengths": [16, 64], "towers": towers}
    return {"name": "tiny", "model": model, "stages": [stage], "selection": {"n_bits": [16, 64]}, **changes}


@pytest.fixture
def config() -> Callable[..., RunConfig]:
    """``config(**changes)``: changes of the run; ``stage=…`` changes its only stage."""

    def make(*, stage: dict[str, Any] | None = None, **changes: Any) -> RunConfig:
        content = plain_config(**changes)
        content["stages"][0] |= stage or {}
        return build(RunConfig, content)

    return make


@pytest.fixture
def hasher() -> Callable[[RunConfig], CrossModalHasher]:
    """An untrained model for a configuration."""

    def make(config: RunConfig) -> CrossModalHasher:
        torch.manual_seed(0)
        return CrossModalHasher.build(config.model)

    return make


@pytest.fixture
def tables() -> Callable[..., PairFeatures]:
    return features


@pytest.fixture
def picture_set(tmp_path: Path) -> Dataset:
    """60 coloured pictures in three splits, with the colour's name in two captions; no text encoder but a bag."""
    from PIL import Image

    colours = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "yellow": (220, 210, 30)}
    places = ("left", "right", "middle", "top", "bottom")
    folder = tmp_path / "pictures"
    folder.mkdir()
    records = []
    for number in range(60):
        colour = list(colours)[number % 4]
        place = places[number // 4 % 5]
        array = np.full((32, 32, 3), 255, dtype=np.uint8)
        rows, columns = {
            "left": (slice(8, 24), slice(0, 12)),
            "right": (slice(8, 24), slice(20, 32)),
            "middle": (slice(8, 24), slice(10, 22)),
            "top": (slice(0, 12), slice(8, 24)),
            "bottom": (slice(20, 32), slice(8, 24)),
        }[place]
        array[rows, columns] = colours[colour]
        array = np.clip(array + np.random.default_rng(number).normal(0, 8, array.shape), 0, 255).astype(np.uint8)
        Image.fromarray(array).save(folder / f"{number}.png")
        split = "val" if number >= 40 else "train"
        captions = (f"a {colour} square on the {place}", f"{place} {colour} block")
        records.append(Record(str(number), captions, folder / f"{number}.png", split))
    return Dataset("squares", tuple(records))
