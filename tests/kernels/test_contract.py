"""One contract for every back end: byte for byte what sorting all distances by (distance, row) gives."""

from __future__ import annotations

import math
from functools import partial

import bitarray
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hashret import kernels
from hashret.errors import CodeError, InputError
from hashret.index import AutoIndex, MIHIndex, auto, mih, mih_tables

WIDTHS = (
    1,
    7,
    8,
    12,
    16,
    24,
    31,
    32,
    40,
    48,
    64,
    65,
    72,
    96,
    100,
    128,
    160,
    192,
    255,
    256,
    257,
    384,
    512,
    1000,
    2048,
    4096,
)
KINDS = ("random", "duplicates", "equal", "near", "extreme")


def same(hits, expected):
    """Equal in values, dtypes and shapes."""
    for got, want in zip(hits, expected):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("n_bits", WIDTHS)
def test_every_width(backend, truth, make_codes, n_bits):
    rng = np.random.default_rng(n_bits)
    for kind in ("random", "duplicates"):
        codes, queries = make_codes(rng, 300, n_bits, kind), make_codes(rng, 5, n_bits)
        queries[0] = codes[17]
        for k in (1, 10, 300, 311):
            same(kernels.search(codes, queries, k, n_bits=n_bits, backend=backend), truth(codes, queries, k))
        radius = n_bits // 2
        found = kernels.range_search(codes, queries, radius, n_bits=n_bits, backend=backend)
        same(found, truth.ranged(codes, queries, radius))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_bits", [8, 64, 100, 128])
def test_ties_at_rank_k(backend, truth, make_codes, kind, n_bits):
    rng = np.random.default_rng(7)
    codes, queries = make_codes(rng, 2000, n_bits, kind), make_codes(rng, 6, n_bits, kind)
    for k in (1, 3, 10, 100, 1000):
        same(kernels.search(codes, queries, k, n_bits=n_bits, backend=backend), truth(codes, queries, k))


def test_ties_across_blocks_of_many_rows(backend, truth, make_codes):
    rng = np.random.default_rng(3)
    codes, queries = make_codes(rng, 70_000, 24), make_codes(rng, 5, 24)
    mask = rng.random(70_000) < 0.6
    for chosen in (None, mask):
        same(
            kernels.search(codes, queries, 50, n_bits=24, mask=chosen, backend=backend),
            truth(codes, queries, 50, mask=chosen),
        )
        found = kernels.range_search(codes, queries, 4, n_bits=24, mask=chosen, backend=backend)
        same(found, truth.ranged(codes, queries, 4, mask=chosen))


def test_distances_that_fall_from_row_to_row(backend, truth):
    """The running k-th distance has to follow, and what was held before has to go."""
    n_bits, count = 64, 66_000
    ones = n_bits - np.arange(count) * (n_bits + 1) // count
    codes = np.packbits(np.arange(n_bits) < ones[:, None], axis=1)
    query = np.zeros((1, 8), np.uint8)
    for k in (1, 10, 2000):
        same(kernels.search(codes, query, k, n_bits=n_bits, backend=backend), truth(codes, query, k))


