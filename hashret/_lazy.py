"""Optional packages, imported when they are needed and not before."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from types import ModuleType
from typing import Any, TypeVar

from hashret.errors import MissingExtraError

T = TypeVar("T")


def require(module: str, *, extra: str) -> ModuleType:
    """Import ``module``, or say which extra brings it.

    Args:
        module: dotted name, such as ``"faiss"``.
        extra: the extra of pyproject.toml that installs it.

    Raises:
        MissingExtraError: the package is not installed; the message ends with the install line.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
            raise  # the package is there, but something that it needs is not
        raise MissingExtraError(
            f"this needs the package {module.split('.')[0]!r}, which is not installed: pip install 'hashret[{extra}]'"
        ) from error


def available(module: str) -> bool:
    """Whether ``module`` could be imported, without importing it."""
    if module in sys.modules:
        return sys.modules[module] is not None
    return importlib.util.find_spec(module) is not None


def progress(items: Iterable[T], *, label: str, total: int | None = None, unit: str = "it") -> Any:
    """``items`` behind a progress bar, once it takes a second.

    Silent when stderr is no terminal, for a single item, and where tqdm is missing. The bar has
    ``set_postfix(**figures)`` in every case.
    """
    if total != 1 and sys.stderr is not None and sys.stderr.isatty() and available("tqdm"):
        return importlib.import_module("tqdm").tqdm(items, desc=label, total=total, unit=unit, leave=False, delay=1)
    return _Silent(items)


class _Silent:
    """What ``progress`` gives where nobody looks."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items

    def __iter__(self) -> Any:
        return iter(self._items)

    def set_postfix(self, **figures: object) -> None:
        """Accept figures and show nothing."""
