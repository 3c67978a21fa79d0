"""A salvage puts right what is wrong in the header of the catalogue, in a copy."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from zlib import crc32

import numpy as np
import pytest

from hashret.collection import Collection
from hashret.errors import CorruptError, VersionError

CATALOGUE = "catalogue.sqlite"


@pytest.mark.parametrize("log", [False, True])
def test_no_byte_of_the_header_of_the_catalogue_costs_an_item(path, tmp_path, codes, log):
    writer = Collection.create(path, n_bits=16)
    writer.add(codes(100))
    writer.add(codes(300, seed=1), [f"s{i}" for i in range(300)], [{"n": i, "t": "x" * 200} for i in range(300)])
    if log:  # what was stored before is in the database, and what comes now in its log alone
        writer.close()
        writer = Collection.open(path, mode="w")
        writer.upsert(codes(50, seed=2), [f"s{i}" for i in range(50)])
    writer.delete([1, "s1", "s2"])
    ids = list(writer)
    items = writer.get(ids)
    if not log:
        writer.close()
    originals = {file.name: file.read_bytes() for file in path.iterdir() if not file.name.endswith("-shm")}
    writer.close()
    assert (f"{CATALOGUE}-wal" in originals) == log

    def salvage(name: str, header: bytes) -> None:
        (damaged := tmp_path / name).mkdir()
        for file, content in originals.items():
            (damaged / file).write_bytes(content)
        with (damaged / CATALOGUE).open("r+b") as file:
            file.write(header)
        saved = Collection.salvage(damaged, tmp_path / f"{name}.out")
        assert (saved.count, saved.lost, saved.problems) == (len(ids), 0, ()), name
        expected = {**originals, CATALOGUE: header + originals[CATALOGUE][100:]}
        assert {file: (damaged / file).read_bytes() for file in originals} == expected
        with Collection.open(tmp_path / f"{name}.out") as new:
            assert list(new) == ids and new.get(ids).metadata == items.metadata
            np.testing.assert_array_equal(new.get(ids).codes, items.codes)

    headers = {"zeros": bytes(100)}
    for at in range(0, 100, 3 if log else 1):
        header = bytearray(originals[CATALOGUE][:100])
        header[at] ^= 1 << at % 8
        headers[f"byte{at}"] = bytes(header)
    with ThreadPoolExecutor(8) as threads:  # they mostly wait for the disk
        list(threads.map(salvage, headers, headers.values()))
    assert not list(tmp_path.glob(".*"))


def test_no_header_is_made_up_for_a_foreign_or_later_catalogue(path, tmp_path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100))
    file, codes_file = path / CATALOGUE, path / "codes-000001.bin"
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    header = bytearray(codes_file.read_bytes()[:64])
    header[8] = 2
    header[60:64] = crc32(header[:60]).to_bytes(4, "little")
    codes_file.write_bytes(header + codes_file.read_bytes()[64:])
    with pytest.raises(VersionError, match="install a newer hashret"):
        Collection.salvage(path, tmp_path / "out")
    file.unlink()
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE items (id)")
    connection.close()
    with pytest.raises(CorruptError, match="is not a catalogue of hashret"):
        Collection.salvage(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
