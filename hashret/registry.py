"""Names for parts: a registry holds strings and imports on use.

Listing the names costs nothing; ``load`` imports the module that holds the part. A new part is one file and one
line in the registry of its kind (see CONTRIBUTING.md).
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from hashret.errors import ConfigError


class Registry:
    """A mapping from names to ``"module:attribute"``.

    Args:
        kind: what the names are, for messages ("loss", "encoder").
        entries: name -> ``"package.module:attribute"``.
    """

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    @property
    def entries(self) -> Mapping[str, str]:
        """The names and their targets, read-only."""
        return MappingProxyType(self._entries)

    def names(self) -> tuple[str, ...]:
        """The names, sorted; nothing is imported."""
        return tuple(sorted(self._entries))

    def register(self, name: str, target: str, *, replace: bool = False) -> None:
        """Add a part of your own under ``name``.

        Raises:
            ConfigError: the name is taken and ``replace`` is false, or ``target`` has no colon.
        """
        if ":" not in target:
            raise ConfigError(f"a {self.kind} is registered as 'module:attribute', and {target!r} has no colon")
        if name in self._entries and not replace:
            raise ConfigError(f"the {self.kind} {name!r} exists; pass replace=True to put yours in its place")
        self._entries[name] = target

    def load(self, name: str) -> Any:
        """Import and return the part called ``name``.

        Raises:
            ConfigError: no such name; the message gives the nearest one and all of them.
        """
        if name not in self._entries:
            raise ConfigError(f"there is no {self.kind} {name!r}{nearest(name, self.names())}")
        module, attribute = self._entries[name].split(":")
        return getattr(importlib.import_module(module), attribute)


def nearest(name: str, choices: tuple[str, ...]) -> str:
    """The tail of an error message: the near miss, and what there is."""
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} Known: {', '.join(choices) or 'none'}."
