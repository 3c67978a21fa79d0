"""Search within a radius and with relaxed queries: what brute force over the stored codes gives, and the same care."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hashret
from hashret.collection import Collection, CollectionAsymmetricHits, CollectionRangeHits
from hashret.errors import CodeError, InputError, StorageError

N_BITS = 13  # padding bits in every code, and few distinct codes


def relaxed(count: int, n_bits: int = N_BITS, seed: int = 5) -> np.ndarray:
    """Relaxed queries of a few round values, so that scores tie, and are the same however they are summed."""
    return (np.random.default_rng(seed).integers(-2, 3, (count, n_bits)) / 4).astype(np.float32)


def within(
    nearest: Callable[..., Any], collection: Collection, query: np.ndarray, radius: int, keep: Any = None
) -> tuple[list[Any], list[int]]:
    """The truth of ``range_search``, for one query."""
    ids, distances = nearest(collection, query, max(1, len(collection)), keep)
    count = sum(0 <= distance <= radius for distance in distances)
    return ids[:count], distances[:count]


def best(
    collection: Collection, query: np.ndarray, k: int, oversample: int, keep: Any = None
) -> tuple[list[Any], list[int], list[float]]:
    """The truth of ``search_asymmetric``, for one query."""
    items = collection.get(list(collection))
    found = []
    for at, (code, metadata) in enumerate(zip(items.codes, items.metadata)):
        bits = hashret.unpack(code[None], n_bits=collection.n_bits)[0]
        if keep is None or keep(metadata):
            score = float(np.where(bits, 1.0, -1.0) @ query.astype(np.float64))
            found.append((int((bits != (query > 0)).sum()), at, score))
    found = sorted(sorted(found)[: k * oversample], key=lambda hit: (-hit[2], hit[0], hit[1]))[:k]
    short = k - len(found)
    return (
        [items.ids[at] for _, at, _ in found] + [None] * short,
        [distance for distance, _, _ in found] + [-1] * short,
        [score for _, _, score in found] + [-np.inf] * short,
    )


@pytest.fixture
def worn(path, codes):
    """A collection that has lived: runs, ids and metadata, with deleted and replaced items in between."""
    data = codes(700, n_bits=N_BITS)
    with Collection.create(path, n_bits=N_BITS) as collection:
        collection.add(data[:300])
        collection.add(data[300:600], [f"s{i}" for i in range(300)], [{"n": i % 5} for i in range(300)])
        collection.delete([*range(0, 300, 3), *(f"s{i}" for i in range(0, 300, 7))])
        collection.upsert(data[600:], [*range(150, 200), *(f"s{i}" for i in range(50))], [{"n": 3}] * 100)
        yield collection


FILTERS = [
    (None, None),
    ({"n": 3}, lambda metadata: metadata.get("n") == 3),
    ({"n": {"exists": False}}, lambda metadata: "n" not in metadata),
    ({"n": 17}, lambda metadata: False),
]


@pytest.mark.parametrize("where, keep", FILTERS, ids=["all", "equal", "missing", "none"])
@pytest.mark.parametrize("radius", [0, 2, 5, N_BITS, 1000])
def test_all_items_within_a_radius_are_found(worn, codes, nearest, radius, where, keep):
    queries = codes(9, n_bits=N_BITS, seed=1)
    hits = worn.range_search(queries, radius, where=where)
    assert isinstance(hits, CollectionRangeHits)
    assert hits.limits.shape == (10,) and hits.limits[0] == 0 and hits.limits[-1] == len(hits.ids)
    assert (hits.ids.dtype, hits.distances.dtype) == (object, np.int32)
    for row, query in enumerate(queries):
        part = slice(hits.limits[row], hits.limits[row + 1])
        ids, distances = within(nearest, worn, query, radius, keep)
        assert hits.ids[part].tolist() == ids and hits.distances[part].tolist() == distances
        assert hits.metadata[part] == worn.get(ids).metadata
    if radius >= N_BITS and where is None:
        assert np.diff(hits.limits).tolist() == [len(worn)] * 9


@pytest.mark.parametrize("where, keep", FILTERS, ids=["all", "equal", "missing", "none"])
@pytest.mark.parametrize("k, oversample", [(1, 1), (3, 4), (20, 2), (600, 4)])
def test_relaxed_queries_order_the_nearest_by_their_scores(worn, k, oversample, where, keep):
    queries = relaxed(5)
    hits = worn.search_asymmetric(queries, k, oversample=oversample, where=where)
    assert isinstance(hits, CollectionAsymmetricHits)
    assert hits.ids.shape == hits.distances.shape == hits.scores.shape == (5, k)
    assert (hits.ids.dtype, hits.distances.dtype, hits.scores.dtype) == (object, np.int32, np.float32)
    for row, query in enumerate(queries):
        found = best(worn, query, k, oversample, keep)
        assert (hits.ids[row].tolist(), hits.distances[row].tolist(), hits.scores[row].tolist()) == found
        known = [id for id in found[0] if id is not None]
        assert hits.metadata[row] == worn.get(known).metadata + [None] * (k - len(known))


def test_it_is_what_a_flat_index_finds(path):
    queries = np.tanh(np.random.default_rng(0).normal(size=(20, 64)))
    data = hashret.pack(np.random.default_rng(1).normal(size=(500, 64)))
    index = hashret.FlatIndex(n_bits=64)
    index.add(data)
    with Collection.create(path, n_bits=64) as collection:
        collection.add(data)
        expected, hits = index.search_asymmetric(queries, 10), collection.search_asymmetric(queries)
        assert hits.ids.tolist() == expected.rows.tolist()
        assert np.array_equal(hits.scores, expected.scores) and np.array_equal(hits.distances, expected.distances)
        ranges, found = index.range_search(data[:5], 25), collection.range_search(data[:5], 25)
        assert np.array_equal(found.limits, ranges.limits) and found.ids.tolist() == ranges.rows.tolist()


def test_a_query_whose_floats_are_signs_orders_as_its_code_does(worn, codes):
    queries = codes(6, n_bits=N_BITS, seed=2)
    signs = np.where(hashret.unpack(queries, n_bits=N_BITS), 1.0, -1.0)
    plain, scored = worn.search(queries, k=30), worn.search_asymmetric(signs, 30)
    assert scored.ids.tolist() == plain.ids.tolist() and scored.metadata == plain.metadata
    assert scored.scores.tolist() == (N_BITS - 2 * plain.distances).tolist()


def test_one_query_gives_one_row_and_none_gives_none(worn, codes):
    code, floats = codes(1, n_bits=N_BITS)[0], relaxed(1)[0]
    assert worn.range_search(code, 3).limits.shape == (2,)
    assert worn.search_asymmetric(floats, 4).ids.shape == (1, 4)
    assert worn.search_asymmetric(floats).scores.shape == (1, 10)
    hits = worn.range_search(codes(1, n_bits=N_BITS)[:0], 3)
    assert (hits.limits.tolist(), hits.ids.tolist(), hits.metadata) == ([0], [], [])
    hits = worn.search_asymmetric(relaxed(0), 4)
    assert (hits.ids.shape, hits.scores.shape, hits.metadata) == ((0, 4), (0, 4), [])


def test_an_empty_and_an_emptied_collection_have_no_hits(path, codes):
    with Collection.create(path, n_bits=N_BITS) as collection:
        for _ in range(2):
            for where in (None, {"n": 1}, {"n": {"exists": False}}):
                hits = collection.range_search(codes(2, n_bits=N_BITS), N_BITS, where=where)
                assert (hits.limits.tolist(), hits.ids.tolist(), hits.metadata) == ([0, 0, 0], [], [])
                scored = collection.search_asymmetric(relaxed(2), 3, where=where)
                assert scored.ids.tolist() == scored.metadata == [[None] * 3] * 2
                assert scored.distances.tolist() == [[-1] * 3] * 2
                assert scored.scores.tolist() == [[-np.inf] * 3] * 2
            collection.add(codes(5, n_bits=N_BITS), list("abcde"))
            collection.delete(list("abcde"))


@pytest.mark.parametrize(
    "queries, words",
    [
        (np.zeros((2, 3), np.uint8), "queries of 13 bits are 2 bytes wide"),
        (np.zeros((2, 2), np.float32), "packed uint8"),
        (np.full((1, 2), 255, np.uint8), "padding bits"),
        (np.zeros((1, 1, 2), np.uint8), "shape"),
        ([[0, 0]], "numpy array"),
    ],
    ids=["width", "dtype", "padding", "shape", "list"],
)
def test_codes_that_do_not_fit_are_refused(worn, queries, words):
    with pytest.raises(CodeError, match=words):
        worn.range_search(queries, 2)


@pytest.mark.parametrize("radius", [-1, 1.5, None, True, "2"])
def test_a_radius_that_is_none_is_refused(worn, codes, radius):
    with pytest.raises(InputError, match="radius"):
        worn.range_search(codes(1, n_bits=N_BITS), radius)


@pytest.mark.parametrize(
    "queries, words",
    [
        (relaxed(2, N_BITS + 1), r"\(Q, 13\), not \(2, 14\)"),
        (np.zeros((2, N_BITS), np.int64), "must be floats, and these are int64"),
        (np.zeros((2, 2), np.uint8), "must be floats, and these are uint8"),
        (np.full((1, N_BITS), np.nan), "NaN or infinity"),
        (np.full((1, N_BITS), np.inf), "NaN or infinity"),
        (np.full((1, N_BITS), 1e307), "values beyond"),
        (np.zeros((1, 1, N_BITS)), "shape"),
        (None, "must be floats"),
        ([[0.5], [0.5, 1.0]], "rows of one length"),
    ],
    ids=["width", "whole numbers", "codes", "NaN", "infinity", "overflow", "shape", "None", "ragged"],
)
def test_relaxed_queries_that_are_none_are_refused(worn, queries, words):
    with pytest.raises(CodeError, match=words):
        worn.search_asymmetric(queries, where={"n": 3})


@pytest.mark.parametrize("options, words", [({"k": 0}, "k, the number"), ({"oversample": 0}, "oversample")], ids=str)
def test_counts_that_are_none_are_refused(worn, options, words):
    with pytest.raises(InputError, match=words):
        worn.search_asymmetric(relaxed(1), **options)
    with pytest.raises(InputError, match=r"far more than the \d+ codes"):
        worn.search_asymmetric(relaxed(1), 10**12)


def test_a_filter_that_makes_no_sense_is_refused(worn, codes):
    for search in (
        lambda where: worn.range_search(codes(1, n_bits=N_BITS), 2, where=where),
        lambda where: worn.search_asymmetric(relaxed(1), where=where),
    ):
        with pytest.raises(InputError, match="did you mean 'gte'"):
            search({"n": {"gtee": 1}})


def test_metadata_of_hits_are_ones_own_to_change(worn, codes):
    query = np.repeat(codes(1, n_bits=N_BITS), 2, axis=0)
    hits = worn.range_search(query, N_BITS, where={"n": 3})
    first, second = hits.metadata[0], hits.metadata[hits.limits[1]]
    assert first == second == {"n": 3}
    first["n"] = 4
    assert second == {"n": 3} == worn.range_search(query, N_BITS, where={"n": 3}).metadata[0]


def test_a_snapshot_stays_and_a_reader_follows(path, codes, nearest):
    data = codes(200, n_bits=N_BITS)
    with Collection.create(path, n_bits=N_BITS) as collection, Collection.open(path) as reader:
        collection.add(data)
        with reader.snapshot() as fixed:
            before = fixed.range_search(data[0], 4), fixed.search_asymmetric(relaxed(1), 20)
            collection.delete(before[0].ids.tolist())
            collection.upsert(data[:3], [id for id in before[1].ids[0].tolist() if id in collection][:3])
            collection.compact()
            again = fixed.range_search(data[0], 4), fixed.search_asymmetric(relaxed(1), 20)
            for old, new in zip((*before[0], *before[1]), (*again[0], *again[1])):
                np.testing.assert_equal(new, old)
            hits = reader.range_search(data[0], 4)
            assert hits.ids.tolist() == within(nearest, reader, data[0], 4)[0]
            assert reader.search_asymmetric(relaxed(1), 20).ids[0].tolist() == best(reader, relaxed(1)[0], 20, 4)[0]
            assert fixed.refresh()
            assert fixed.range_search(data[0], 4).ids.tolist() == hits.ids.tolist()


def test_few_hits_take_little_memory(path, codes):
    data = np.random.default_rng(0).integers(0, 256, (200_000, 8), np.uint8)
    with Collection.create(path, n_bits=64) as collection:
        collection.add(data)
        collection.range_search(data[:1], 0)  # the index is made once
        tracemalloc.start()
        try:
            hits = collection.range_search(data[:50], 8)
            assert tracemalloc.get_traced_memory()[1] < 8e6  # (50, 200,000) distances take 40 MB; numpy has blocks
        finally:
            tracemalloc.stop()
    assert 50 <= len(hits.ids) < 200


def test_a_closed_collection_says_so(path, codes):
    collection = Collection.create(path, n_bits=N_BITS)
    collection.close()
    for use in (
        lambda: collection.range_search(codes(1, n_bits=N_BITS), 1),
        lambda: collection.search_asymmetric(relaxed(1)),
    ):
        with pytest.raises(StorageError, match="closed"):
            use()


@pytest.mark.parametrize("where", [None, {}, {"n": {"gte": 3}}, {"n": {"exists": False}}, {"n": 9}])
def test_items_are_counted_and_listed_by_a_filter(worn, where):
    hits = worn.search(np.zeros((1, 2), np.uint8), len(worn), where=where)
    found = set(hits.ids[0].tolist()) - {None}
    assert worn.ids(where) == [id for id in worn if id in found]
    assert worn.count(where) == len(found)
    with pytest.raises(InputError, match="a filter is a dict"):
        worn.count(3)


def test_what_a_filter_lists_can_be_deleted(worn):
    rest = [id for id, metadata in zip(worn, worn.get(list(worn)).metadata) if metadata.get("n") != 2]
    assert worn.count({"n": 2}) > 9
    worn.delete(worn.ids({"n": 2}))
    assert list(worn) == worn.ids() == rest and worn.count({"n": 2}) == 0 and worn.count() == len(rest)
