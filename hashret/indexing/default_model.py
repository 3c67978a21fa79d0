"""The model of those who have none: learnt once from the built-in emoji and their names, and kept in the cache.

    <cache>/models/emoji-<digest of the configuration>/model      the model; beside it what ``train`` writes
    <cache>/models/emoji-<…>.part                                  a training that is going on, or was killed

<cache> is ``HASHRET_CACHE``, or ``~/.cache/hashret``. Where ``HASHRET_MODEL`` names a model's directory, that one is
taken.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from hashret._files import cache_home, locked
from hashret._lazy import require
from hashret.config import plain
from hashret.data.files import is_folder
from hashret.errors import StorageError

CONFIG = "emoji"


def default_model(*, cache_dir: str | Path | None = None, say: Callable[[str], None] | None = None) -> Path:
    """The directory of the model that is used where none is named; trained now where it is not there yet.

    Args:
        cache_dir: where it is kept.
        say: told, in a sentence, that a training begins.

    Raises:
        MissingExtraError: it must be trained, and packages of the extra ``demo`` are missing.
        StorageError: the cache cannot be written, or ``HASHRET_MODEL`` names no model.
    """
    named = os.environ.get("HASHRET_MODEL")
    if named:
        if not is_folder(Path(named)):
            raise StorageError(f"HASHRET_MODEL names {named!r}, which is no directory; give that of a model")
        return Path(named)
    require("torch", extra="demo")  # which brings all that the default model is made of
    from hashret.training import read_config

    config = read_config(CONFIG)
    digest = hashlib.sha256(json.dumps(plain(config), sort_keys=True, default=str).encode()).hexdigest()[:12]
    home = (Path(cache_dir) if cache_dir is not None else cache_home()) / "models"
    place = home / f"{CONFIG}-{digest}"
    if is_folder(place / "model"):
        return place / "model"
    try:
        home.mkdir(parents=True, exist_ok=True)
        with (home / f"{place.name}.lock").open("w") as lock:
            locked(lock, wait=True)  # a second one waits, and finds it made
            if not is_folder(place / "model"):
                _train(place, cache_dir, say)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"the default model cannot be kept in {str(home)!r}: {error.strerror or error}; make room, or name another "
            "place with HASHRET_CACHE"
        ) from error
    return place / "model"


def _train(place: Path, cache_dir: str | Path | None, say: Callable[[str], None] | None) -> None:
    from hashret.data import open_dataset, readable_images
    from hashret.training import read_config, train

    dataset, _ = readable_images(open_dataset("emoji"))
    if say is not None:
        say(
            "training the default model on the built-in emoji, once (about 2 minutes); it is kept in "
            f"{place / 'model'}. A model trained on captions of photos finds more: "
            "hashret train --data captions.jsonl --out run, then --model run/model"
        )
    part = place.with_name(place.name + ".part")
    shutil.rmtree(part, ignore_errors=True)  # what a killed training left; its features are kept elsewhere
    train(read_config(CONFIG), dataset, out=part, cache_dir=cache_dir)
    part.rename(place)
