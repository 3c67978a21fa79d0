"""Whatever a caller hands in: an error of hashret's own with nothing changed, or a right answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import hashret
from hashret.collection import Collection
from hashret.errors import HashretError
from hashret.index import AutoIndex, CodeIndex, HNSWIndex, IVFIndex, MIHIndex

N_BITS = 12  # of two bytes, four bits are padding
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
ANY_TEXT = st.text(st.characters(), max_size=6)  # lone surrogates and NUL, too
ANY_NUMBER = st.one_of(
    st.integers(-3, 60),
    st.sampled_from([2**31, 2**63 - 1, 2**63, -(2**63) - 1, 2**70, 10**400, -0.0, 2.0, 1e400, float("nan")]),
    st.floats(),
    st.sampled_from([np.int8(-1), np.uint64(2**64 - 1), np.float32(3), np.bool_(True), Decimal(3), 1j]),
)
ANY_ARRAY = st.one_of(
    hnp.arrays(hnp.scalar_dtypes() | st.just(np.dtype(object)), SHAPES),
    hnp.arrays(np.uint8, SHAPES),
    hnp.arrays(np.int64, st.integers(0, 4), elements=st.integers(-2, 60)),
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), ANY_NUMBER, ANY_TEXT, st.binary(max_size=4), ANY_ARRAY, st.just(object())),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(ANY_TEXT | st.integers() | st.none(), inner, max_size=3),
    ),
    max_leaves=6,
)


@st.composite
def good_codes(draw: st.DrawFn) -> np.ndarray:
    """Codes as they should be, however they lie in memory."""
    codes = draw(hnp.arrays(np.uint8, st.tuples(st.integers(0, 5), st.just(2))))
    codes[:, 1] &= 0xF0
    forms = (
        codes,
        np.asfortranarray(codes),
        np.repeat(codes, 2, axis=0)[::2],
        codes.view(np.matrix),
        codes[:1].ravel(),
    )
    return forms[draw(st.integers(0, len(forms) - 1))]


ID = st.integers(-3, 60) | st.sampled_from(["s1", "s2", "1", "é"]) | ANY_TEXT
ENTRY = st.dictionaries(ANY_TEXT, ANYTHING, max_size=2) | st.none()
K, RADIUS = st.integers(1, 70), st.none() | st.integers(0, 13)
KNOWN = st.lists(st.integers(0, 19) | st.sampled_from([f"s{i}" for i in range(20)]), max_size=5)
IDS = st.one_of(
    KNOWN, KNOWN.map(np.array), ID, st.builds(range, st.integers(-3, 60), st.integers(-3, 60)), st.sets(ID, max_size=4)
)
OPERATORS = st.sampled_from(["eq", "ne", "gt", "lte", "in", "contains", "exists", "not", "and", "or", "like"])
FIELDS = st.sampled_from(["n", "t", "a.b", "\\", '"', ""]) | ANY_TEXT
VALUE = st.integers(-1, 20) | st.sampled_from(["a", "b"]) | ANYTHING
WHERE = st.one_of(
    st.none(),
    st.dictionaries(FIELDS, st.dictionaries(OPERATORS, VALUE, max_size=2) | VALUE, max_size=2),
    st.dictionaries(OPERATORS, st.lists(st.dictionaries(FIELDS, VALUE, max_size=2), max_size=2), max_size=1),
)
Content = tuple[list[Any], list[bytes], list[dict[str, Any]]]
limits = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with Collection.create(tmp_path_factory.mktemp("any") / "c", N_BITS) as made:
        codes = np.random.default_rng(0).integers(0, 256, (40, 2), np.uint8) & np.uint8(0xF0)
        made.add(codes[:20])
        made.add(
            codes[20:], [f"s{i}" for i in range(20)], [{"n": i, "t": "ab"[i % 2], "a": {"b": i}} for i in range(20)]
        )
        yield made
        made.verify()


def content(collection: Collection) -> Content:
    ids = list(collection)
    items = collection.get(ids)
    return ids, [code.tobytes() for code in items.codes], items.metadata


def nearest(held: list[bytes], query: np.ndarray) -> list[tuple[int, int]]:
    """(distance, row) of all codes."""
    codes = np.frombuffer(b"".join(held), np.uint8).reshape(-1, 2)
    return sorted(zip(np.bitwise_count(codes ^ query).sum(axis=1).tolist(), range(len(codes))))


def rows_of(codes: Any) -> np.ndarray:
    """What was taken as codes, as rows of them; nothing else may be."""
    assert isinstance(codes, np.ndarray) and codes.dtype == np.uint8 and codes.shape[-1:] == (2,) and codes.ndim < 3
    return np.array(codes).reshape(-1, 2)


def check_collection(collection: Collection, data: st.DataObject) -> None:
    before = content(collection)
    work = data.draw(st.sampled_from(["search", "add", "upsert", "delete", "get", "contains"]))
    stores = work in ("add", "upsert")
    odd = data.draw(
        st.sampled_from(["", "codes", "ids", "metadata"] if stores else ["", "codes", "k", "radius", "where"])
    )
    codes = data.draw(ANYTHING if odd == "codes" else good_codes())
    k, radius, where = (
        data.draw(ANYTHING if odd == name else usual)
        for name, usual in (("k", K), ("radius", RADIUS), ("where", WHERE))
    )
    ids, metadata = data.draw(IDS | ANYTHING), None
    if stores:
        count = {"min_size": (size := len(codes) if getattr(codes, "ndim", 1) == 2 else 1), "max_size": size}
        ids = data.draw(ANYTHING if odd == "ids" else st.none() | st.lists(ID, unique=True, **count))
        metadata = data.draw(ANYTHING if odd == "metadata" else st.none() | st.lists(ENTRY, **count))
    after = before
    try:
        if work == "search":
            hits = collection.search(codes, k, where=where, radius=radius)
            check_hits(before, hits, codes, k, where, radius)
        elif work in ("add", "upsert"):
            stored = list(getattr(collection, work)(codes, ids, metadata))
            after = with_stored(before, stored, rows_of(codes), metadata)
        elif work == "delete":
            collection.delete(ids)
            gone = ids_of(ids)
            after = tuple(zip(*(item for item in zip(*before) if item[0] not in gone))) or ((), (), ())
            assert len(after[0]) == len(before[0]) - len(gone)
        elif work == "get":
            items = collection.get(ids)
            at = [before[0].index(id) for id in items.ids]
            assert [code.tobytes() for code in items.codes] == [before[1][i] for i in at]
            assert set(items.ids) == ids_of(ids) and items.metadata == [before[2][i] for i in at]
        else:
            assert (ids in collection) == (isinstance(ids, str | int | np.integer) and ids in before[0])
    except HashretError as error:
        assert str(error)
        after = before
    assert content(collection) == tuple(map(list, after))
    restore(collection, before)


def ids_of(ids: Any) -> set[Any]:
    return {ids} if isinstance(ids, str | int | np.integer) else {getattr(id, "item", lambda id=id: id)() for id in ids}


def restore(collection: Collection, before: Content) -> None:
    """The items as they were, for the next example."""
    if content(collection) != before:
        if len(collection):
            collection.delete(list(collection))
        codes = np.frombuffer(b"".join(before[1]), np.uint8).reshape(-1, 2)
        collection.add(codes, before[0], before[2])


def with_stored(before: Content, ids: list[Any], codes: np.ndarray, metadata: Any) -> tuple[Any, Any, Any]:
    assert len(ids) == len(codes)
    metadata = [metadata] if isinstance(metadata, dict) else [None] * len(ids) if metadata is None else list(metadata)
    items = {id: rest for id, *rest in zip(*before)}
    for id, code, entry in zip(ids, codes, metadata, strict=True):
        items.pop(id, None)
        items[id] = [code.tobytes(), json.loads(json.dumps(entry or {}, default=lambda value: value.tolist()))]
    return list(items), [code for code, _ in items.values()], [entry for _, entry in items.values()]


def check_hits(before: Content, hits: Any, codes: Any, k: int, where: Any, radius: Any) -> None:
    queries = rows_of(codes)
    assert hits.ids.shape == hits.distances.shape == (len(queries), k)
    for query, ids, distances, found in zip(queries, hits.ids.tolist(), hits.distances.tolist(), hits.metadata):
        right = [(near, row) for near, row in nearest(before[1], query) if radius is None or near <= radius]
        got = [(near, before[0].index(id)) for near, id in zip(distances, ids) if near >= 0]
        assert distances[len(got) :] == [-1] * (k - len(got)) and ids[len(got) :] == [None] * (k - len(got))
        assert [entry for entry in found if entry is not None] == [before[2][row] for _, row in got]
        if where is None:
            assert got == right[:k]
        else:  # what a filter means is tested elsewhere; here that it only takes away
            assert got == [hit for hit in right if hit in got]


@settings(max_examples=120, **limits)
@given(data=st.data())
def test_a_collection_takes_anything(collection, data):
    check_collection(collection, data)


@pytest.mark.slow
@settings(max_examples=50_000, **limits)
@given(data=st.data())
def test_a_collection_takes_anything_long(collection, data):
    check_collection(collection, data)


def check_index(index: CodeIndex, data: st.DataObject) -> None:
    work = data.draw(st.sampled_from(["search", "range_search", "add"]))
    odd = data.draw(st.sampled_from(["", "codes", "k", "radius", "mask"]))
    codes, k, radius = (
        data.draw(ANYTHING if odd == name else usual)
        for name, usual in (("codes", good_codes()), ("k", K), ("radius", RADIUS))
    )
    before = index.codes.copy()
    mask = data.draw(ANYTHING if odd == "mask" else st.none() | hnp.arrays(bool, len(before)))
    try:
        if work == "add":
            index.add(codes)
            np.testing.assert_array_equal(index.codes, np.concatenate([before, rows_of(codes)]))
        else:
            found: Any = index.search(codes, k, mask=mask, radius=radius) if work == "search" else None
            found = index.range_search(codes, radius, mask=mask) if work == "range_search" else found
            queries, held = rows_of(codes), [code.tobytes() for code in before]
            for at, query in enumerate(queries):
                right = [hit for hit in nearest(held, query) if mask is None or mask[hit[1]]]
                right = [hit for hit in right if radius is None or hit[0] <= radius]
                if work == "search":
                    got, pad = list(zip(found.distances[at].tolist(), found.rows[at].tolist())), [(-1, -1)]
                    if isinstance(index, HNSWIndex):  # may miss some
                        right = [hit for hit in right if hit in got]
                    assert got == right[:k] + pad * (k - len(right))
                else:
                    part = slice(found.limits[at], found.limits[at + 1])
                    assert list(zip(found.distances[part].tolist(), found.rows[part].tolist())) == right
    except HashretError as error:
        assert str(error)
        np.testing.assert_array_equal(index.codes, before)


def some_index(kind: Any) -> CodeIndex:
    index: CodeIndex = kind(N_BITS)
    index.add(hashret.pack(np.random.default_rng(1).random((30, N_BITS)) < 0.5))
    return index


KINDS = (hashret.FlatIndex, MIHIndex, AutoIndex, IVFIndex, HNSWIndex)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, **limits)
@given(data=st.data())
def test_an_index_takes_anything(kind, data):
    check_index(some_index(kind), data)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10_000, **limits)
@given(data=st.data())
def test_an_index_takes_anything_long(kind, data):
    check_index(some_index(kind), data)
