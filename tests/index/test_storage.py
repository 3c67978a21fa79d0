"""The file of an index: what was saved comes back, and what is damaged is refused by a sentence."""

from __future__ import annotations

import resource
import struct
import zlib

import numpy as np
import pytest

import hashret
from hashret.errors import CorruptError, StorageError, VersionError
from hashret.index import INDEXES, FlatIndex, mih_tables, open_index


def saved(path, count=50, n_bits=100):
    codes = hashret.pack(np.random.default_rng(count).random((count, n_bits)) < 0.5)
    index = FlatIndex(n_bits)
    index.add(codes)
    index.save(path)
    return codes


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize(("count", "n_bits"), [(0, 64), (1, 1), (50, 100), (200_000, 64)])
def test_what_was_saved_comes_back(tmp_path, mmap, count, n_bits):
    codes = saved(tmp_path / "flat", count, n_bits)
    index = FlatIndex.open(tmp_path / "flat", mmap=mmap)
    assert (index.n_bits, len(index)) == (n_bits, count)
    np.testing.assert_array_equal(index.codes, codes)
    index.verify()
    index.add(hashret.pack(np.ones((1, n_bits))))  # the file stays as it is
    assert len(index) == count + 1
    assert len(FlatIndex.open(tmp_path / "flat")) == count
    index.save(tmp_path / "flat")
    assert len(FlatIndex.open(tmp_path / "flat", mmap=False)) == count + 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["flat"]


def test_the_file_is_as_drawn(tmp_path):
    codes = saved(tmp_path / "flat", 3, 12)
    content = (tmp_path / "flat").read_bytes()
    header = struct.pack("<8sI8sIQQI16x", b"\x89HRINDX\n", 1, b"flat", 12, 3, 6, 1 << 20)
    table = struct.pack("<I", zlib.crc32(codes.tobytes()))
    assert content == b"".join(
        [header, struct.pack("<I", zlib.crc32(header)), codes.tobytes(), table, struct.pack("<I", zlib.crc32(table))]
    )


def test_a_file_of_version_1_opens(tmp_path):
    """Bytes written once by version 1; every later version has to read them."""
    golden = (
        "894852494e44580a01000000666c6174000000000c000000030000000000000006000000000000000000100000000000"
        "000000000000000000000000dec79a3b0000fff0a550dacd1862df1b7dd0"
    )
    (tmp_path / "golden").write_bytes(bytes.fromhex(golden))
    index = FlatIndex.open(tmp_path / "golden")
    index.verify()
    assert index.n_bits == 12 and index.codes.tolist() == [[0, 0], [0xFF, 0xF0], [0xA5, 0x50]]
    index.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == bytes.fromhex(golden)


@pytest.mark.parametrize("mmap", [True, False])
def test_truncated_anywhere(tmp_path, mmap):
    saved(tmp_path / "flat", 20, 64)
    content = (tmp_path / "flat").read_bytes()
    for length in range(len(content)):
        (tmp_path / "cut").write_bytes(content[:length])
        with pytest.raises(CorruptError, match="cut"):
            FlatIndex.open(tmp_path / "cut", mmap=mmap)
    (tmp_path / "cut").write_bytes(content + b"x")
    with pytest.raises(CorruptError, match="too long"):
        FlatIndex.open(tmp_path / "cut", mmap=mmap)


@pytest.mark.parametrize("kind", INDEXES.names())
def test_an_index_that_grows_while_it_is_saved_can_be_opened(tmp_path, monkeypatch, kind):
    """Another thread adds between any two looks at the codes."""
    monkeypatch.setattr(mih_tables, "_FEWEST", 1)
    codes = hashret.pack(np.random.default_rng(0).random((5000, 64)) < 0.5)
    index = INDEXES.load(kind)(64)
    index.add(codes)
    index.search(codes[:1], 1)  # makes what there is to make
    look = FlatIndex.codes.fget

    def grows(flat):
        seen = look(flat)
        flat.add(codes[:7])
        return seen

    monkeypatch.setattr(FlatIndex, "codes", property(grows))
    index.save(tmp_path / "saved")
    monkeypatch.undo()
    assert len(index) > len(codes)
    opened = open_index(tmp_path / "saved", mmap=False)
    np.testing.assert_array_equal(opened.codes, index.codes[: len(opened)])
    assert len(opened) >= len(codes) and opened.search(codes[4321], 1).rows.tolist() == [[4321]]


def test_codes_are_never_more_than_what_was_added(monkeypatch):
    """Another thread adds between the looks at the count and at the buffer, whose spare rows hold anything."""

    class Growing(FlatIndex):
        adding = False

        def __getattribute__(self, name):
            value = super().__getattribute__(name)
            if name in ("_buffer", "_count") and self.adding:
                self.adding = False
                self.add(np.full((60, 8), 3, np.uint8))
            return value

    index = Growing(64)
    for count in (20, 1):  # the second makes a buffer with room for more
        index.add(np.full((count, 8), 3, np.uint8))
    index._buffer[len(index) :] = 99
    index.adding = True
    seen = index.codes
    assert len(index) == 81 and len(seen) >= 21 and (seen == 3).all()


