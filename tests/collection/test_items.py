"""What a collection takes as ids and metadata, what it refuses, and that all of it comes back as it was given."""

from __future__ import annotations

import enum
import itertools
import sqlite3
from collections import OrderedDict, UserDict
from types import MappingProxyType

import numpy as np
import pytest

from hashret.collection import Collection
from hashret.errors import InputError, StorageError


def test_a_database_that_takes_few_values_a_statement_stores_as_many_items(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection._session.catalogue._connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
        collection.add(codes(700), ids=[f"item {n}" for n in range(700)])
        assert len(collection) == 700 and "item 699" in collection


def test_automatic_ids_never_meet_given_ones(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(1), ids=[-5])
        assert list(collection.add(codes(2))) == [0, 1]
        collection.add(codes(1), ids=[50])
        assert list(collection.add(codes(100))) == list(range(51, 151))
        collection.delete(list(range(51, 151)))
        assert list(collection.add(codes(1))) == [151]


def test_ids_and_metadata_come_back_as_they_were_given(path, codes):
    ids = [1, "1", "", "é🦜", "a'b\"c", -(2**63), 2**63 - 1, np.int32(7), np.str_("n")]
    metadata = [
        {"a": [1, 2.5, None, True], "b": {"c": "é🦜\n\\u0000"}},
        {"big": 2**70, "np": np.float32(0.5), "array": np.arange(3)},
        *({"i": i} for i in range(7)),
    ]
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(9), ids, metadata)
        collection.verify()
    with Collection.open(path) as collection:
        assert list(collection) == ids and [type(id) for id in collection] == [
            int,
            str,
            str,
            str,
            str,
            int,
            int,
            int,
            str,
        ]
        back = collection.get(ids).metadata
        assert back[0] == metadata[0] and back[1] == {"big": 2**70, "np": 0.5, "array": [0, 1, 2]}


@pytest.mark.parametrize(
    "ids, metadata, words",
    [
        (["a", "a", "b"], None, "'a' is given twice"),
        ([4, 5, 4], None, "4 is given twice"),
        (["new", "known", "x"], None, "'known' is in the collection already"),
        ([500, 2, 501], None, "2 is in the collection already"),
        ([True, 1, 2], None, "must be a str or an int, not True"),
        ([1.0, 2, 3], None, "not 1.0"),
        ([2**63, 2, 3], None, "64 bits"),
        (["a\0", "b", "c"], None, "NUL"),
        (["\ud800", "b", "c"], None, "surrogate"),
        (["a", "b"], None, "3 codes need 3 ids, and 2 were given"),
        ([1, 2, 3, 4, 5], None, "3 codes need 3 ids, and 5 were given"),
        (itertools.count(7), None, "3 codes need 3 ids, and more were given"),
        (range(10**15), None, "3 codes need 3 ids, and 1000000000000000 were given"),
        (b"abc", None, "not bytes"),
        ({"a", "b", "c"}, None, "a set has none"),
        ([7, 8, 9], [{}, {}], "3 codes need 3 metadata"),
        ([7, 8, 9], [{}, {}, {"a": float("nan")}], "^the metadata of 9 cannot be stored as JSON: Out"),
        (None, [{}, {}, {"a": float("nan")}], "^the metadata entry 2 cannot be stored as JSON: Out"),
        (["a", 8, "c"], [{}, {}, {"a": float("nan")}], "^the metadata of 'c' cannot be stored"),
        ([7, 8, 9], [{}, {}, {"a": object()}], "no JSON value"),
        (np.array([7, 8, 9], "m8[s]"), None, r"not timedelta64\[s\]"),
        (np.array([7, 8, 9], "m8[ns]"), None, r"not timedelta64\[ns\]"),
        (np.array([7, 8, 9], "M8[ns]"), None, r"not datetime64\[ns\]"),
        ([7, 8, np.timedelta64(9, "s")], None, "must be a str or an int, not np.timedelta64"),
        ([7, 8, 9], [{}, {}, {1: 2}], "keys of type str, and has 1$"),
        ([7, 8, 9], [{}, {}, {np.str_("a"): 1, 1: 2}], "the metadata of 9 must have keys of type str, and has 1$"),
        ([7, 8, 9], [{}, {}, {"a": [{1: "x", "1": "y"}]}], "must have keys of type str, and has 1 within"),
        ([7, 8, 9], [{}, {}, {"a": OrderedDict({1: 2, "1": 3})}], "keys of type str"),
        ([7, 8, 9], [{}, {}, {"a": np.array([{1: 2}], object)}], "keys of type str"),
        ([7, 8, 9], [{}, {}, {"a": np.datetime64("2020-01-01", "ns")}], "datetime64 is no JSON value"),
        ([7, 8, 9], [{}, {}, np.array([1, 2])], "must be a dict"),
        ([7, 8, 9], [{}, {}, {"a": "x\0"}], "NUL"),
        ([7, 8, 9], [{}, {}, ["a"]], "must be a dict"),
        ([7, 8, 9], [{}, {}, {"a": "\udfff"}], "metadata of 9 holds half"),
        ([7, 8, 9], {"a": 1}, "a list with a dict for each code"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_leaves_no_trace(path, codes, ids, metadata, words):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100))
        collection.delete(list(range(3, 100)))
        collection.add(codes(1), ids=["known"])
        before = (list(collection), collection.info())
        with pytest.raises(InputError, match=words):
            collection.add(codes(3), ids, metadata)
        assert (list(collection), collection.info()) == before
        collection.verify()
        collection.add(codes(1))


def test_text_of_an_enum_is_its_text(path, codes):
    class Colour(str, enum.Enum):  # noqa: UP042 - a StrEnum knows its text, and this one does not
        RED = "red"

    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(1), [Colour.RED], [{"colour": Colour.RED}])
        assert list(collection) == ["red"] and Colour.RED in collection
        for condition in (Colour.RED, {"in": [Colour.RED]}):
            assert collection.search(codes(1), k=1, where={"colour": condition}).ids[0, 0] == "red"


