"""Tar shards, as the package webdataset writes and reads them: the files of one item share a key.

    beach.jpg, beach.txt, beach.json        a picture, its captions (one a line), and what else is known

They lie together as a rule; where they lie apart (``tar cf s.tar *.txt *.png``), they are one item all the same.
A .json may hold ``captions`` (or ``caption``), ``labels``, ``split`` and ``id``; where it says nothing of captions or
labels, the other files do. Its other keys become metadata. A .cls is a label. Other files of an item are passed over;
an item of nothing else is left out, and named. Pictures are unpacked once, because everything above works with files:

    <cache>/shards/<key>/rows.json            what the shard says, and the size of every picture
    <cache>/shards/<key>/000000001.jpg        the pictures, numbered
    <cache>/shards/<key>.lock                 held by who unpacks, so that others wait and take what is there
    <cache>/shards/<key>.<random>.part        what is being unpacked, renamed to <key> when it is whole

<cache> is ``HASHRET_CACHE``, or ``~/.cache/hashret``. Pictures that are gone from there are unpacked again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from hashret._files import cache_home, locked
from hashret.data.readers._rows import Gathered, Row, first_said, gather
from hashret.data.readers._values import NotJson, check_metadata, parse_json
from hashret.data.readers.folder import PICTURES
from hashret.errors import DataError, StorageError

# Of what is unpacked; another one is unpacked anew. 1 gave every picture the same time of change; with 2 pictures could
# overwrite each other; with 3 some could be missing.
_FORMAT = 4
_DEAD_S = 86_400  # a .part in which nothing was written for a day is of a killed run
_OWN = ("captions", "caption", "labels", "split", "id", "image")


def read_shards(path: Path, *, images_root: Path | None = None, strict: bool = False) -> Gathered:
    """The records of a .tar file, or of all .tar files in a folder.

    ``images_root`` changes nothing, since the pictures lie in the shards.

    Raises:
        DataError: no tar file, a damaged one, or an item that holds something wrong; with ``strict``, one with neither
            a picture nor a caption.
        StorageError: the pictures cannot be unpacked.
    """
    shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    if not shards:
        raise DataError(f"there is no .tar file in {str(path)!r}")
    home = cache_home() / "shards"
    rows = [row for shard in shards for row in _rows(shard, home / _identity(shard), many=len(shards) > 1)]
    return gather(rows, base=home, strict=strict)


def _rows(shard: Path, place: Path, *, many: bool) -> Iterator[Row]:
    """The rows of a shard; its pictures are unpacked into ``place`` where they are not there yet."""
    try:
        stored = _whole(place) or _unpacked(shard, place)
    except DataError:
        raise
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{str(shard)!r} is no tar file, or damaged: {error}") from error
    except OSError as error:
        raise StorageError(
            f"the pictures of {str(shard)!r} cannot be unpacked into {str(place)!r}: {error.strerror or error}; "
            "make room, or name another place with HASHRET_CACHE"
        ) from error
    for key, item in stored.items():
        about, id = item["about"], item["about"].get("id")
        if id is None or id == "":
            id = f"{shard.stem}/{key}" if many else key
        yield Row(
            where=f"{shard}, {key}",
            image=str(place.resolve() / item["image"]) if item["image"] else None,
            captions=first_said(about.get("captions"), about.get("caption"), item["captions"]),
            split=about.get("split"),
            labels=first_said(about.get("labels"), item["labels"]),
            id=id,
            metadata={name: value for name, value in about.items() if name not in _OWN},
            others=item["others"],
        )


def _whole(place: Path) -> dict[str, Any] | None:
    """What was stored in ``place``, or None where not all of it is there."""
    try:
        stored: dict[str, Any] = json.loads((place / "rows.json").read_text(encoding="utf-8"))
        with os.scandir(place) as files:
            sizes = {file.name: file.stat().st_size for file in files}
    except (OSError, ValueError):  # not there yet, or cut short with the power
        return None
    pictures = [(item["image"], item["bytes"]) for item in stored.values() if item["image"]]
    return stored if all(sizes.get(name) == size for name, size in pictures) else None


def _unpacked(shard: Path, place: Path) -> dict[str, Any]:
    """Unpack a shard into ``place`` and say what it holds.

    Where a file system has no locks, two may unpack at once: each in a folder of its own, and the first one stays.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_name(f"{place.name}.lock").open("w") as lock:
        locked(lock, wait=True)
        if stored := _whole(place):  # by whoever had the lock
            return stored
        for left in place.parent.glob(f"{place.name}.*.part"):
            with contextlib.suppress(OSError):
                if time.time() - left.stat().st_mtime > _DEAD_S:
                    shutil.rmtree(left)
        part = place.with_name(f"{place.name}.{secrets.token_hex(4)}.part")
        part.mkdir()
        try:
            stored = _unpack(shard, part)
            (part / "rows.json").write_text(json.dumps(stored), encoding="utf-8")
            try:
                part.rename(place)
            except OSError:  # something is there already
                if _whole(place) is None:
                    shutil.rmtree(place)
                    part.rename(place)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return stored


