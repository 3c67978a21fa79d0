"""Mutated files: whatever the bytes, no crash, no hang, no error but a sentence, no wrong answer past ``verify``."""

from __future__ import annotations

import faulthandler
import importlib.util
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

import hashret
from hashret.collection import Collection
from hashret.errors import HashretError, StorageError
from hashret.index import mih_tables, open_index
from hashret.index.kinds import INDEXES

LIMIT_S = 30  # thousands of times what a mutant takes
CODES, CATALOGUE = "codes-000001.bin", "catalogue.sqlite"
needs_arrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")


class Hangs(BaseException):
    """No ``except Exception`` takes it for an error of the file."""


@contextmanager
def limited(what: str) -> Iterator[None]:
    """A hang is an exception where Python runs, and soon after the end of the process where only C does."""

    def late(number: int, frame: FrameType | None) -> None:
        raise Hangs(f"{what}: no answer after {LIMIT_S} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_S)
    faulthandler.dump_traceback_later(2 * LIMIT_S, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutant(content: bytes, rng: random.Random) -> bytes:
    """The bytes with some of them changed, zeroed, copied from elsewhere, put in, taken out or cut off."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(min(len(data), rng.choice((100, len(data), len(data)))) or 1)
        at = len(data) - at if rng.random() < 0.1 else at  # what a format says of itself is at the end, too
        match rng.randrange(7):
            case 0 | 1 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 2 if at < len(data):
                data[at] = rng.randrange(256)
            case 3:
                stop = at + rng.choice((2, 16, 512, 8192))
                data[at:stop] = bytes(len(data[at:stop]))
            case 4:
                source = rng.randrange(len(data))
                part = data[source : source + rng.choice((1, 4, 64, 8192))]
                data[at : at + len(part)] = part
            case 5 if rng.random() < 0.1:
                data[at:at] = rng.randbytes(rng.choice((1, 4, 64)))
            case 6 if rng.random() < 0.1 and len(data) > 100:
                del data[at : at + rng.choice((1, 4, 64))]
    return bytes(data[: rng.randrange(len(data))] if rng.random() < 0.05 else data)


def refusal(error: HashretError) -> None:
    """It ends with a remedy, and not in the midst of what a library said."""
    ends = (".", "again", "salvage", "place", "hashret", "backup", "Collection.create")
    assert str(error).endswith(ends), error


QUERIES = np.arange(6, dtype=np.uint8).reshape(3, 2)


def answers(collection: Collection) -> list[object]:
    """Searches, and then all that a collection holds."""
    wheres = (None, {"n": {"gte": 200}}, {"n": {"exists": False}})
    hits = [collection.search(QUERIES, k=5, where=where, radius=9) for where in wheres]
    found = [(hit.ids.tolist(), hit.distances.tolist(), hit.metadata) for hit in hits]
    ids = list(collection)
    items = collection.get(ids)
    return [found, ids, items.codes.tobytes(), items.metadata, collection.info().fingerprint]


def verified(path: Path) -> list[object]:
    with Collection.open(path) as collection:
        collection.verify()
        return answers(collection)


def fuzz_collection(path: Path, rounds: int, seed: int) -> int:
    """Mutate a file of a collection, then search, read and verify: refused, or right. How many were refused."""
    codes = np.random.default_rng(seed).integers(0, 256, (160, 2), np.uint8) & np.uint8(0x5B)
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes[:100])
        collection.add(codes[100:], [f"s{i}" for i in range(60)], [{"n": i * 5} for i in range(60)])
        collection.delete([3, "s7"])
        collection.create_index("n")
    rng, truth, refused = random.Random(seed), verified(path), 0
    originals = {file.name: file.read_bytes() for file in path.iterdir()}
    for turn in range(rounds):
        name = rng.choice((CODES, CATALOGUE, CATALOGUE, CATALOGUE))
        (path / name).write_bytes(mutant(originals[name], rng))
        with limited(f"seed {seed}, round {turn}"):
            with suppress(HashretError), Collection.open(path) as collection:
                answers(collection)  # any: a flipped bit of a code gives a wrong distance
            try:
                assert verified(path) == truth, f"a wrong answer, seed {seed}, round {turn}"
            except HashretError as error:
                refused += 1
                refusal(error)
        for file in path.iterdir():
            if file.name not in originals:
                file.unlink()
        (path / name).write_bytes(originals[name])
    return refused


def fuzz_index(path: Path, kind: str, rounds: int, seed: int) -> int:
    """Mutate a saved index, then search and verify: refused, or right. How many were searched unverified."""
    n_bits, count = (16, 4100) if kind == "ivf" else (28, 600)
    codes = hashret.pack(np.random.default_rng(seed).random((count, n_bits)) < 0.3)
    index = INDEXES.load(kind)(n_bits)
    index.add(codes)
    index.save(path)
    original, rng, unverified = path.read_bytes(), random.Random(seed), 0
    mask = np.arange(count) % 2 > 0
    for turn in range(rounds):
        data, mmap = mutant(original, rng), turn % 4 > 0
        path.write_bytes(data)
        with limited(f"{kind}, seed {seed}, round {turn}"):
            try:
                opened = open_index(path, mmap=mmap)
                changed = data != original
                # checksums come before FAISS, which trusts what it reads, and where all is read anyway
                assert not changed or (mmap and kind in ("flat", "mih")), f"{kind}, seed {seed}, round {turn}"
                unverified += changed
                for queries in (codes[:1], codes[:40]):
                    opened.search(queries, 3)
                    opened.search(queries, 30, mask=mask[: len(opened)], radius=4)
                    opened.range_search(queries, 3)
            except StorageError:
                pass
            try:
                opened = open_index(path, mmap=mmap)
                if kind in ("flat", "mih"):
                    opened.verify()
                assert data == original, f"{kind}, seed {seed}, round {turn}: damage was not found"
            except StorageError:
                assert data != original
    return unverified


def fuzz_import(place: Path, suffix: str, rounds: int, seed: int) -> int:
    """Mutate an exported file and import it: refused with nothing changed, or right. How many were refused."""
    file, codes = place / f"items{suffix}", np.random.default_rng(seed).integers(0, 256, (200, 2), np.uint8)
    ids = [*range(50, 200), *(f"é{i}" for i in range(50))] if seed % 2 else range(50, 250)
    with Collection.create(place / "source", 16, fingerprint="f") as source:
        source.add(codes, ids, [{"n": i} if i % 2 else None for i in range(200)])
        source.export_to(file)
    original, rng, refused = file.read_bytes(), random.Random(seed), 0
    with Collection.create(place / "copy", 16, fingerprint="f") as copy:
        for turn in range(rounds):
            file.write_bytes(mutant(original, rng))
            with limited(f"{suffix}, seed {seed}, round {turn}"):
                try:
                    copy.import_from(file)
                except HashretError as error:
                    refused += 1
                    assert len(copy) == 0, error
                else:
                    held = list(copy)
                    if suffix != ".npy":  # which has no checksums, and what is in it is what is in it
                        items = copy.get(held)
                        right = held == list(ids) and items.metadata == [{"n": i} if i % 2 else {} for i in range(200)]
                        assert right and (items.codes == codes).all(), f"{suffix}, seed {seed}, round {turn}"
                    copy.delete(held)
            if turn % 100 == 0:
                copy.compact()
        copy.verify()
    return refused


@pytest.fixture
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multi-index hashing has its tables for few codes, too."""
    monkeypatch.setattr(mih_tables, "_FEWEST", 1)


KINDS = ("flat", "mih", "ivf", "hnsw")
SUFFIXES = (".npy", ".npz", pytest.param(".parquet", marks=needs_arrow))


def test_collections(tmp_path):
    assert fuzz_collection(tmp_path / "c", 60, seed=0) > 15


@pytest.mark.parametrize("kind", KINDS)
def test_indexes(tmp_path, small_tables, kind):
    rounds = {"flat": 200, "mih": 200, "ivf": 8, "hnsw": 30}[kind]
    unverified = fuzz_index(tmp_path / "index", kind, rounds, seed=0)
    assert (unverified > 30) == (kind in ("flat", "mih"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_imports(tmp_path, suffix):
    assert fuzz_import(tmp_path, suffix, 40, seed=0) > 10


# a million in all


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_collections_long(tmp_path, seed):
    fuzz_collection(tmp_path / "c", 49_000, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
@pytest.mark.parametrize("kind", KINDS)
def test_indexes_long(tmp_path, small_tables, kind, seed):
    fuzz_index(tmp_path / "index", kind, 9000, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_imports_long(tmp_path, suffix, seed):
    fuzz_import(tmp_path, suffix, 5000, seed)