def test_keys_of_metadata_may_be_text_of_numpy_at_any_depth(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(1), ["a"], [{np.str_("é"): {np.str_("b"): 1}}])
        assert collection.get("a").metadata == [{"é": {"b": 1}}]
        assert collection.search(codes(1), k=1, where={"é.b": 1}).ids[0, 0] == "a"


def test_metadata_may_be_any_mapping(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(2), ids=[1, 2], metadata=[MappingProxyType({"a": 1}), UserDict()])
        collection.upsert(codes(1), ids=[2], metadata=[UserDict(b=[2])])
        assert collection.get([1, 2]).metadata == [{"a": 1}, {"b": [2]}]


def test_items_that_are_no_one_text_together_come_one_by_one(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        metadata = [{"n": i, "text": '"' * 9000} for i in range(30)]
        collection.add(codes(30), [f"s{i}" for i in range(30)], metadata)
        connection = collection._session.catalogue._connection
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 50_000)  # in the place of 10^9
        assert collection.get(list(collection)).metadata == metadata
        assert sorted(m["n"] for m in collection.search(codes(1), 30).metadata[0]) == list(range(30))
        with pytest.raises(StorageError, match="keep long metadata elsewhere"):
            collection.add(codes(1), ["long"], [{"text": "x" * 60_000}])
        assert len(collection) == 30 and "long" not in collection
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10**9)
        collection.verify()


def test_deep_metadata_are_refused(path, codes):
    deep: dict[str, object] = {}
    for _ in range(150):
        deep = {"d": deep}
    with Collection.create(path, n_bits=16) as collection, pytest.raises(InputError, match="deeper"):
        collection.add(codes(1), metadata=[deep])


@pytest.mark.parametrize("name", ["fingerprint", "model", "credits"])
def test_bytes_that_are_no_text_are_refused(path, name):
    with pytest.raises(InputError, match=rf"{name} is 'caf\\udce9', which holds bytes that are no text"):
        Collection.create(path, **{name: "caf\udce9"})
    assert not path.exists()


def test_integers_that_go_on_at_the_other_end_of_64_bits(path, codes):
    ids = np.arange(2**63 - 32, 2**63 + 40, dtype=np.uint64).view(np.int64)
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(72), ids)
        assert list(collection) == ids.tolist() and -(2**63) in collection and 2**63 - 1 in collection
        np.testing.assert_array_equal(collection.codes(ids), codes(72))
        with pytest.raises(InputError, match="-9223372036854775808 is in the collection already"):
            collection.add(codes(1), ids[32:33])
        with pytest.raises(InputError, match="is given twice"):
            collection.add(codes(3), ids[[0, 1, 0]])
        collection.verify()


def test_integers_in_any_order_are_stored_as_one_by_one(path, codes):
    """Many integers take a faster way to the catalogue, which verify does not know of."""
    ids = np.random.default_rng(0).permutation(np.r_[np.arange(1500), (1 << 63) - 1 - np.arange(500)])
    data = codes(2200)
    with Collection.create(path, n_bits=16) as collection:
        collection.add(data[:2000], ids=ids)
        collection.add(data[2000:], ids=-1 - ids[:200])
        collection.verify()
        assert list(collection) == [*ids.tolist(), *(-1 - ids[:200]).tolist()]
        np.testing.assert_array_equal(collection.get(ids[::-1]).codes, data[1999::-1])
        with pytest.raises(InputError, match=f"the id {ids[700]} is in the collection already"):
            collection.add(data[:65], ids=np.r_[np.arange(5000, 5064), ids[700]])
        assert len(collection) == 2200
