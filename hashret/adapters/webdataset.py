"""Tar shards in the form of the package webdataset: files of one item share a key and lie together.

    000000000.jpg   the picture's file as it is       000000000.txt   its captions, one a line
    000000000.json  id, captions, labels, split and metadata
    000000000.code.npy                                its code (n_bytes,) uint8, from a collection

Plain tarfile: the same items give the same bytes. Reading them back is ``open_dataset("shards/")``, which leaves out,
and names, what has neither a picture nor a caption.
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hashret.collection import Collection
from hashret.data import Dataset
from hashret.data.readers.folder import PICTURES
from hashret.errors import DataError, InputError, StorageError

_READ = 1000  # items of a collection read at a time


def write_shards(source: Dataset | Collection, out: str | Path, *, per_shard: int = 1000) -> list[Path]:
    """Write the items of a data set, or of a collection with their codes, as tar shards.

    Args:
        source: pictures are taken from ``Record.image``, or from the metadata field ``image``.
        out: a folder, made where it is missing, for 000000.tar, 000001.tar, ….
        per_shard: items of a shard.

    Returns:
        The shards.

    Raises:
        InputError: ``per_shard`` is not positive, or two ids are the same as text, such as 1 and "1".
        DataError: a picture cannot be read.
        StorageError: a shard exists already, or cannot be written. After any error no shard of this call is left.
    """
    if per_shard < 1:
        raise InputError(f"per_shard must be at least 1, and is {per_shard}")
    folder, shards = Path(out), list[Path]()
    items = _of_collection(source, _ids(source)) if isinstance(source, Collection) else _of_dataset(source)
    writer: tarfile.TarFile | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.glob("*.tar")):
            raise StorageError(f"there are shards in {str(folder)!r} already; choose another folder, or delete them")
        for number, (image, code, about) in enumerate(items):
            if number % per_shard == 0:
                _finish(writer, shards)
                shards.append(folder / f"{len(shards):06d}.tar")
                writer = tarfile.open(_part(shards[-1]), "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
            assert writer is not None
            _write(writer, f"{number:09d}", image, code, about)
        _finish(writer, shards)
    except BaseException as error:
        _remove(writer, shards)
        if isinstance(error, OSError) and not isinstance(error, StorageError):
            raise StorageError(f"the shards cannot be written in {str(folder)!r}: {error.strerror or error}") from error
        raise
    return shards


def _of_dataset(dataset: Dataset) -> Iterator[tuple[Path | None, None, dict[str, Any]]]:
    for record in dataset:
        about = {**record.metadata, "id": record.id, "captions": list(record.captions), "labels": list(record.labels)}
        yield record.image, None, about | ({"split": record.split} if record.split is not None else {})


def _ids(collection: Collection) -> list[Any]:
    """All ids; a record's is text, so those of a collection must differ as text too."""
    ids = list(collection)
    texts = {id for id in ids if isinstance(id, str)}
    twice = [id for id in ids if not isinstance(id, str) and str(id) in texts]
    if twice:
        raise InputError(
            f"{len(twice)} ids occur as a number and as text, such as {twice[0]!r} and {str(twice[0])!r}, and a record "
            f"of a data set is told by the text of its id; store one of the two under another id"
        )
    return ids


def _of_collection(collection: Collection, ids: list[Any]) -> Iterator[tuple[Path | None, np.ndarray, dict[str, Any]]]:
    for first in range(0, len(ids), _READ):
        items = collection.get(ids[first : first + _READ])
        for id, code, metadata in zip(*items):
            about = {**metadata, "id": id}
            image = about.pop("image", None)
            if about.get("split") is not None:
                about["split"] = str(about["split"])  # of a collection it is whatever somebody stored; of a shard, text
            yield Path(image) if isinstance(image, str) else None, code, about


def _write(
    writer: tarfile.TarFile, key: str, image: Path | None, code: np.ndarray | None, about: dict[str, Any]
) -> None:
    if image is not None:
        try:
            content = image.read_bytes()
        except OSError as error:
            raise DataError(f"the picture {str(image)!r} cannot be read: {error.strerror or error}") from error
        suffix = image.suffix.lower()  # one that no reader knows would hide the picture; what it is, its bytes say
        _member(writer, key + (suffix if suffix in PICTURES else ".jpg"), content)
    captions = about.get("captions")  # of a collection, whatever its metadata hold
    captions = [captions] if isinstance(captions, str) else captions
    if captions and isinstance(captions, list):
        _member(writer, f"{key}.txt", "\n".join(" ".join(str(text).split()) for text in captions).encode())
    _member(writer, f"{key}.json", json.dumps(about, ensure_ascii=False).encode())
    if code is not None:
        stream = io.BytesIO()
        np.save(stream, code)
        _member(writer, f"{key}.code.npy", stream.getvalue())


def _member(writer: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    writer.addfile(entry, io.BytesIO(content))


def _finish(writer: tarfile.TarFile | None, shards: list[Path]) -> None:
    if writer is not None:
        writer.close()
        _part(shards[-1]).replace(shards[-1])


def _remove(writer: tarfile.TarFile | None, shards: list[Path]) -> None:
    """Take away what was written, finished or not: it would stand in the way of the next try."""
    with contextlib.suppress(OSError):
        if writer is not None:
            writer.close()
    for shard in shards:
        for path in (shard, _part(shard)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _part(shard: Path) -> Path:
    return shard.with_name(f".{shard.name}.part")