@pytest.mark.parametrize("n_bits", [248, 256, 512, 520, 1024])
def test_a_code_is_told_from_its_complement(backend, truth, n_bits):
    """The counters of eight bits that FAISS has on ARM lose the 256 bits of 32 bytes in a row."""
    codes = np.repeat(np.array([255, 0], np.uint8), 20)[:, None].repeat(n_bits // 8, axis=1)
    query = np.zeros((1, n_bits // 8), np.uint8)
    for k in (1, 3):
        same(kernels.search(codes, query, k, n_bits=n_bits, backend=backend), truth(codes, query, k))
    found = kernels.range_search(codes, query, n_bits - 1, n_bits=n_bits, backend=backend)
    same(found, truth.ranged(codes, query, n_bits - 1))


@pytest.mark.parametrize("queries", [1, 3, 4, 33, 200])
def test_batches(backend, truth, make_codes, queries):
    rng = np.random.default_rng(queries)
    codes, batch = make_codes(rng, 3000, 64), make_codes(rng, queries, 64)
    same(kernels.search(codes, batch, 10, n_bits=64, backend=backend), truth(codes, batch, 10))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.05, 0.5, 0.99, 1.0])
def test_masks(backend, truth, make_codes, share):
    rng = np.random.default_rng(int(share * 1000))
    codes, queries = make_codes(rng, 3000, 72, "near"), make_codes(rng, 5, 72)
    mask = rng.random(3000) < share
    packed = bitarray.bitarray(mask.tolist())
    little = bitarray.bitarray(mask.tolist(), endian="little")
    for k in (1, 40):
        expected = truth(codes, queries, k, mask=mask)
        for form in (mask, packed, little):
            same(kernels.search(codes, queries, k, n_bits=72, mask=form, backend=backend), expected)
    expected = truth.ranged(codes, queries, 36, mask=mask)
    same(kernels.range_search(codes, queries, 36, n_bits=72, mask=mask, backend=backend), expected)
    many = make_codes(rng, 40, 72)
    same(kernels.search(codes, many, 7, n_bits=72, mask=mask, backend=backend), truth(codes, many, 7, mask=mask))


@pytest.mark.parametrize("radius", [0, 1, 30, 63, 64, 1000])
def test_radius_is_inclusive(backend, truth, make_codes, radius):
    rng = np.random.default_rng(radius)
    codes, queries = make_codes(rng, 1000, 64), make_codes(rng, 4, 64)
    queries[0] = codes[3] = codes[900]
    for k in (1, 20, 1200):
        expected = truth(codes, queries, k, radius=radius)
        same(kernels.search(codes, queries, k, n_bits=64, radius=radius, backend=backend), expected)
    found = kernels.range_search(codes, queries, radius, n_bits=64, backend=backend)
    same(found, truth.ranged(codes, queries, radius))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(backend, truth, make_codes, threads):
    rng = np.random.default_rng(threads)
    codes = make_codes(rng, 40_000, 128)
    kernels.set_num_threads(threads)
    try:
        for count in (1, 2, 9):
            queries = make_codes(rng, count, 128)
            same(kernels.search(codes, queries, 10, n_bits=128, backend=backend), truth(codes, queries, 10))
            found = kernels.range_search(codes, queries, 50, n_bits=128, backend=backend)
            same(found, truth.ranged(codes, queries, 50))
    finally:
        kernels.set_num_threads(None)


def test_nothing_to_search_or_to_ask(backend):
    none, some = np.zeros((0, 8), np.uint8), np.zeros((3, 8), np.uint8)
    same(
        kernels.search(none, some, 2, n_bits=64, backend=backend),
        (np.full((3, 2), -1, np.int32), np.full((3, 2), -1, np.int64)),
    )
    assert kernels.search(some, none, 2, n_bits=64, backend=backend).rows.shape == (0, 2)
    assert kernels.range_search(some, none, 2, n_bits=64, backend=backend).limits.tolist() == [0]
    assert kernels.range_search(none, some, 2, n_bits=64, backend=backend).limits.tolist() == [0, 0, 0, 0]
    mask = np.zeros(3, bool)
    assert (kernels.search(some, some, 2, n_bits=64, mask=mask, backend=backend).rows == -1).all()
    assert kernels.range_search(some, some, 2, n_bits=64, mask=mask, backend=backend).limits[-1] == 0


def test_one_query_gives_one_row(backend, make_codes):
    codes = make_codes(np.random.default_rng(0), 20, 64)
    hits = kernels.search(codes, codes[4], 1, n_bits=64, backend=backend)
    assert hits.rows.tolist() == [[4]] and hits.distances.tolist() == [[0]]
    assert kernels.range_search(codes, codes[4], 0, n_bits=64, backend=backend).rows.tolist() == [4]


@pytest.mark.parametrize("n_bits", [64, 100])
def test_codes_as_they_lie(backend, truth, make_codes, tmp_path, n_bits):
    """Read-only, memory-mapped, at an odd address, not contiguous, and a matrix."""
    rng = np.random.default_rng(1)
    codes, queries = make_codes(rng, 500, n_bits), make_codes(rng, 5, n_bits)
    expected = truth(codes, queries, 9)
    (tmp_path / "codes").write_bytes(b"x" + codes.tobytes())
    mapped = np.memmap(tmp_path / "codes", np.uint8, "r", offset=1, shape=codes.shape)
    wide = np.zeros((500, codes.shape[1] + 3), np.uint8)
    wide[:, 1:-2] = codes
    for form in (mapped, wide[:, 1:-2], np.asfortranarray(codes), codes.view(np.matrix)):
        same(kernels.search(form, queries, 9, n_bits=n_bits, backend=backend), expected)
    same(kernels.search(codes, np.asfortranarray(queries), 9, n_bits=n_bits, backend=backend), expected)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_case(backend, truth, make_codes, data):
    n_bits = data.draw(st.integers(1, 300) | st.sampled_from((512, 1024, 4096)))
    count, asked = data.draw(st.integers(0, 200)), data.draw(st.integers(0, 9))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    codes = make_codes(rng, count, n_bits, data.draw(st.sampled_from(KINDS)))
    queries = make_codes(rng, asked, n_bits, data.draw(st.sampled_from(KINDS)))
    mask = rng.random(count) < data.draw(st.floats(0, 1)) if data.draw(st.booleans()) else None
    radius = data.draw(st.none() | st.integers(0, n_bits + 2))
    k = data.draw(st.integers(1, 250))
    expected = truth(codes, queries, k, mask=mask, radius=radius)
    same(kernels.search(codes, queries, k, n_bits=n_bits, mask=mask, radius=radius, backend=backend), expected)
    if radius is not None:
        found = kernels.range_search(codes, queries, radius, n_bits=n_bits, mask=mask, backend=backend)
        same(found, truth.ranged(codes, queries, radius, mask=mask))


def scan(backend):
    """A back end over codes: its search, and its range search."""

    def over(rng, codes, n_bits):
        options = {"n_bits": n_bits, "backend": backend}
        return partial(kernels.search, codes, **options), partial(kernels.range_search, codes, **options)

    return over


@pytest.fixture(params=[MIHIndex, AutoIndex])
def indexed(request, monkeypatch):
    """An exact index over codes, some of them added after a first search, that looks for few codes as for many."""
    monkeypatch.setattr(mih_tables, "_FEWEST", 1)
    monkeypatch.setattr(auto, "_LEAST", 1)
    monkeypatch.setattr(auto, "_CLEAR", math.inf)  # hashing wherever it is tried

    def over(rng, codes, n_bits):
        cost = float(rng.choice([0.0, 0.05, 15.0]))  # all is probed, some is scanned, most is
        for module, name in ((mih, "PROBE_NS"), (mih, "CANDIDATE_NS"), (auto, "PROBE_NS")):
            monkeypatch.setattr(module, name, cost)
        index, first = request.param(n_bits), int(rng.integers(0, len(codes) + 1))
        index.add(codes[:first])
        if rng.random() < 0.5:
            index.search(codes[:1], 1)
        index.add(codes[first:])
        return index.search, index.range_search

    return over


def differ(over, truth, make_codes, seeds):
    """Compare random cases, each one made from its own seed."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        n_bits = int(rng.choice([rng.integers(1, 520), 32, 64, 128, 256, 4096], p=[0.5, 0.1, 0.15, 0.1, 0.1, 0.05]))
        count = int(
            rng.choice([rng.integers(0, 40), rng.integers(40, 700), rng.integers(700, 3000)], p=[0.2, 0.6, 0.2])
        )
        codes = make_codes(rng, count, n_bits, str(rng.choice(KINDS)))
        queries = make_codes(rng, int(rng.integers(1, 9)), n_bits, str(rng.choice(KINDS)))
        if count and rng.random() < 0.5:
            queries[0] = codes[rng.integers(count)]
        mask = rng.random(count) < rng.random() ** 2 if rng.random() < 0.5 else None
        radius = int(rng.choice([0, rng.integers(0, n_bits + 1), n_bits])) if rng.random() < 0.5 else None
        k = int(rng.choice([1, 10, rng.integers(1, 120), count + 1]))
        search, range_search = over(rng, codes, n_bits)
        got = search(queries, k, mask=mask, radius=radius)
        expected = truth(codes, queries, k, mask=mask, radius=radius)
        assert all(np.array_equal(a, b) for a, b in zip(got, expected)), f"seed {seed}"
        if radius is not None:
            ranged = range_search(queries, radius, mask=mask)
            expected = truth.ranged(codes, queries, radius, mask=mask)
            assert all(np.array_equal(a, b) for a, b in zip(ranged, expected)), f"seed {seed}"


def test_random_cases(backend, truth, make_codes):
    differ(scan(backend), truth, make_codes, range(150))


@pytest.mark.slow
def test_random_cases_long(backend, truth, make_codes):
    differ(scan(backend), truth, make_codes, range(10_000))


def test_random_cases_of_indexes(indexed, truth, make_codes):
    differ(indexed, truth, make_codes, range(60))


@pytest.mark.slow
def test_random_cases_of_indexes_long(indexed, truth, make_codes):
    differ(indexed, truth, make_codes, range(10_000))


CODES = np.zeros((4, 8), np.uint8)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"codes": CODES.astype(np.int8)}, CodeError, "packed uint8, not int8"),
        ({"codes": CODES.astype(float)}, CodeError, "hashret.pack"),
        ({"codes": CODES.tolist()}, CodeError, "numpy array of uint8, not list"),
        ({"codes": CODES[0]}, CodeError, "shape"),
        ({"codes": CODES[:, :7]}, CodeError, "8 bytes wide, and these are 7 bytes"),
        ({"queries": CODES[:, :4]}, CodeError, "queries of 64 bits are 8 bytes wide"),
        ({"queries": np.full((1, 64), np.nan)}, CodeError, "packed uint8, not float64"),
        ({"queries": CODES[None]}, CodeError, "shape"),
        ({"queries": None}, CodeError, "NoneType"),
        ({"k": 0}, InputError, "at least 1, not 0"),
        ({"k": -3}, InputError, "at least 1"),
        ({"k": 2.5}, InputError, "whole number of at least 1, not 2.5"),
        ({"k": 2**70}, InputError, "far more than the 4 codes"),
        ({"k": 10**5000}, InputError, "far more than the 4 codes"),
        ({"k": 2**70, "queries": CODES[:0]}, InputError, "far more than the 4 codes"),
        ({"k": True}, InputError, "not True"),
        ({"radius": -1}, InputError, "at least 0, not -1"),
        ({"radius": "4"}, InputError, "whole number"),
        ({"mask": np.ones(3, bool)}, InputError, "shape"),
        ({"mask": np.ones(4, int)}, InputError, "int64"),
        ({"mask": [True] * 4}, InputError, "list"),
        ({"mask": bitarray.bitarray("101")}, InputError, "shape"),
        ({"n_bits": 0}, InputError, "from 1 to 4096"),
        ({"n_bits": 5000}, InputError, "from 1 to 4096"),
        ({"n_bits": "64"}, InputError, "whole number"),
    ],
)
def test_bad_input_is_refused_by_a_sentence(backend, change, error, words):
    given = {"codes": CODES, "queries": CODES[:1], "k": 2, "n_bits": 64} | change
    with pytest.raises(error, match=words):
        kernels.search(given.pop("codes"), given.pop("queries"), given.pop("k"), backend=backend, **given)
    if not {"k", "radius"} & set(change):
        given = {"codes": CODES, "queries": CODES[:1], "n_bits": 64} | change
        with pytest.raises(error, match=words):
            kernels.range_search(given.pop("codes"), given.pop("queries"), 2, backend=backend, **given)


def test_padding_bits_must_be_zero(backend):
    codes = np.full((2, 2), 0xFF, np.uint8)
    with pytest.raises(CodeError, match="padding bits"):
        kernels.search(codes, codes, 1, n_bits=12, backend=backend)