def test_every_flipped_bit_is_found(tmp_path):
    saved(tmp_path / "flat", 3, 60)
    content = (tmp_path / "flat").read_bytes()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / "bad").write_bytes(damaged)
        with pytest.raises(CorruptError, match="bad"):
            FlatIndex.open(tmp_path / "bad", mmap=False)
        with pytest.raises(CorruptError, match="bad"):
            FlatIndex.open(tmp_path / "bad", mmap=True).verify()


def test_verify_says_where(tmp_path):
    saved(tmp_path / "flat", 300_000, 64)
    with (tmp_path / "flat").open("r+b") as file:
        file.seek(64 + (1 << 20) + 5)
        file.write(b"\xff\x00\xff")
    index = FlatIndex.open(tmp_path / "flat")
    with pytest.raises(CorruptError, match=f"between bytes {64 + (1 << 20)} and {64 + (2 << 20)}"):
        index.verify()


def test_a_file_from_the_future(tmp_path):
    saved(tmp_path / "flat")
    content = bytearray((tmp_path / "flat").read_bytes())
    content[8:12] = struct.pack("<I", 7)
    content[60:64] = struct.pack("<I", zlib.crc32(content[:60]))
    (tmp_path / "flat").write_bytes(content)
    with pytest.raises(VersionError, match=r"version 7.*install a newer hashret"):
        FlatIndex.open(tmp_path / "flat")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n" + bytes(200), bytes(500)])
def test_foreign_files(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(CorruptError, match="other' is no index file of hashret"):
        FlatIndex.open(tmp_path / "other")


def test_what_is_no_file(tmp_path):
    with pytest.raises(StorageError, match="there is no index file"):
        FlatIndex.open(tmp_path / "absent")
    with pytest.raises(StorageError, match="cannot be read"):
        FlatIndex.open(tmp_path)


def test_any_kind_is_opened_by_what_its_file_says(tmp_path):
    for kind in INDEXES.names():
        index = INDEXES.load(kind)(64)
        index.add(np.eye(64, 8, dtype=np.uint8))
        index.save(tmp_path / kind)
        opened = open_index(tmp_path / kind)
        assert type(opened) is type(index) and len(opened) == 64
        np.testing.assert_array_equal(opened.search(index.codes[5], 1).rows, index.search(index.codes[5], 1).rows)
    with pytest.raises(StorageError, match=r"kind 'tree', and this hashret knows flat, .*install a newer hashret"):
        open_index(header(tmp_path / "tree", kind=b"tree"))


def header(path, **change):
    fields = {
        "magic": b"\x89HRINDX\n",
        "version": 1,
        "kind": b"flat",
        "n_bits": 64,
        "count": 2,
        "length": 16,
        "block": 1 << 20,
    }
    packed = struct.pack("<8sI8sIQQI16x", *(fields | change).values())
    table = struct.pack("<I", zlib.crc32(bytes(16)))
    path.write_bytes(
        packed + struct.pack("<I", zlib.crc32(packed)) + bytes(16) + table + struct.pack("<I", zlib.crc32(table))
    )
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": b"hnsw"}, "kind 'hnsw'"),
        ({"count": 3}, "names 3 codes"),
        ({"n_bits": 0}, "makes no sense"),
        ({"n_bits": 1 << 31}, "makes no sense"),
        ({"block": 0}, "makes no sense"),
        ({"block": 1}, "truncated"),
        ({"length": 1 << 60}, "truncated"),
        ({"version": 0}, "makes no sense"),
    ],
)
def test_headers_that_lie(tmp_path, change, words):
    assert len(FlatIndex.open(header(tmp_path / "flat"))) == 2
    with pytest.raises(StorageError, match=words):
        FlatIndex.open(header(tmp_path / "flat", **change))


def test_a_failed_save_leaves_the_old_file(tmp_path):
    saved(tmp_path / "flat", 10, 64)
    before = (tmp_path / "flat").read_bytes()
    index = FlatIndex(64)
    index.add(np.zeros((5, 8), np.uint8))
    with pytest.raises(StorageError, match="cannot be written"):
        index.save(tmp_path / "absent" / "flat")

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (90, limits[1]))  # as a disk that fills up in the midst of it
    try:
        with pytest.raises(StorageError, match=r"File too large.*unchanged"):
            index.save(tmp_path / "flat")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "flat").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["flat"]


def test_a_mapped_index_survives_a_new_file_in_its_place(tmp_path):
    codes = saved(tmp_path / "flat", 200, 64)
    index = FlatIndex.open(tmp_path / "flat")
    saved(tmp_path / "flat", 10, 64)
    np.testing.assert_array_equal(index.codes, codes)
    index.verify()
