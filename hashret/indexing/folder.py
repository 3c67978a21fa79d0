"""A collection that follows a folder of photos: what is new or has changed is encoded, the rest is left as it is.

An item is a picture; its id is its path inside the folder, its metadata are ``facts_of`` it. A picture whose size, time
and place are as stored is not read again. Any other is read: where its content is stored under this or another id (it
was touched, renamed, copied), that code is taken, and otherwise it is encoded. A few hundred pictures at a time are
committed, so a killed run loses the work of seconds and the next one goes on behind it. Where more rows are dead than
live at the end, the collection is compacted.

Knows no data sets and no captions; when to look again is decided by who calls.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hashret._lazy import progress
from hashret.collection import Collection
from hashret.data import Skipped
from hashret.data.decode import MAX_PICTURE_BYTES
from hashret.engine import Engine, Model, open_model
from hashret.errors import DataError, InputError, StorageError
from hashret.indexing.changes import Changes
from hashret.indexing.facts import facts_of
from hashret.indexing.known import check_root, digest_of, known_of, read_known
from hashret.indexing.walk import Found, walk_folder

COMMIT = 256  # pictures stored at a time: seconds of work, and few enough commits

_log = logging.getLogger(__name__)


class _Entry(NamedTuple):
    found: Found
    metadata: dict[str, Any]
    source: str | None  # the id that has this content already


class FolderIndex:
    """A folder and the collection that follows it, open for writing. Made by ``FolderIndex.open``."""

    def __init__(self, root: Path, engine: Engine, *, batch_size: int = 32) -> None:
        self.root = root
        self.collection = engine.collection
        self._engine, self._batch_size = engine, batch_size
        self._known = read_known(self.collection)
        self._owner = {known.content: id for id, known in self._known.items()}
        self._failed: dict[str, tuple[int, int, str]] = {}
        check_root(root, self._known, collection=self.collection.path)

    @classmethod
    def open(
        cls,
        root: str | Path,
        out: str | Path,
        *,
        model: Model | str | Path | None = None,
        n_bits: int | None = None,
        credits: str | None = None,
        batch_size: int = 32,
        device: str = "auto",
    ) -> FolderIndex:
        """Open the collection at ``out``, or make it.

        Args:
            root: the folder of pictures.
            out: the collection's directory; it may lie in the folder.
            model: the model's directory; a collection that exists knows its own.
            n_bits: length of the codes of a new collection; the model's longest without.
            credits: whom to thank for the pictures, kept with a new collection.
            batch_size: pictures encoded together.
            device: where the model runs.

        Raises:
            DataError: ``root`` is no folder or cannot be listed.
            InputError: a new collection without a model, other ``n_bits`` or ``credits`` than the collection's, or a
                ``batch_size`` below 1.
            LockedError: somebody else writes to the collection.
            MismatchError: another model or another folder made the collection.
            StorageError: the collection cannot be read or made.
        """
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, and is {batch_size}")
        root, out = Path(os.path.realpath(root)), Path(out)  # Path.resolve raises where links lead in a circle
        walk_folder(root)  # refuses what is no folder before anything is made
        if not out.exists():
            if not isinstance(model, str | Path):
                raise InputError(f"there is no collection at {str(out)!r} yet; give the directory of a model for it")
            model = _create(out, Path(model), n_bits=n_bits, credits=credits, device=device)
        collection = Collection.open(out, mode="w")
        try:
            if n_bits is not None and n_bits != collection.n_bits:
                raise InputError(
                    f"the codes in {str(out)!r} have {collection.n_bits} bits, and {n_bits} were asked for; "
                    "choose another collection"
                )
            if credits is not None and credits != collection.credits:
                raise InputError(
                    f"the collection {str(out)!r} was made with the credits {collection.credits or ''!r}, which stay; "
                    "leave them out, or choose another collection"
                )
            engine = Engine(collection, model=model, device=device)
            if model is not None:
                _ = engine.model  # refuses another model even where nothing has to be encoded
            return cls(root, engine, batch_size=batch_size)
        except BaseException:
            collection.close()
            raise

    def update(self, *, prune: bool = False, settle: float = 0.0) -> Changes:
        """Bring the collection up to what the folder holds now.

        Args:
            prune: remove the items whose files are gone; otherwise they are only reported.
            settle: pictures changed less than so many seconds ago are left to the next update, for somebody may still
                be writing them.

        Raises:
            DataError: the folder is gone, goes away or cannot be listed; or, with ``prune``, it holds no picture any
                more.
            StorageError: the disk is full or fails; what was committed stays.
            MismatchError: the model is not the one that made the collection.
        """
        begun = time.perf_counter()
        walk = walk_folder(self.root)
        there = {found.id for found in walk.found}
        gone = [id for id in self._known if id not in there and not id.startswith(walk.unreadable)]
        if prune and gone and not walk.found:
            raise DataError(
                f"{str(self.root)!r} holds no picture any more, and the collection has {len(gone)} of it; is the "
                "folder's disk there? To empty the collection, delete it"
            )
        work = _Work(self, settle=settle)
        work.run(walk.found)
        if prune and gone:
            self.collection.delete(gone)
            for id in gone:
                self._forget(id)
        changes = Changes(
            **work.counts,
            removed=len(gone) if prune else 0,
            gone=() if prune else tuple(gone),
            skipped=walk.skipped + Skipped(tuple(work.skipped), tuple(work.skipped.values())),
            others=walk.others,
            seconds=time.perf_counter() - begun,
        )
        if changes.any:
            self._compact()
        return changes

    def _compact(self) -> None:
        """Free the space of dead rows where they are most; it can wait, so what stops it is no failure."""
        try:
            if self.collection.info().wasteful:
                self.collection.compact()
        except StorageError as error:
            _log.warning("%s is not compacted: %s", self.collection.path, error)

    def close(self) -> None:
        """Close the collection."""
        self.collection.close()

    def __enter__(self) -> FolderIndex:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _remember(self, id: str, metadata: Mapping[str, Any]) -> None:
        self._forget(id)
        self._known[id] = known_of(metadata)
        self._owner[metadata["content"]] = id
        self._failed.pop(id, None)

    def _forget(self, id: str) -> None:
        old = self._known.pop(id, None)
        if old is not None and self._owner.get(old.content) == id:
            del self._owner[old.content]


class _Work:
    """One update: reads, encodes and stores, and counts what it did."""

    def __init__(self, index: FolderIndex, *, settle: float) -> None:
        self.index, self.settle = index, settle
        self.counts = dict.fromkeys(("added", "changed", "touched", "unchanged", "encoded", "waiting"), 0)
        self.skipped: dict[str, str] = {}
        self._ready: list[tuple[_Entry, np.ndarray]] = []

    def run(self, found: tuple[Found, ...]) -> None:
        """Look at every picture, and store what is new or has changed."""
        todo = [picture for picture in found if self._must_read(picture)]
        batch: list[_Entry] = []
        try:
            for entry in progress(map(self._read, todo), label="Indexing", total=len(todo), unit="picture"):
                if entry is None:
                    continue
                if entry.source is not None:
                    code = self.index.collection.codes([entry.source])[0]
                    self._ready.append((entry, code))
                else:
                    batch.append(entry)
                if len(batch) == self.index._batch_size:
                    self._encode(batch)
                    batch = []
                if len(self._ready) >= COMMIT:
                    self._commit()
            self._encode(batch)
        except BaseException:
            self._commit()  # what is encoded need not be encoded again
            raise
        self._commit()

    def _must_read(self, found: Found) -> bool:
        known = self.index._known.get(found.id)
        if known is not None and known[:3] == (str(found.path), found.size, found.mtime_ns):
            self.counts["unchanged"] += 1
            return False
        failed = self.index._failed.get(found.id)
        if failed is not None and failed[:2] == (found.size, found.mtime_ns):
            self.skipped[found.id] = failed[2]
            return False
        if 0 <= time.time() - found.mtime_ns / 1e9 < self.settle:
            self.counts["waiting"] += 1
            return False
        return True

    def _read(self, found: Found) -> _Entry | None:
        if found.size > MAX_PICTURE_BYTES:
            size, most = f"{found.size / 1e6:,.0f} MB", f"{MAX_PICTURE_BYTES / 1e6:,.0f}"
            self._skip(found, f"{str(found.path)!r} has {size}, more than the {most} that are read; make it smaller")
            return None
        try:
            content = found.path.read_bytes()
        except FileNotFoundError:
            return None  # gone since the folder was listed
        except (OSError, MemoryError) as error:
            self._skip(found, _reason(found, error))
            return None
        if len(content) != found.size:
            self.counts["waiting"] += 1  # somebody writes it
            return None
        digest = digest_of(content)
        known = self.index._known.get(found.id)
        source = found.id if known is not None and known.content == digest else self.index._owner.get(digest)
        return _Entry(found, facts_of(found, content, digest), source)

    def _encode(self, batch: list[_Entry]) -> None:
        """Encode together; where one cannot be decoded, each by itself, to find which."""
        if not batch:
            return
        try:
            codes = self._codes(batch)
        except (DataError, MemoryError) as error:
            if len(batch) == 1:
                found, reason = batch[0].found, _reason(batch[0].found, error)
                if not _may_pass(error):
                    self.index._failed[found.id] = (found.size, found.mtime_ns, reason)
                self._skip(found, reason)
                return
            for entry in batch:
                self._encode([entry])
            return
        for entry, code in zip(batch, codes):
            if _unchanged(entry.found):
                self._ready.append((entry, code))
                self.counts["encoded"] += 1
            else:
                self.counts["waiting"] += 1

    def _codes(self, batch: list[_Entry]) -> np.ndarray:
        paths = [entry.found.path for entry in batch]
        model, n_bits = self.index._engine.model, self.index.collection.n_bits
        return model.encode_images(paths, n_bits=n_bits, batch_size=len(paths))

    def _commit(self) -> None:
        if not self._ready:
            return
        index, entries = self.index, [entry for entry, _ in self._ready]
        codes = np.stack([code for _, code in self._ready])
        index.collection.upsert(codes, [entry.found.id for entry in entries], [entry.metadata for entry in entries])
        self._ready = []
        for entry in entries:
            id = entry.found.id
            kind = "added" if id not in index._known else "touched" if entry.source == id else "changed"
            self.counts[kind] += 1
            index._remember(id, entry.metadata)

    def _skip(self, found: Found, reason: str) -> None:
        _log.info("%s", reason)
        self.skipped[found.id] = reason


def _may_pass(error: Exception) -> bool:
    """Whether the same file may be read the next time: the system failed. Pillow's own OSErrors have no number."""
    return any(
        isinstance(one, MemoryError) or (isinstance(one, OSError) and one.errno is not None)
        for one in (error, error.__cause__)
    )


def _reason(found: Found, error: DataError | MemoryError | OSError) -> str:
    if isinstance(error, DataError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{str(found.path)!r} does not fit into the memory; make it smaller"
    return f"{str(found.path)!r} cannot be read: {error.strerror or error}"


def _unchanged(found: Found) -> bool:
    """Whether the file is still the one that was read before it was encoded."""
    try:
        status = found.path.stat()
    except OSError:
        return False
    return (status.st_size, status.st_mtime_ns) == (found.size, found.mtime_ns)


def _create(out: Path, model_path: Path, *, n_bits: int | None, credits: str | None, device: str) -> Model:
    """An empty collection, and the model that is to fill it."""
    model = open_model(model_path, device=device)
    if n_bits is not None and not 1 <= n_bits <= model.n_bits:
        raise InputError(f"n_bits must lie between 1 and the model's {model.n_bits}, and is {n_bits}")
    Collection.create(
        out,
        n_bits=n_bits or model.n_bits,
        fingerprint=model.fingerprint,
        model=str(model_path.resolve()),
        credits=credits,
    ).close()
    return model
