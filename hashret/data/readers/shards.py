"""Tar shards, as the package webdataset writes and reads them: the files of one item share a key.

    beach.jpg, beach.txt, beach.json        a picture, its captions (one a line), and what else is known

They lie together as a rule; where they lie apart (``tar cf s.tar *.txt *.png``), they are one item all the same.
A .json may hold ``captions`` (or ``caption``), ``labels``, ``split`` and ``id``; other keys become metadata. A .cls is
a label. Other files of an item are passed over. Pictures are unpacked once, into <cache>/shards, because everything
above works with files; <cache> is ``HASHRET_CACHE``, or ``~/.cache/hashret``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from hashret._files import cache_home
from hashret.data.readers._rows import Gathered, Row, gather
from hashret.data.readers.folder import PICTURES
from hashret.errors import DataError, StorageError

# Of what is unpacked; another one is unpacked anew. 1 gave every picture the same time of change; with 2 pictures could
# overwrite each other.
_FORMAT = 3
_OWN = ("captions", "caption", "labels", "split", "id", "image")


def read_shards(path: Path, *, images_root: Path | None = None, strict: bool = False) -> Gathered:
    """The records of a .tar file, or of all .tar files in a folder.

    ``images_root`` changes nothing, since the pictures lie in the shards.

    Raises:
        DataError: no tar file, a damaged one, or an item that cannot be used.
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
    whole = place / "rows.json"
    try:
        if not whole.is_file():
            part = place.with_name(f"{place.name}.{os.getpid()}")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            try:
                (part / "rows.json").write_text(json.dumps(_unpack(shard, part)), encoding="utf-8")
                if not whole.is_file():  # nobody was faster
                    shutil.rmtree(place, ignore_errors=True)
                    part.rename(place)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        stored = json.loads(whole.read_text(encoding="utf-8"))
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
        about = item["about"]
        captions = about.get("captions", about.get("caption", item["captions"]))
        image = str(place.resolve() / item["image"]) if item["image"] else None
        yield Row(
            where=f"{shard}, {key}",
            image=image,
            captions=captions if captions is not None else (),
            split=about.get("split"),
            labels=about.get("labels", item["labels"]),
            id=about.get("id", f"{shard.stem}/{key}" if many else key),
            metadata={name: value for name, value in about.items() if name not in _OWN},
        )


def _unpack(shard: Path, place: Path) -> dict[str, Any]:
    """What a shard says about each key; pictures become numbered files, whatever their names in the shard are."""
    items: dict[str, Any] = {}
    pictures = 0
    with tarfile.open(shard) as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            stem, _, kind = name.name.partition(".")
            if not member.isfile() or not stem:
                continue
            key = str(name.parent / stem)
            item = items.setdefault(key, {"image": None, "captions": None, "labels": [], "about": {}})
            suffix = "." + kind.lower()
            stream = archive.extractfile(member)
            if stream is None:
                continue
            if suffix in PICTURES:
                if item["image"] is not None:
                    raise DataError(
                        f"{shard}, {member.name}: the key {key!r} has another picture already; give every picture a "
                        "key of its own"
                    )
                pictures += 1
                item["image"] = picture = f"{pictures:09d}{suffix}"
                _write(place / picture, stream)
            elif suffix in (".txt", ".cls", ".json"):
                _say(item, suffix, stream.read(), f"{shard}, {member.name}")
    if not items:
        raise DataError(f"the shard {str(shard)!r} is empty")
    return {key: item for key, item in items.items() if item["image"] or item["captions"] or item["about"]}


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
        about = json.loads(text) if suffix == ".json" else None
    except ValueError as error:
        raise DataError(f"{where}: not valid {'JSON' if suffix == '.json' else 'UTF-8'} ({error})") from error
    if suffix == ".txt":
        item["captions"] = [line for line in text.split("\n") if line.strip()]
    elif suffix == ".cls":
        item["labels"] = [text.strip()]
    elif not isinstance(about, dict):
        raise DataError(f"{where}: the JSON of an item is an object, and not {about!r:.60}")
    else:
        item["about"] = about


def _identity(shard: Path) -> str:
    try:
        status = shard.stat()
    except OSError as error:  # a link that leads nowhere
        raise DataError(f"{str(shard)!r} cannot be read: {error.strerror or error}") from error
    known = f"{_FORMAT} {shard.resolve()} {status.st_size} {status.st_mtime_ns}"
    return hashlib.sha256(known.encode()).hexdigest()[:24]
