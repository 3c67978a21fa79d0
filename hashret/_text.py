"""What counts everywhere as text, as the name of a metadata field and as a number that a text writes. Knows nothing of
what it says.
"""

from __future__ import annotations

import re

_BAD_NAME = re.compile(r'["\\\x00-\x1f]')
INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1  # of integer ids


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8.

    Half a surrogate pair cannot: a torn emoji, or a byte of a file name that is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_field_name(text: str) -> bool:
    """Whether a filter can name a metadata field that is called so: it becomes a path in quotes."""
    return bool(text) and not _BAD_NAME.search(text) and is_text(text)


def integer_id(text: str) -> int | None:
    """The integer id that a text writes in plain digits, if it writes one; ``int`` would take "1_0" and "٧" too."""
    if len(text) > 20 or not (text.isascii() and text.removeprefix("-").isdigit()):
        return None
    number = int(text)
    return number if INT_MIN <= number <= INT_MAX else None
