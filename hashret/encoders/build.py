"""Encoders by name, and encoders on disk.

Knows the kinds of encoders as strings and imports one when it is built. A saved encoder is a folder:

    encoder.json         format, kind, configuration, what the kind needs to be rebuilt
    encoder.safetensors  every weight, frozen ones too
    tokenizer/ …         files of the kind's own

and is rebuilt from that folder alone, without hub or packages.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

from hashret._lazy import require
from hashret.config import build, plain
from hashret.encoders.base import Encoder, EncoderConfig
from hashret.errors import ConfigError, CorruptError, StorageError, VersionError, WeightsError
from hashret.registry import Registry

KINDS = Registry(
    "kind of encoder",
    {
        "image": "hashret.encoders.image:ImageEncoder",
        "text": "hashret.encoders.text:TextEncoder",
        "bag": "hashret.encoders.bag:BagEncoder",
        "features": "hashret.encoders.features:FeatureEncoder",
    },
)
FORMAT = 1
_log = logging.getLogger(__name__)
_FACTS, _WEIGHTS = "encoder.json", "encoder.safetensors"


def build_encoder(config: EncoderConfig) -> Encoder:
    """The encoder that ``config`` describes, in evaluation mode.

    Raises:
        ConfigError: an unknown kind or model, or settings that do not fit it.
        WeightsError: the weights cannot be found, or do not fit.
    """
    kind = KINDS.load(config.kind)
    try:
        encoder: Encoder = kind.build(config)
    except WeightsError as error:
        if config.stand_in is None:
            raise
        _log.warning("%s; %r stands in for it", error, config.stand_in)
        encoder = kind.build(dataclasses.replace(config, name=config.stand_in, stand_in=None))
    return encoder.eval()


def save_encoder(encoder: Encoder, directory: str | Path) -> None:
    """Write everything that ``load_encoder`` needs into ``directory``, which is made where it is missing.

    Raises:
        StorageError: the folder cannot be written.
    """
    directory = Path(directory)
    save_file = require("safetensors.torch", extra="learn").save_file
    try:
        directory.mkdir(parents=True, exist_ok=True)
        extras = encoder.save_extras(directory)
        # Tied tensors and views share storage, which safetensors refuses: every tensor is written on its own.
        state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in encoder.state_dict().items()}
        save_file(state, directory / _WEIGHTS)
        facts = {"format": FORMAT, "config": plain(encoder.config), "extras": extras}
        (directory / _FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"the encoder cannot be saved in {str(directory)!r}: {error}") from error


def load_encoder(directory: str | Path) -> Encoder:
    """The encoder that ``save_encoder`` wrote, in evaluation mode.

    Raises:
        StorageError: the folder is missing.
        CorruptError: a file is missing or damaged.
        VersionError: a later hashret wrote it.
    """
    directory = Path(directory)
    if not (directory / _FACTS).is_file():
        raise StorageError(f"{str(directory)!r} holds no saved encoder: it has no {_FACTS}")
    try:
        facts: dict[str, Any] = json.loads((directory / _FACTS).read_text(encoding="utf-8"))
        version = int(facts["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{str(directory / _FACTS)!r} is damaged: {error}; save the encoder again") from error
    if version > FORMAT:
        raise VersionError(
            f"{str(directory)!r} has format {version}, and this hashret reads up to {FORMAT}; install a newer hashret"
        )
    safetensors = require("safetensors.torch", extra="learn")
    try:
        config = build(EncoderConfig, facts["config"])
        encoder: Encoder = KINDS.load(config.kind).restore(config, facts["extras"], directory)
        encoder.load_state_dict(safetensors.load_file(directory / _WEIGHTS), strict=True)
    except (ConfigError, KeyError, TypeError, RuntimeError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CorruptError(f"the encoder in {str(directory)!r} cannot be rebuilt: {reason}") from error
    except Exception as error:
        if type(error).__name__ == "SafetensorError":  # not an OSError or ValueError, and its module may be absent
            raise CorruptError(f"{str(directory / _WEIGHTS)!r} is damaged: {error}") from error
        raise
    return encoder.eval()
