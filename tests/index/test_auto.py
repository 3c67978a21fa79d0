"""The index that chooses gives what the flat index gives, whatever it chose, and says why."""

from __future__ import annotations

import math

import numpy as np
import pytest

import hashret
from hashret.errors import CodeError, StorageError
from hashret.index import AutoIndex, CodeIndex, FlatIndex, HNSWIndex, MIHIndex, auto
from hashret.kernels import native

COUNT = 40_000


def near_duplicates(seed, count, n_bits):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).random((2000, n_bits)) < 0.5
    return hashret.pack(centres[rng.integers(0, 2000, count)] ^ (rng.random((count, n_bits)) < 0.01))


@pytest.fixture
def small(monkeypatch):
    """Choose among fewer codes than it pays for, and take hashing wherever it is tried at all."""
    monkeypatch.setattr(auto, "_LEAST", 1 << 15)
    monkeypatch.setattr(auto, "_CLEAR", math.inf)


def both(n_bits, codes):
    """The index that chooses and the flat one, over the same codes."""
    indexes = AutoIndex(n_bits), FlatIndex(n_bits)
    add(codes, *indexes)
    return indexes


def add(codes, *indexes):
    for index in indexes:
        index.add(codes)


def agree(index, flat, queries):
    mask = np.arange(len(flat)) % 3 > 0
    for some in (queries[0], queries[:3], queries):
        for change in ({}, {"mask": mask}, {"radius": 3}):
            for got, want in zip(index.search(some, 9, **change), flat.search(some, 9, **change)):
                np.testing.assert_array_equal(got, want)
        for got, want in zip(index.range_search(some, 2, mask=mask), flat.range_search(some, 2, mask=mask)):
            np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(index.codes, flat.codes)


def test_few_codes_are_scanned():
    index = AutoIndex(64)
    assert isinstance(index, CodeIndex) and len(index) == 0
    assert index.search(np.zeros(8, np.uint8), 1).rows.tolist() == [[-1]]
    index.add(near_duplicates(1, 500, 64))
    info = index.info()
    assert (info.single, info.batch) == ("flat", "flat") and "scanned in no time" in info.reason
    assert "codes=500" in repr(index)
    with pytest.raises(CodeError):
        index.add(np.zeros((1, 9), np.uint8))
    with pytest.raises(CodeError):
        index.search(np.zeros((20, 9), np.uint8), 1)


def test_codes_far_apart_are_scanned(small):
    index = AutoIndex(256)
    index.add(np.random.default_rng(0).integers(0, 256, (COUNT, 32), dtype=np.uint8))
    info = index.info()
    assert (info.single, info.batch, info.count) == ("flat", "flat", COUNT)
    if native.available():
        assert info.mih_ms is None and info.buckets > 1e5 and "slower than a scan" in info.reason


@pytest.mark.skipif(not native.available(), reason="hashing needs the C extension, which is not built")
def test_hashing_gives_what_a_scan_gives(small, tmp_path):
    queries = near_duplicates(2, 40, 64)
    index, flat = both(64, near_duplicates(1, COUNT, 64))
    info = index.info()
    assert (info.single, info.batch) == ("mih", "mih") and info.distance <= 4 and len(info.mih_ms) == 2
    assert "by hashing and" in info.reason
    agree(index, flat, queries)
    add(queries, index, flat)
    agree(index, flat, queries)
    assert index.info() is info  # the codes have not doubled
    assert info.many == ("mih", "mih") and "for 100 hits" in info.reason
    for some in (queries[:1], queries):
        for got, want in zip(index.search(some, 50), flat.search(some, 50)):
            np.testing.assert_array_equal(got, want)
    index.save(tmp_path / "index")
    opened = AutoIndex.open(tmp_path / "index")
    opened.verify()
    agree(opened, flat, queries)
    assert isinstance(MIHIndex.open(tmp_path / "index"), MIHIndex)
    relaxed = np.where(hashret.unpack(queries, n_bits=64), 0.9, -0.9)
    np.testing.assert_array_equal(opened.search_asymmetric(relaxed, 5).rows, flat.search_asymmetric(relaxed, 5).rows)


