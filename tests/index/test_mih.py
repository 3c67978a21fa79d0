"""Multi-index hashing: byte for byte the flat index, whatever was probed and whatever was scanned."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hashret import FlatIndex, MIHIndex, kernels
from hashret.errors import CodeError, CorruptError, InputError, StorageError
from hashret.index import CodeIndex, mih, mih_tables, open_index
from hashret.kernels import native, set_num_threads

needs_native = pytest.mark.skipif(not native.available(), reason="the C extension was not built here")


def clustered(rng, count, n_bits, *, centres=300, flip=0.08, queries=12):
    middle = rng.random((centres, n_bits)) < 0.5
    bits = middle[rng.integers(0, centres, count + queries)] ^ (rng.random((count + queries, n_bits)) < flip)
    codes = np.packbits(bits, axis=1)
    return codes[:count], codes[count:]


def uniform(rng, count, n_bits, *, queries=12):
    codes = np.packbits(rng.random((count + queries, n_bits)) < 0.5, axis=1)
    return codes[:count], codes[count:]


def both(codes, n_bits):
    indexes = MIHIndex(n_bits), FlatIndex(n_bits)
    for index in indexes:
        index.add(codes)
    return indexes


def same(index, flat, queries, *ks, **options):
    for k in ks:
        for got, expected in zip(index.search(queries, k, **options), flat.search(queries, k, **options)):
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got, expected)


def same_range(index, flat, queries, radius, **options):
    found, expected = index.range_search(queries, radius, **options), flat.range_search(queries, radius, **options)
    for got, want in zip(found, expected):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@pytest.fixture
def always_probe(monkeypatch):
    """Probing costs nothing, so nothing is left to the scan."""
    monkeypatch.setattr(mih, "PROBE_NS", 0.0)
    monkeypatch.setattr(mih, "CANDIDATE_NS", 0.0)
    monkeypatch.setattr(mih_tables, "_FEWEST", 1)


@needs_native
@pytest.mark.parametrize("n_bits", [8, 13, 24, 32, 64, 100, 128, 200, 256])
def test_probing_equals_the_scan(always_probe, n_bits):
    rng = np.random.default_rng(n_bits)
    index, flat = both(clustered(rng, 3000, n_bits)[0], n_bits)
    queries = clustered(rng, 12, n_bits)[0]
    queries[:4] = index.codes[[0, 5, 2999, 1]]
    same(index, flat, queries, 1, 10)
    assert index.last.scanned == 0 and index.last.probes > 0 and index.last.candidates > 0
    for radius in (0, 1, n_bits // 8):
        same(index, flat, queries, 10, radius=radius)
        same_range(index, flat, queries, radius)


@needs_native
@pytest.mark.parametrize("kind", ["equal", "two"])
def test_many_ties(always_probe, kind):
    rng = np.random.default_rng(3)
    codes = np.repeat(rng.integers(0, 256, (1 if kind == "equal" else 2, 8), np.uint8), 2500, axis=0)
    codes = codes[rng.permutation(len(codes))]
    index, flat = both(codes, 64)
    queries = np.concatenate([codes[:1], codes[:1] ^ np.uint8(1)])
    same(index, flat, queries, 1, 10, 1000, 2600, len(codes) + 5)
    same_range(index, flat, queries, 8)


@needs_native
@pytest.mark.parametrize("n_bits", [64, 128])
@pytest.mark.parametrize("make", [clustered, uniform])
def test_costs_as_they_are(make, n_bits):
    rng = np.random.default_rng(n_bits)
    codes, queries = make(rng, 60_000, n_bits)
    index, flat = both(codes, n_bits)
    mask = rng.random(len(codes)) < 0.5
    few = np.zeros(len(codes), bool)
    few[::100] = True
    for threads in (1, 3):
        set_num_threads(threads)
        try:
            same(index, flat, queries, 1, 10, 100)
            same(index, flat, queries[0], 10)
            for chosen in (mask, few):
                same(index, flat, queries, 10, mask=chosen)
                same(index, flat, queries, 10, mask=chosen, radius=n_bits // 4)
                same_range(index, flat, queries, n_bits // 6, mask=chosen)
            same_range(index, flat, queries, n_bits // 6)
        finally:
            set_num_threads(None)


@needs_native
def test_far_queries_are_scanned_and_near_ones_are_not():
    rng = np.random.default_rng(0)
    codes, _ = uniform(rng, 200_000, 256)
    index, flat = both(codes, 256)
    far = np.packbits(rng.random((3, 256)) < 0.5, axis=1)
    same(index, flat, far, 10)
    assert (index.last.queries, index.last.scanned, index.last.reason) == (3, 3, "")
    same(index, flat, codes[:3], 1)
    assert index.last.scanned == 0
    same(index, flat, np.concatenate([far, codes[:3]]), 1)
    assert index.last.scanned == 3
    same_range(index, flat, np.concatenate([far, codes[:3]]), 11)


@needs_native
def test_codes_that_were_added_later(monkeypatch):
    monkeypatch.setattr(mih_tables, "_FEWEST", 100)
    rng = np.random.default_rng(4)
    codes, queries = clustered(rng, 5000, 64)
    index, flat = MIHIndex(64), FlatIndex(64)
    monkeypatch.setattr(mih, "PROBE_NS", 0.0)
    monkeypatch.setattr(mih, "CANDIDATE_NS", 0.0)
    seen = set()
    for start in range(0, 5000, 500):
        for each in (index, flat):
            each.add(codes[start : start + 500])
        mask = rng.random(len(flat)) < 0.7
        same(index, flat, queries, 1, 20, 600)
        same(index, flat, queries, 20, mask=mask)
        same_range(index, flat, queries, 9)
        same_range(index, flat, queries, 9, mask=mask)
        seen.add(index.info()["in_tables"])
        assert 2 * index.info()["scanned_always"] <= index.info()["in_tables"]
    assert 1 < len(seen) < 10
    index.build()
    assert index.info()["in_tables"] == 5000


@needs_native
@pytest.mark.parametrize("late", [10, 4000])
@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize(
    "search", [lambda i, q, m: i.search(q, 20, mask=m), lambda i, q, m: i.range_search(q, 9, mask=m)]
)
def test_codes_that_come_during_a_search_are_no_part_of_it(always_probe, monkeypatch, late, made, search):
    """A mask is of the codes that were there; another thread's, and the tables that it makes, come after it."""
    codes, queries = clustered(np.random.default_rng(5), 3000 + late, 64)
    index, flat = both(codes[:3000], 64)
    if made:
        index.build()
    mask, check = np.ones(3000, bool), mih.check_mask
    expected = search(flat, queries, mask)

    def checked_and_then_added(mask, count):
        monkeypatch.setattr(mih, "check_mask", check)
        mask = check(mask, count)
        index.add(codes[3000:])
        index.search(queries, 1)  # makes the tables anew where many were added
        return mask

    monkeypatch.setattr(mih, "check_mask", checked_and_then_added)
    for got, want in zip(search(index, queries, mask), expected):
        np.testing.assert_array_equal(got, want)
    assert len(index) == 3000 + late


