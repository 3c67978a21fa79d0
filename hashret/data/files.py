"""Whether something is there: of a name that is too long, in a closed folder or on a broken disk ``Path`` raises.

And whether two paths are one; links are not followed.
"""

from __future__ import annotations

import os
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


def spelling_of(path: Path) -> str:
    """One spelling for every path of a file: ``1.jpg``, ``./x/../1.jpg`` and the absolute path are the same."""
    return os.path.normpath(Path(path).absolute())