@pytest.mark.skipif(not native.available(), reason="hashing needs the C extension, which is not built")
def test_many_hits_have_a_choice_of_their_own(monkeypatch):
    """It is looked up by the number of hits and of queries, whatever the times on this machine say."""
    monkeypatch.setattr(auto, "_LEAST", 1 << 15)
    index = AutoIndex(64)
    index.add(near_duplicates(1, COUNT, 64))
    queries = near_duplicates(2, 20, 64)
    monkeypatch.setattr(auto, "_faster", lambda hashed, scanned: next(choices))
    for few, many in ((("mih", "flat"), ("flat", "mih")), (("flat", "mih"), ("mih", "flat"))):
        choices = iter((few, many))
        index.choose(queries)
        for k, ways in ((1, few), (31, few), (32, many), (1000, many)):
            for some, way in zip((queries[:1], queries), ways):
                assert index._chosen(some, k).kind == way
    choices = iter([("flat", "flat")])  # and is not tried for many then
    assert index.choose(queries).many == ("flat", "flat")


@pytest.mark.skipif(not native.available(), reason="hashing needs the C extension, which is not built")
@pytest.mark.parametrize(("share", "kept"), [(0.89, True), (0.91, False)])
def test_tables_are_kept_for_a_clear_gain(monkeypatch, share, kept):
    """And used wherever there is one."""
    monkeypatch.setattr(auto, "_LEAST", 1 << 15)
    times = {("mih", 11): (share, 1.2), ("mih", 101): (1.2, 0.89)}
    monkeypatch.setattr(auto, "_times", lambda index, queries, k: times.get((index.kind, k), (1.0, 1.0)))
    index = AutoIndex(64)
    index.add(near_duplicates(1, COUNT, 64))
    info = index.info()
    ways = (info.single, info.batch, *info.many)
    assert ways == (("mih", "flat", "flat", "mih") if kept else ("flat",) * 4)


@pytest.mark.skipif(not native.available(), reason="hashing needs the C extension, which is not built")
def test_queries_far_from_the_codes_are_scanned_after_some(small):
    """As captions are that look for pictures, while pictures are near each other."""
    index, flat = both(128, near_duplicates(1, COUNT, 128))
    far = np.random.default_rng(5).integers(0, 256, (63, 16), dtype=np.uint8)
    near = near_duplicates(2, 63, 128)
    for some in (near, far):
        for query in some:
            index.search(query, 3)
    assert index.info().single == "mih"  # half of the queries are near enough
    for query in far:
        for got, want in zip(index.search(query, 3), flat.search(query, 3)):
            np.testing.assert_array_equal(got, want)
    info = index.info()
    assert info.single == "flat" and "scanned after all" in info.reason
    assert (info.batch, info.many) == ("mih", ("mih", "mih"))  # of which nothing is known yet
    index.search(far, 3, mask=np.arange(COUNT) < 9)  # says nothing about the tables
    assert index.info().batch == "mih"
    index.search(far, 3)
    index.search(far, 50)
    assert index.info().batch == "mih"  # 63 queries are too few to tell
    index.search(far, 3)
    assert index.info().batch == "flat" and index.info().many == ("mih", "mih")
    index.search(far, 50)
    assert index.info().many == ("mih", "flat")


@pytest.mark.skipif(not native.available(), reason="hashing needs the C extension, which is not built")
def test_a_row_does_not_count_as_its_own_neighbour(small):
    codes = np.repeat(np.random.default_rng(0).integers(0, 256, (COUNT // 10, 8), np.uint8), 10, axis=0)
    index = AutoIndex(64)
    index.add(codes)
    assert index.info().distance > 0  # of ten equal rows, nine are neighbours of one
    assert index.choose(codes[::100]).distance == 0  # and ten of a query


@pytest.mark.skipif(not native.available(), reason="hashing needs the C extension, which is not built")
def test_the_choice_follows_the_queries_and_the_codes(small):
    index, flat = both(128, near_duplicates(1, COUNT, 128))
    assert index.info().single == "mih"
    far = np.random.default_rng(5).integers(0, 256, (9, 16), dtype=np.uint8)
    info = index.choose(far)
    assert (info.single, info.batch) == ("flat", "flat") and index.info() is info
    agree(index, flat, far)
    add(near_duplicates(3, COUNT, 128), index, flat)
    assert index.info().count == 2 * COUNT and index.info().single == "mih"
    agree(index, flat, far)


def test_what_was_saved_flat_comes_back(tmp_path):
    codes = near_duplicates(1, 300, 60)
    index = AutoIndex(60)
    index.add(codes)
    index.save(tmp_path / "index")
    np.testing.assert_array_equal(FlatIndex.open(tmp_path / "index").codes, codes)
    opened = AutoIndex.open(tmp_path / "index", mmap=False)
    opened.verify()
    np.testing.assert_array_equal(opened.search(codes, 1).rows, index.search(codes, 1).rows)
    graph = HNSWIndex(60)
    graph.save(tmp_path / "graph")
    with pytest.raises(StorageError, match="kind 'hnsw'"):
        AutoIndex.open(tmp_path / "graph")
