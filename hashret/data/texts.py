"""What counts as a text for an encoder. Knows nothing of words or tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hashret._text import is_text
from hashret.errors import DataError


def check_texts(items: Sequence[Any]) -> None:
    """Refuse what no tokenizer takes.

    Raises:
        DataError: an item is no string, or holds half a surrogate pair (bytes that are no UTF-8, a torn emoji).
    """
    for item in items:
        if not isinstance(item, str):
            raise DataError(f"a text encoder takes strings, and was given {type(item).__name__}: {str(item)[:60]!r}")
        if not is_text(item):
            raise DataError(f"the text {item[:60]!r} holds half a surrogate pair; give it as UTF-8")
