"""What counts as a text. Knows nothing of words or tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hashret.errors import DataError


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8.

    Half a surrogate pair cannot: a torn emoji, or a byte of a file name that is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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
