"""A saved model is a directory:

    model.json           format, configuration, fingerprint, and the re-ranker's own where there is one
    model.safetensors    every weight outside the encoders
    image/, text/        the encoders, each as ``hashret.encoders.save_encoder`` writes it
    onnx/                its export, where somebody made one; kept by ``save`` as long as it is of the same codes
    feature_hasher.json  of a model that a ``FeatureHasher`` made, see ``hashret.feature_hasher.storage``

It is written beside its place and moved there when it is complete; no reader sees a part of it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hashret._files import replacing_directory
from hashret._lazy import require
from hashret.config import build, plain
from hashret.encoders import load_encoder, save_encoder
from hashret.errors import CorruptError, HashretError, StorageError, VersionError
from hashret.model.config import ModelConfig

if TYPE_CHECKING:
    from hashret.model.hasher import CrossModalHasher

FORMAT = 2  # 1 had no rounding
_FACTS, _WEIGHTS = "model.json", "model.safetensors"
_EXPORT, _PARAMETERS = "onnx", "feature_hasher.json"  # as in hashret.onnx and hashret.feature_hasher, which are above
_RERANKER = "reranker."
_log = logging.getLogger(__name__)


def fingerprint(hasher: CrossModalHasher) -> str:
    """sha256 over what makes codes: configuration (without where weights came from), tensors by name, dtype and shape.

    The re-ranker is left out, since no code depends on it: a collection takes the same towers with another one.
    """
    config = plain(hasher.config)
    del config["reranker"]
    if config["rounding"] is None:
        del config["rounding"]  # so that models saved before there was this key are what they were
    for tower in config["towers"].values():
        del tower["encoder"]["weights"]
        if not tower["head"]["own"]:
            del tower["head"]["own"]  # likewise
    state = hasher.state_dict()
    return _digest(config, {name: state[name] for name in state if not name.startswith(_RERANKER)})


def reranker_fingerprint(hasher: CrossModalHasher) -> str | None:
    """The same over the re-ranker alone, so that damage is found; None where there is none."""
    if hasher.reranker is None:
        return None
    state = hasher.state_dict()
    return _digest(plain(hasher.config.reranker), {name: state[name] for name in state if name.startswith(_RERANKER)})


def _digest(config: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def own_state(hasher: CrossModalHasher) -> dict[str, Tensor]:
    """The tensors outside the encoders, each with storage of its own."""
    return {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in hasher.state_dict().items()
        if ".encoder." not in name
    }


def save(hasher: CrossModalHasher, directory: Path, beside: Mapping[str, str]) -> None:
    """Write ``hasher`` to ``directory``, in the place of the model that was there, and texts ``beside`` it."""
    _check_place(directory, known={_FACTS, _WEIGHTS, _EXPORT, _PARAMETERS, *hasher.towers, *beside})
    save_file = require("safetensors.torch", extra="learn").save_file
    try:
        with replacing_directory(directory, what="the model") as part:
            for modality in hasher.towers:
                save_encoder(hasher.tower(modality).encoder, part / modality)
            save_file(own_state(hasher), part / _WEIGHTS)
            made = fingerprint(hasher)
            config, version = plain(hasher.config), FORMAT
            if config["rounding"] is None:
                del config["rounding"]
                version = 1  # which earlier versions read as well
            facts: dict[str, Any] = {"format": version, "config": config, "fingerprint": made}
            if hasher.reranker is not None:
                facts["reranker_fingerprint"] = reranker_fingerprint(hasher)
            for name, text in {_FACTS: json.dumps(facts, indent=1) + "\n", **beside}.items():
                (part / name).write_text(text, encoding="utf-8")
            _keep_export(directory / _EXPORT, part / _EXPORT, made)
    except StorageError:
        raise
    except Exception as error:
        if type(error).__name__ == "SafetensorError":  # which derives from Exception, also for a full disk
            raise StorageError(
                f"the model {str(directory)!r} cannot be written: {_short(error)}; what was there before is unchanged"
            ) from error
        raise


def _check_place(directory: Path, *, known: set[str]) -> None:
    """Refuse what would take the place of something else than a model."""
    if not directory.exists():
        return
    there = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else [directory.name]
    if there and not (directory / _FACTS).is_file():
        raise StorageError(f"{str(directory)!r} holds something else than a model; give another directory")
    others = [name for name in there if name not in known and not name.startswith(".")]
    if others:
        raise StorageError(
            f"{str(directory)!r} holds {others[0]!r} beside its model, which would be lost with it; move that, or give "
            "another directory"
        )


def _keep_export(before: Path, after: Path, made: str) -> None:
    """Take the export of the model that is replaced along, if it gives the codes of the new one."""
    if not before.is_dir():
        return
    try:
        known = json.loads((before / "export.json").read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        known = None
    if known == made:
        shutil.copytree(before, after)
    else:
        _log.warning(
            "%s was the export of the model that is replaced, and goes with it; export the new one: "
            "hashret export %s --onnx", before, before.parent,
        )  # fmt: skip


def load(cls: type[CrossModalHasher], directory: Path) -> CrossModalHasher:
    """The model in ``directory``, checked against its fingerprint."""
    facts = read_facts(directory)
    load_file = require("safetensors.torch", extra="learn").load_file
    try:
        config = build(ModelConfig, facts["config"])
        encoders = {modality: load_encoder(directory / modality) for modality in config.towers}
        hasher = cls(config, encoders)
        state = load_file(directory / _WEIGHTS)
        missing, unexpected = hasher.load_state_dict(state, strict=False)
        strange = [name for name in missing if ".encoder." not in name] + list(unexpected)
        if strange:
            raise CorruptError(f"the model in {str(directory)!r} does not fit its weights: {', '.join(strange[:3])}")
    except VersionError:
        raise
    except (HashretError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise _corrupt(directory, error) from error
    except Exception as error:
        if type(error).__name__ == "SafetensorError":  # it derives from Exception alone
            raise _corrupt(directory, error) from error
        raise
    found = fingerprint(hasher), reranker_fingerprint(hasher)
    if found != (facts["fingerprint"], facts.get("reranker_fingerprint")):
        raise CorruptError(f"the model in {str(directory)!r} has changed since it was saved; save or fetch it again")
    return hasher.eval()


def read_facts(directory: Path) -> dict[str, Any]:
    """What ``model.json`` says: ``format``, ``config``, ``fingerprint``.

    Raises:
        StorageError: there is no model.
        CorruptError: the file is damaged.
        VersionError: a later hashret wrote it.
    """
    path = directory / _FACTS
    if not path.is_file():
        inside = directory / "model"  # a run keeps its model there
        meant = f"; did you mean {str(inside)!r}?" if (inside / _FACTS).is_file() else ""
        raise StorageError(
            f"{str(directory)!r} holds no model: it has no {_FACTS}; give a model's directory, such as RUN/model{meant}"
        )
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = int(facts["format"])
        _ = facts["config"], facts["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{str(path)!r} is damaged: {_short(error)}; save or fetch the model again") from error
    if version > FORMAT:
        raise VersionError(
            f"{str(directory)!r} has format {version}, and this hashret reads up to {FORMAT}; install a newer hashret"
        )
    return facts


def _corrupt(directory: Path, error: Exception) -> CorruptError:
    return CorruptError(f"the model in {str(directory)!r} cannot be rebuilt: {_short(error)}")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
