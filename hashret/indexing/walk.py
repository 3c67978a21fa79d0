"""What lies in a folder of photos: every picture below it, and a count of everything else.

Looks at names, sizes and times only; no file is opened, and what a collection is made of is not walked into.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hashret.data import Skipped
from hashret.data.readers.folder import PICTURES
from hashret.errors import DataError

_CATALOGUE = "catalogue.sqlite"  # a directory with this file is a collection


class Found(NamedTuple):
    """A file that is called like a picture.

    Attributes:
        id: its path inside the folder, with slashes.
        path: where it lies; of a link, where it leads.
        size: in bytes.
        mtime_ns: when it was changed last, nanoseconds since 1970.
    """

    id: str
    path: Path
    size: int
    mtime_ns: int


class Walk(NamedTuple):
    """What lies in a folder.

    Attributes:
        found: the pictures, sorted by id.
        skipped: files and sub-folders that cannot be used, with the reason.
        unreadable: ids, or their beginnings, of files and sub-folders that could not be looked at; whether pictures
            are there is unknown.
        others: suffix -> number of files that are no pictures by their name.
    """

    found: tuple[Found, ...]
    skipped: Skipped
    unreadable: tuple[str, ...]
    others: Mapping[str, int]


def walk_folder(root: Path) -> Walk:
    """Every picture below ``root``.

    Hidden files and folders, folders behind symbolic links, and collections are passed over. A link to a picture counts
    as the picture.

    Raises:
        DataError: ``root`` is no folder, or cannot be listed.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{str(root)!r} {what}; give a folder of pictures")
    found: list[Found] = []
    names: list[str] = []
    reasons: list[str] = []
    unreadable: list[str] = []
    others: Counter[str] = Counter()

    def skip(path: Path, reason: str) -> None:
        names.append(_id(path, root))
        reasons.append(reason)

    def refused(error: OSError) -> None:
        path = Path(error.filename)
        if path == root:
            raise DataError(f"the folder {str(root)!r} cannot be read: {error.strerror or error}") from error
        unreadable.append(_id(path, root) + "/")
        skip(path, f"the folder {str(path)!r} cannot be read: {error.strerror or error}")

    for place, folders, files in os.walk(root, onerror=refused):
        here = Path(place)
        if _CATALOGUE in files:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith("."):
                continue
            path = here / name
            suffix = path.suffix.lower()
            if suffix not in PICTURES:
                others[suffix or "no suffix"] += 1
                continue
            try:
                _id(path, root).encode()
                target, status = _behind(path)
            except UnicodeEncodeError:
                skip(path, f"the path {str(path)!r} is not UTF-8; rename it")
            except OSError as error:
                if not isinstance(error, FileNotFoundError):
                    unreadable.append(_id(path, root))
                skip(path, f"{str(path)!r} cannot be read: {error.strerror or error}")
            else:
                if stat.S_ISREG(status.st_mode):
                    found.append(Found(_id(path, root), target, status.st_size, status.st_mtime_ns))
                else:  # reading a pipe would wait for ever
                    skip(path, f"{str(path)!r} is a pipe or a device, and no file")
    found.sort()
    return Walk(tuple(found), Skipped(tuple(names), tuple(reasons)), tuple(unreadable), dict(others))


def _behind(path: Path) -> tuple[Path, os.stat_result]:
    """Where a file lies at last, and what it is: the server opens no links, since they may be turned elsewhere."""
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        status, path = path.stat(), Path(os.path.realpath(path))
        str(path).encode()
    return path, status


def _id(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