@needs_native
def test_threads_that_search_first_together_build_the_tables_once(monkeypatch):
    index, built = MIHIndex(64), []
    index.add(np.random.default_rng(0).integers(0, 256, (200_000, 8), dtype=np.uint8))
    make = mih.make_tables
    monkeypatch.setattr(mih, "make_tables", lambda *args, **named: built.append(1) or make(*args, **named))
    with ThreadPoolExecutor(4) as threads:
        hits = list(threads.map(lambda _: index.search(index.codes[:1], 3), range(4)))
    assert len(built) == (1 if native.available() else 0)
    assert all((found.rows == hits[0].rows).all() for found in hits)


def test_a_large_k_beside_few_codes_that_came_later(monkeypatch):
    index = MIHIndex(64)
    index.add(np.random.default_rng(0).integers(0, 256, (40_000, 8), dtype=np.uint8))
    index.build()
    index.add(index.codes[:10].copy())
    queries = index.codes[:900]
    hits = index.search(queries, 20_000, radius=2)
    assert hits.rows[3].tolist()[:2] == [3, 40_003] and (hits.rows[:, 2:] == -1).all()


def test_the_tables_stay_small():
    assert mih_tables.plan(10_000_000, n_bits=64).widths == (22, 21, 21)
    rng = np.random.default_rng(1)
    index, _ = both(uniform(rng, 100_000, 64)[0], 64)
    index.build()
    info = index.info()
    assert info["tables"] == 4 and info["bytes_per_code"] <= 8 + 4 * 4 + 4 * 4 * 65537 / 100_000
    widths = mih_tables.plan(10_000_000, n_bits=64).widths
    assert 8 + sum(4 + 4 * (1 << width) / 10_000_000 for width in widths) <= 25
    assert not mih_tables.plan(10_000_000, n_bits=1024).widths
    assert not mih_tables.plan(100, n_bits=64).widths