def _unpack(shard: Path, place: Path) -> dict[str, Any]:
    """What a shard says about each key; pictures become numbered files, whatever their names in the shard are."""
    items: dict[str, Any] = {}
    pictures = 0
    with tarfile.open(shard) as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            stem, _, kind = name.name.partition(".")
            if member.isdir() or not stem:
                continue
            key, suffix = str(name.parent / stem), "." + kind.lower()
            item = items.setdefault(
                key, {"image": None, "bytes": 0, "captions": [], "labels": [], "about": {}, "others": []}
            )
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is not None and suffix in PICTURES:
                if item["image"] is not None:
                    raise DataError(
                        f"{shard}, {member.name}: the key {key!r} has another picture already; give every picture a "
                        "key of its own"
                    )
                pictures += 1
                item["image"] = picture = f"{pictures:09d}{suffix}"
                item["bytes"] = member.size
                _write(place / picture, stream)
            elif stream is not None and suffix in (".txt", ".cls", ".json"):
                _say(item, suffix, stream.read(), f"{shard}, {member.name}")
            item["others"].append(suffix)
    if not items:
        raise DataError(f"the shard {str(shard)!r} is empty")
    return items


def _write(path: Path, stream: IO[bytes]) -> None:
    """Write a picture with a time of change that is made of its content, in 1970 to 2006.

    Files are told apart by name, size and time. So features stay valid wherever a shard is unpacked, and are not taken
    for those of another shard: names are numbers, and uncompressed pictures of one shape have one size.
    """
    with path.open("w+b") as file:
        shutil.copyfileobj(stream, file)
        file.seek(0)
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).digest()
    time_ns = int.from_bytes(digest) >> 4
    os.utime(path, ns=(time_ns, time_ns))


def _say(item: dict[str, Any], suffix: str, content: bytes, where: str) -> None:
    try:
        text = content.decode("utf-8-sig")
        about = parse_json(text) if suffix == ".json" else None
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8") from error
    except NotJson as error:
        raise DataError(f"{where}: {error}") from error
    if suffix == ".txt":
        item["captions"] = [line for line in text.split("\n") if line.strip()]
    elif suffix == ".cls":
        item["labels"] = [text.strip()] if text.strip() else []
    elif not isinstance(about, dict):
        raise DataError(f"{where}: the JSON of an item is an object, and not {about!r:.60}")
    else:
        check_metadata(about, where)  # here the file is known; and what is nested without end could not be kept
        item["about"] = about


def _identity(shard: Path) -> str:
    try:
        status = shard.stat()
    except OSError as error:  # a link that leads nowhere
        raise DataError(f"{str(shard)!r} cannot be read: {error.strerror or error}") from error
    known = f"{_FORMAT} {shard.resolve()} {status.st_size} {status.st_mtime_ns}"
    return hashlib.sha256(known.encode()).hexdigest()[:24]
