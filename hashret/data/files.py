"""Whether something is there: of a name that is too long, in a closed folder or on a broken disk ``Path`` raises."""

from __future__ import annotations

from pathlib import Path


def is_file(path: Path) -> bool:
    """Whether a file is there and can be looked at."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder is there and can be looked at."""
    try:
        return path.is_dir()
    except OSError:
        return False
