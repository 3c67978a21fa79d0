"""What counts as text everywhere: in ids, metadata, captions and paths. Knows nothing of what it says."""

from __future__ import annotations


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8.

    Half a surrogate pair cannot: a torn emoji, or a byte of a file name that is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
