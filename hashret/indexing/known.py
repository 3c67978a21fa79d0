"""What a collection knows of the folder that it follows, and whether a folder is that one.

Looks at the pictures of a folder that was moved, a few of them; encodes and stores nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from hashret.collection import Collection
from hashret.errors import MismatchError

LISTING = ("image", "bytes", "mtime_ns", "content")  # the metadata of a picture that say what and where its file is
_READ = 10_000  # items of a collection read at a time
_COMPARED = 64  # pictures that are read to know a folder again: more would not change the answer


class Known(NamedTuple):
    """A picture as it is stored; see ``facts_of``."""

    image: str
    size: int
    mtime_ns: int
    content: str


def known_of(metadata: Mapping[str, Any]) -> Known:
    """What the metadata of a picture say of its file."""
    return Known(*(metadata[name] for name in LISTING))


def digest_of(content: bytes) -> str:
    """By which the content of a picture is known again."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def read_known(collection: Collection) -> dict[str, Known]:
    """Every picture of a folder's collection, by its id.

    Raises:
        MismatchError: the collection was not made from a folder.
    """
    known: dict[str, Known] = {}
    ids = list(collection)
    for first in range(0, len(ids), _READ):
        items = collection.get(ids[first : first + _READ])
        for id, metadata in zip(items.ids, items.metadata):
            if isinstance(id, str) and metadata.keys() >= set(LISTING):
                known[id] = known_of(metadata)
    if ids and not known:
        raise MismatchError(
            f"the collection {str(collection.path)!r} was not made from a folder of pictures; "
            "choose another place for this one"
        )
    return known


def check_root(root: Path, known: Mapping[str, Known], *, collection: Path) -> None:
    """Two folders would remove and replace each other's pictures; a folder that was moved goes on.

    Args:
        root: the folder, resolved.
        known: what the collection knows.
        collection: its path, for the error.

    Raises:
        MismatchError: the collection follows another folder.
    """
    if not known or any(os.path.realpath(root / id) == one.image for id, one in known.items()):
        return  # the same place, whatever lies there today
    other: str | None = None
    for id, one in known.items():
        stored = Path(one.image)
        try:
            if not stored.exists():
                continue
            if (root / id).exists() and stored.samefile(root / id):
                return  # one is enough: of others a link may be gone, and what it led to still there
        except OSError:  # it cannot be looked at, and says nothing
            continue
        other = other or one.image.removesuffix(id)
    if other is not None:
        raise MismatchError(
            f"the collection {str(collection)!r} follows another folder ({other}); "
            f"choose another place for the pictures in {str(root)!r}"
        )
    if not _holds(root, known):
        folders = (one.image.removesuffix(id) for id, one in known.items() if one.image.endswith(f"/{id}"))
        away = next(folders, next(iter(known.values())).image)  # of links only, where the first of them led
        raise MismatchError(
            f"the collection {str(collection)!r} follows another folder ({away}), which is not there now, and "
            f"{str(root)!r} does not hold its pictures; choose another place for these (--out), or, if nobody needs "
            "the others any more, delete the collection"
        )


def _holds(root: Path, known: Mapping[str, Known]) -> bool:
    """Whether a folder holds the known pictures: of those with a namesake, most. One may be in any two folders."""
    seen = (_is(root / id, one) for id, one in known.items())
    same = list(islice((answer for answer in seen if answer is not None), _COMPARED))
    return 2 * sum(same) > len(same)


def _is(path: Path, one: Known) -> bool | None:
    """Whether a file has the content that is stored, whatever its time; None where that is not stored (its code is a
    client's), or no file can be read."""
    try:
        if not one.content or not path.is_file():
            return None
        return path.stat().st_size == one.size and digest_of(path.read_bytes()) == one.content
    except (OSError, MemoryError):
        return None