@pytest.mark.parametrize("n_bits", [64, 100])
@pytest.mark.parametrize("mmap", [True, False])
def test_saved_and_opened(tmp_path, n_bits, mmap):
    rng = np.random.default_rng(n_bits)
    codes, queries = clustered(rng, 40_000, n_bits)
    index, flat = both(codes, n_bits)
    index.save(tmp_path / "index")
    opened = MIHIndex.open(tmp_path / "index", mmap=mmap)
    assert isinstance(opened, CodeIndex) and isinstance(open_index(tmp_path / "index"), MIHIndex)
    assert len(opened) == len(codes) and opened.n_bits == n_bits
    assert opened.info()["in_tables"] == index.info()["in_tables"]
    opened.verify()
    same(opened, flat, queries, 10)
    opened.add(queries)
    flat.add(queries)
    same(opened, flat, queries, 10)
    flat.save(tmp_path / "flat")
    with pytest.raises(StorageError, match="kind 'flat'"):
        MIHIndex.open(tmp_path / "flat")


def test_few_codes_are_saved_without_tables(tmp_path):
    index = MIHIndex(16)
    index.save(tmp_path / "empty")
    assert len(MIHIndex.open(tmp_path / "empty")) == 0
    index.add(np.arange(6, dtype=np.uint8).reshape(3, 2))
    index.save(tmp_path / "few")
    opened = MIHIndex.open(tmp_path / "few")
    assert opened.search(np.array([[2, 3]], np.uint8), 1).rows.tolist() == [[1]]
    assert opened.last.scanned == 1 and "scanned sooner" in opened.last.reason


@needs_native
def test_damaged_tables_are_an_error_and_not_a_crash(tmp_path):
    rng = np.random.default_rng(9)
    codes, queries = clustered(rng, 40_000, 64)
    index, _ = both(codes, 64)
    index.save(tmp_path / "index")
    blob = bytearray((tmp_path / "index").read_bytes())
    for _ in range(30):
        at = rng.integers(64 + 64, len(blob) - codes.nbytes - 5000, 40)
        worse = bytearray(blob)
        for i in at:
            worse[i] ^= int(rng.integers(1, 256))
        (tmp_path / "worse").write_bytes(worse)
        opened = MIHIndex.open(tmp_path / "worse")
        try:
            opened.search(queries, 10)
        except CorruptError as error:
            assert "build it again" in str(error)
        with pytest.raises(CorruptError, match="checksum"):
            opened.verify()
        with pytest.raises(CorruptError, match="checksum"):
            MIHIndex.open(tmp_path / "worse", mmap=False)
    mih_tables_file = mih_tables.to_payload(codes, index._tables)
    mih_tables_file[64 : 64 + 4 * 1000] = 255
    stored = mih_tables.open_payload(_stored(mih_tables_file, 40_000))
    index._tables = stored[1]
    with pytest.raises(CorruptError, match="tables are damaged"):
        index.search(np.zeros((1, 8), np.uint8), 10)
    with pytest.raises(CorruptError, match="do not add up"):
        mih_tables.open_payload(_stored(mih_tables_file[:-8], 40_000))


