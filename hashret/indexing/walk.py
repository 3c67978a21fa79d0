"""What lies in a folder of photos: every picture below it, and a count of everything else.

Looks at names, sizes and times only; no file is opened, and what a collection is made of is not walked into. What is
missing here counts as deleted, so whatever may still be there is said: disks go away while they are looked through.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from hashret._text import is_text
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
    as the picture, and one that leads nowhere as deleted.

    Raises:
        DataError: ``root`` is no folder, cannot be listed, is not UTF-8, or went away in the meantime.
    """
    if not is_text(str(root)):
        raise DataError(f"the path of the folder {str(root)!r} is not UTF-8; rename it, or the folder around it")
    before = _place_of(root)
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
            raise _unread(root, error) from error
        unreadable.append(_id(path, root) + "/")
        skip(path, str(_unread(path, error)))

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
                others[suffix.encode(errors="replace").decode() or "no suffix"] += 1
                continue
            try:
                target, status = _behind(path)
            except OSError as error:
                unreadable.append(_id(path, root))  # also where it is gone since the folder was listed
                skip(path, f"{str(path)!r} cannot be read: {error.strerror or error}")
                continue
            if stat.S_ISLNK(status.st_mode):
                skip(path, f"the link {str(path)!r} leads to {str(target)!r}, where nothing is")
            elif not is_text(str(path)):
                skip(path, f"the path {str(path)!r} is not UTF-8; rename it")
            elif not is_text(str(target)):
                skip(path, f"{str(path)!r} links to {str(target)!r}, which is not UTF-8; rename that")
            elif stat.S_ISREG(status.st_mode):
                found.append(Found(_id(path, root), target, status.st_size, status.st_mtime_ns))
            else:  # reading a pipe would wait for ever
                skip(path, f"{str(path)!r} is a pipe or a device, and no file")
    if _place_of(root) != before:
        raise DataError(f"the folder {str(root)!r} went away while it was looked through; is its disk there?")
    found.sort()
    return Walk(tuple(found), Skipped(tuple(names), tuple(reasons)), tuple(unreadable), dict(others))


def _place_of(root: Path) -> tuple[int, int]:
    """Which directory of which disk it is: where a disk went away, its mount point is another."""
    try:
        with os.scandir(root):  # what the system mounts on demand is there when it is opened
            status = root.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{str(root)!r} {what}; give a folder of pictures") from error
    except OSError as error:
        raise _unread(root, error) from error
    return status.st_dev, status.st_ino


def _unread(folder: Path, error: OSError) -> DataError:
    return DataError(f"the folder {str(folder)!r} cannot be read: {error.strerror or error}")


def _behind(path: Path) -> tuple[Path, os.stat_result]:
    """Where a file lies at last, and what it is: the server opens no links, since they may be turned elsewhere.

    Of a link that leads nowhere, the link's own status.
    """
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
        path = Path(os.path.realpath(path))
    return path, status


def _id(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
