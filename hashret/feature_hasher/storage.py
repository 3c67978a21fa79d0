"""The file beside a saved feature hasher's model: which class it is of, its parameters, and how learning went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from hashret.errors import CorruptError, StorageError, VersionError
from hashret.registry import Registry

_FACTS, _FORMAT = "feature_hasher.json", 1


class Facts(NamedTuple):
    """``method`` is a name in ``TRAINED``, or None for a class that is not there."""

    method: str | None
    parameters: dict[str, Any]
    curves: list[dict[str, Any]]


def facts_file(facts: Facts) -> dict[str, str]:
    """The file's name and content."""
    content = {"format": _FORMAT, **facts._asdict()}
    return {_FACTS: json.dumps(content, indent=1, default=_plain) + "\n"}


def _plain(value: Any) -> Any:
    """Numpy's numbers and arrays as Python's; devices and paths by name."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def read_facts(directory: Path) -> Facts:
    """What ``facts_file`` gave, once it was written.

    Raises:
        StorageError: there is no such file.
        VersionError: a later version wrote it.
        CorruptError: it is damaged.
    """
    path = directory / _FACTS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known, parameters = int(content["format"]), dict(content["parameters"])
        if isinstance(parameters["code_lengths"], list):
            parameters["code_lengths"] = tuple(parameters["code_lengths"])
        facts = Facts(content.get("method"), parameters, list(content["curves"]))
    except FileNotFoundError as error:
        raise StorageError(f"{str(directory)!r} holds no feature hasher: it has no {_FACTS}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{str(path)!r} is damaged: {error}; save the feature hasher again") from error
    if known > _FORMAT:
        raise VersionError(f"{str(path)!r} has format {known}, later than {_FORMAT}; update hashret")
    return facts


def method_of(cls: type) -> str | None:
    """The name of a class in ``TRAINED``, or None."""
    target = f"{cls.__module__}:{cls.__qualname__}"
    return next((name for name, known in _trained().entries.items() if known == target), None)


def class_of(method: str) -> type:
    """The class of a name in ``TRAINED``."""
    found: type = _trained().load(method)
    return found


def _trained() -> Registry:
    from hashret.feature_hasher import TRAINED  # whose classes are saved by this module

    return TRAINED