@needs_native
@pytest.mark.parametrize("first", [-1, 57, 2**31 - 1])
def test_a_table_of_bits_that_codes_do_not_have_is_refused(first):
    codes, starts, ids = np.zeros((4, 8), np.uint8), np.empty(257, np.uint32), np.empty(4, np.uint32)
    with pytest.raises(ValueError, match="does not fit"):
        native.extension().mih_build(codes, 8, first, 8, starts, ids)
    with pytest.raises(ValueError, match="do not fit"):
        native.extension().mih_search(
            codes, codes, 1, None, 64, 64, ((first, 8, starts, ids),), (1.0, 1.0, 1.0), 1,
            np.empty((4, 1), np.int32), np.empty((4, 1), np.int64), np.zeros((4, 4), np.int64),
        )  # fmt: skip


def _stored(payload, count):
    from hashret.index.storage import StoredIndex

    return StoredIndex("x", "mih", 64, count, payload, np.zeros(0, np.uint32), 1)


def test_without_the_extension_everything_is_scanned(monkeypatch, tmp_path):
    rng = np.random.default_rng(2)
    codes, queries = clustered(rng, 40_000, 64)
    monkeypatch.setitem(sys.modules, "hashret.kernels._native", None)
    monkeypatch.setattr(native, "_loaded", None)
    monkeypatch.setattr(kernels, "_fastest", lambda: "faiss")
    index, flat = both(codes, 64)
    same(index, flat, queries, 10)
    same_range(index, flat, queries, 8)
    assert index.last.scanned == len(queries) and index.last.reason == "the C extension is not built"
    index.save(tmp_path / "index")
    same(MIHIndex.open(tmp_path / "index"), flat, queries, 10)


def test_bad_input_is_refused():
    index = MIHIndex(64)
    index.add(np.zeros((4, 8), np.uint8))
    with pytest.raises(CodeError):
        index.add(np.zeros((4, 7), np.uint8))
    with pytest.raises(CodeError):
        index.search(np.zeros((1, 9), np.uint8), 1)
    with pytest.raises(InputError):
        index.search(np.zeros((1, 8), np.uint8), 0)
    with pytest.raises(InputError):
        index.search(np.zeros((1, 8), np.uint8), 1, mask=np.ones(3, bool))
    with pytest.raises(InputError):
        MIHIndex(0)
    assert index.search(np.zeros((0, 8), np.uint8), 3).rows.shape == (0, 3)
    assert index.range_search(np.zeros((0, 8), np.uint8), 3).limits.tolist() == [0]
    assert MIHIndex(64).search(np.zeros((1, 8), np.uint8), 2).rows.tolist() == [[-1, -1]]
    assert "codes=4" in repr(index)


def differ(seeds, monkeypatch):
    monkeypatch.setattr(mih_tables, "_FEWEST", 1)
    monkeypatch.setattr(mih, "_SLICE", 3)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        n_bits = int(rng.choice([8, 16, 30, 48, 64, 64, 100, 128, 256]))
        codes, queries = clustered(
            rng, int(rng.integers(2, 1500)), n_bits, centres=int(rng.integers(1, 60)), flip=rng.random() * 0.2
        )
        cost = float(rng.choice([0.0, 0.05, 7.0]))
        monkeypatch.setattr(mih, "PROBE_NS", cost)
        monkeypatch.setattr(mih, "CANDIDATE_NS", cost)
        index, flat = both(codes[: len(codes) // 2 + 1], n_bits)
        index.build()
        for each in (index, flat):
            each.add(codes[len(codes) // 2 + 1 :])
        mask = rng.random(len(flat)) < rng.random() if rng.random() < 0.5 else None
        radius = int(rng.integers(0, n_bits + 1)) if rng.random() < 0.5 else None
        same(index, flat, queries, int(rng.choice([1, 7, 50, len(codes) + 3])), mask=mask, radius=radius)
        same_range(index, flat, queries, int(rng.integers(0, n_bits // 3 + 1)), mask=mask)


@needs_native
def test_random_cases(monkeypatch):
    differ(range(60), monkeypatch)


@needs_native
@pytest.mark.slow
def test_random_cases_long(monkeypatch):
    differ(range(3000), monkeypatch)
