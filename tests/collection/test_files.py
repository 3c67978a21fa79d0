"""Damaged, truncated, foreign and future files are refused with a sentence, and verify finds every flipped bit."""

from __future__ import annotations

import random
import shutil
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from hashret.collection import Collection
from hashret.errors import CorruptError, StorageError, VersionError

GOLDEN = Path(__file__).with_name("golden")
CODES, CATALOGUE = "codes-000001.bin", "catalogue.sqlite"


@pytest.fixture
def closed(path: Path, codes) -> Path:
    """A closed collection with a run, items, an index and tombstones."""
    with Collection.create(path, n_bits=16, fingerprint="f" * 64) as collection:
        collection.add(codes(40_000))
        collection.add(codes(300, seed=1), [f"s{i}" for i in range(300)], [{"n": i} for i in range(300)])
        collection.delete([3, 39_000, "s7"])
        collection.upsert(codes(1, seed=2), [5], [{"n": -5}])
        collection.create_index("n")
    return path


def content(path: Path) -> list[object]:
    with Collection.open(path) as collection:
        collection.verify()
        ids = list(collection)
        items = collection.get(ids)
        queries = items.codes[:: max(1, len(ids) // 5)]
        hits = [collection.search(queries, k=5), collection.search(queries, k=5, where={"n": {"gte": 200}})]
        found = [(hit.ids.tolist(), hit.distances.tolist(), hit.metadata) for hit in hits]
        return [ids, items.codes.tobytes(), items.metadata, found, collection.info().fingerprint]


def flip(file: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 1 << bit
    file.write_bytes(data)


@pytest.mark.parametrize("name", sorted(file.stem for file in GOLDEN.glob("*.zip")))
def test_collections_of_every_version_open(name, tmp_path):
    with zipfile.ZipFile(GOLDEN / f"{name}.zip") as stored:
        stored.extractall(tmp_path)
    with Collection.open(tmp_path / name) as collection:
        assert collection.verify().count == len(collection) == 168
        assert collection.info().dead == 6 and collection.info().indexes == ("year",)
        assert list(collection)[:3] == [0, 1, 2] and list(collection)[-2:] == ["é🦜", 7]
        expected = np.random.default_rng(1).integers(0, 256, (174, 5), np.uint8)
        expected[:, -1] &= 0xF0
        np.testing.assert_array_equal(collection.codes([0, 99, "item-3", 7]), expected[[0, 99, 103, 173]])
        assert collection.get(["item-3", 7]).metadata == [{"year": 2003, "tags": ["a", 3]}, {"seven": True}]
        hits = collection.search(expected[:1], k=2, where={"year": {"gte": 2060}})
        assert set(hits.ids[0].tolist()) <= {f"item-{i}" for i in range(60, 70)}
        assert (collection.n_bits, collection.fingerprint, collection.model) == (36, "golden", "models/golden")
    with Collection.open(tmp_path / name, mode="w") as collection:
        collection.add(expected[:1])
        collection.compact()
        assert collection.verify().count == 169


def test_every_flipped_bit_of_the_codes_is_found(closed):
    file = closed / CODES
    size, rng = file.stat().st_size, random.Random(0)
    places = [*range(64), 64, 65, size - 1, *(rng.randrange(64, size) for _ in range(40))]
    for offset in places:
        bit = rng.randrange(8)
        flip(file, offset, bit)
        with pytest.raises(StorageError, match=CODES), Collection.open(closed) as collection:
            collection.verify()
        flip(file, offset, bit)
    content(closed)


def test_the_block_is_named(closed):
    flip(closed / CODES, 64 + 2 * 32768 + 5)
    with Collection.open(closed) as collection, pytest.raises(CorruptError, match=r"block 1, of 32768.*salvage"):
        collection.verify()


def test_damage_is_not_sealed_by_a_compaction(closed):
    flip(closed / CODES, 100)
    with Collection.open(closed, mode="w") as collection:
        with pytest.raises(CorruptError, match="was not compacted"):
            collection.compact()
        assert [file.name for file in closed.glob("codes-*")] == [CODES]


@pytest.mark.parametrize("cut", [0, 10, 64, 1000, -1])
def test_truncated_codes(closed, cut):
    data = (closed / CODES).read_bytes()
    (closed / CODES).write_bytes(data[:cut])
    with pytest.raises(CorruptError, match=r"shorter than the header|is truncated: the catalogue counts"):
        Collection.open(closed)


def test_codes_that_are_missing_foreign_or_of_another_collection(closed, tmp_path, codes):
    with Collection.create(tmp_path / "other", n_bits=16) as other:
        other.add(codes(50_000))
    shutil.copy(tmp_path / "other" / CODES, closed / CODES)
    with pytest.raises(CorruptError, match="belongs to another collection"):
        Collection.open(closed)
    (closed / CODES).write_bytes(b"PNG" * 1000)
    with pytest.raises(CorruptError, match="does not begin like a codes file"):
        Collection.open(closed)
    (closed / CODES).unlink()
    with pytest.raises(CorruptError, match="is not there"):
        Collection.open(closed)


def test_codes_from_the_future(closed):
    data = bytearray((closed / CODES).read_bytes())
    data[8] = 2
    data[60:64] = crc32(data[:60]).to_bytes(4, "little")
    (closed / CODES).write_bytes(data)
    with pytest.raises(VersionError, match=r"version 2 of the format.*install a newer hashret"):
        Collection.open(closed)


def test_catalogues_that_are_foreign_or_from_the_future(closed):
    connection = sqlite3.connect(closed / CATALOGUE)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(VersionError, match="version 9"):
        Collection.open(closed)
    connection = sqlite3.connect(closed / CATALOGUE)
    connection.execute("PRAGMA user_version = 1")
    connection.execute("CREATE TRIGGER evil AFTER INSERT ON items BEGIN DELETE FROM items; END")
    connection.close()
    with pytest.raises(CorruptError, match="not those of hashret"):
        Collection.open(closed)
    for text in (b"", b"no database at all" * 1000, (closed / CATALOGUE).read_bytes()[:5000]):
        (closed / CATALOGUE).write_bytes(text)
        with pytest.raises(CorruptError, match=CATALOGUE):
            Collection.open(closed)


def test_a_catalogue_whose_tables_are_no_text(closed):
    data = (closed / CATALOGUE).read_bytes()
    for name in (b"CREATE TABLE about", b"CREATE UNIQUE INDEX items_id ON"):
        (closed / CATALOGUE).write_bytes(data.replace(name, name[:-5] + b"\xcc\x99\xff\xfe\xaa"))
        with pytest.raises(CorruptError, match="is damaged"):
            Collection.open(closed)


def test_changed_rows_of_the_catalogue_are_found(closed):
    changes = (
        "UPDATE items SET metadata = '{\"n\":4}' WHERE id = 's3'",
        "UPDATE items SET id = 's3000' WHERE id = 's3'",
        "UPDATE items SET row = 40300 + 5 WHERE id = 's3'",
        "DELETE FROM items WHERE id = 's3'",
        "UPDATE runs SET id = 7",
        "UPDATE runs SET n = n - 1",
        "DELETE FROM runs",
        "UPDATE tombstones SET rows = zeroblob(8)",
        "DELETE FROM tombstones",
        "UPDATE state SET n_live = 5",
        "UPDATE state SET n_rows = n_rows - 1",
        "UPDATE blocks SET crc = 1 WHERE block = 0",
        "DELETE FROM blocks WHERE block = 1",
        "INSERT INTO blocks VALUES (99, 0)",
        "UPDATE about SET value = 'other' WHERE key = 'fingerprint'",
    )
    original = (closed / CATALOGUE).read_bytes()
    for change in changes:
        connection = sqlite3.connect(closed / CATALOGUE)
        connection.execute(change)
        connection.commit()
        connection.close()
        with pytest.raises(StorageError), Collection.open(closed) as collection:
            collection.verify()
        (closed / CATALOGUE).write_bytes(original)
    content(closed)


def test_an_item_of_a_dead_row_is_not_found(path, codes):
    """As in a copy of which one file is older than another."""
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(9), [f"s{i}" for i in range(9)], [{"n": i} for i in range(9)])
    with closing(sqlite3.connect(path / CATALOGUE)) as connection:
        before = connection.execute("SELECT * FROM items").fetchall()
    with Collection.open(path, mode="w") as collection:
        collection.delete("s3")
    with closing(sqlite3.connect(path / CATALOGUE)) as connection:
        connection.executemany("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?)", before)
        connection.commit()
    with Collection.open(path) as collection, pytest.raises(CorruptError, match="an item has a dead row"):
        collection.search(codes(1), where={"n": {"lt": 5}})


def test_a_damaged_log_gives_an_earlier_state_or_is_refused(path, tmp_path, codes):
    """The log of a writer that was killed: SQLite ends it at the first frame whose checksum is wrong."""
    place, states = tmp_path / "killed", []
    with Collection.create(path, n_bits=16) as collection:
        for i in range(12):
            collection.add(codes(10, seed=i), [f"{i}-{j}" for j in range(10)])
            states.append(list(collection))
        shutil.copytree(path, place, ignore=shutil.ignore_patterns("*-shm"))
    log, rng = place / f"{CATALOGUE}-wal", random.Random(0)
    data, shorter = log.read_bytes(), 0
    for _ in range(40):
        log.write_bytes(data)
        flip(log, rng.randrange(len(data)), rng.randrange(8))
        with Collection.open(place) as collection:
            collection.verify()
            assert list(collection) in [[], *states]
            shorter += len(collection) < 120
        (place / f"{CATALOGUE}-shm").unlink(missing_ok=True)
    assert shorter > 20
