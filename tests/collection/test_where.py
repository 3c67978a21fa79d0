"""Filters give what plain Python gives on the same metadata, and cannot be used to say anything else in SQL."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hashret.collection import Collection
from hashret.errors import InputError

MISSING = object()
COMPARE = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}


def matches(where: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """What a filter means, in Python."""
    return all(part(key, value, metadata) for key, value in where.items())


def part(key: str, value: Any, metadata: dict[str, Any]) -> bool:
    if key == "not":
        return not matches(value, metadata)
    if key == "and":
        return all(matches(each, metadata) for each in value)
    if key == "or":
        return any(matches(each, metadata) for each in value)
    stored: Any = metadata
    for name in key.split("."):
        stored = stored.get(name, MISSING) if isinstance(stored, dict) else MISSING
    return field(stored, value)


def field(stored: Any, value: Any) -> bool:
    if isinstance(value, dict):
        return all(condition(stored, name, operand) for name, operand in value.items())
    return condition(stored, "eq", value)


def condition(stored: Any, name: str, operand: Any) -> bool:
    if name == "exists":
        return (stored is not MISSING) == operand
    if name == "not":
        return not field(stored, operand)
    if name == "ne":
        return not equal(stored, operand)
    if name == "eq":
        return equal(stored, operand)
    if name == "in":
        return any(equal(stored, each) for each in operand)
    if name == "contains":
        return isinstance(stored, list) and any(equal(each, operand) for each in stored)
    return kind(stored) == kind(operand) and kind(stored) in ("number", "text") and COMPARE[name](stored, operand)


def equal(stored: Any, operand: Any) -> bool:
    return kind(stored) == kind(operand) and kind(stored) != "other" and stored == operand


def kind(value: Any) -> str:
    if value is None:
        return "null"
    return "number" if isinstance(value, bool | int | float) else "text" if isinstance(value, str) else "other"


ROWS: list[dict[str, Any]] = [
    {},
    {"year": 2019, "tag": "a"},
    {"year": 2020.5, "tag": "b", "tags": ["a", "b", 3, None, [1]]},
    {"year": "2019", "tag": None, "camera": {"make": "é🦜", "lens": {"mm": 50}}},
    {"year": True, "tag": "[1,2]", "tags": "a"},
    {"year": False, "tag": [1, 2], "a.b": 1, "it's": 2},
    {"year": None, "tag": {"x": 1}, "and": 5},
    {"year": -3, "tag": "A", "tags": []},
    {"year": 10**17 + 1, "tag": "é🦜", "tags": ["é🦜", True]},
]
FILTERS: list[dict[str, Any]] = [
    {},
    {"year": 2019},
    {"year": 2019.0},
    {"year": "2019"},
    {"year": 1},
    {"year": False},
    {"year": None},
    {"year": 10**17 + 1},
    {"year": {"gte": 2019, "lt": 2021}},
    {"year": {"gt": "2018"}},
    {"year": {"lte": "2019"}},
    {"year": {"lt": 0}},
    {"year": {"gte": -(2**63), "lt": 2**63 - 1}},
    {"tag": {"in": ["[1,2]", "[2]", '{"x":1}', "A", None, 3]}},
    {"tag": {"not": {"in": ["[1,2]", "{"]}}},
    {"year": {"ne": 2019}},
    {"year": {"not": {"gte": 2019}}},
    {"year": {"not": 2019}},
    {"year": {"in": [2019, "2019", None, 1]}},
    {"year": {"in": []}},
    {"year": {"exists": True}},
    {"year": {"exists": False}},
    {"tag": "[1,2]"},
    {"tag": {"gte": "A"}},
    {"tag": {"lt": "b"}},
    {"tag": {"in": ["[1,2]", "a"]}},
    {"tags": {"contains": "a"}},
    {"tags": {"contains": 3}},
    {"tags": {"contains": 1}},
    {"tags": {"contains": None}},
    {"tags": {"contains": "[1]"}},
    {"camera.make": "é🦜"},
    {"camera.lens.mm": {"gt": 49.5}},
    {"camera": {"exists": True}},
    {"it's": 2},
    {"or": [{"year": 2019}, {"tag": "b"}]},
    {"or": []},
    {"and": []},
    {"and": [{"year": {"gt": 0}}, {"not": {"tag": "a"}}]},
    {"not": {}},
    {"not": {"or": [{"year": 2019}, {"tag": None}]}},
    {"not": {"not": {"tag": "b"}}},
    {"tag": "a", "year": {"gt": 0}},
]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    path = tmp_path_factory.mktemp("where") / "c"
    with Collection.create(path, n_bits=8) as made:
        made.add(np.zeros((100, 1), np.uint8))  # a run: items without metadata that are not in the table of items
        made.delete([5])
        made.add(np.zeros((len(ROWS), 1), np.uint8), [f"r{i}" for i in range(len(ROWS))], ROWS)
        yield made


def found(collection: Collection, where: dict[str, Any]) -> list[Any]:
    hits = collection.search(np.zeros((1, 1), np.uint8), k=len(collection), where=where)
    return [id for id in hits.ids[0].tolist() if id is not None]


@pytest.mark.parametrize("where", FILTERS, ids=str)
def test_a_filter_means_what_it_means_in_python(collection, where):
    expected = [
        id for id, metadata in zip(collection, collection.get(list(collection)).metadata) if matches(where, metadata)
    ]
    assert found(collection, where) == expected


def test_an_index_changes_nothing(collection):
    before = [found(collection, where) for where in FILTERS]
    for name in ("year", "tag", "camera.make", "Year", "it's"):
        collection.create_index(name)
        collection.create_index(name)
    assert collection.info().indexes == ("Year", "camera.make", "it's", "tag", "year")
    assert [found(collection, where) for where in FILTERS] == before
    collection.verify()
    for name in collection.info().indexes:
        collection.drop_index(name)
    with pytest.raises(InputError, match="no index on 'yea'"):
        collection.drop_index("yea")


def test_an_indexed_filter_uses_the_index(collection):
    from hashret.collection._where import compile_filter

    collection.create_index("year")
    for where in (
        {"year": 2019},
        {"year": {"gte": 2019}},
        {"year": {"lt": "b"}},
        {"year": {"in": [1, 2]}},
        {"year": 2.5},
    ):
        condition = compile_filter(where)
        with collection._session.reading() as view:
            sql = f"EXPLAIN QUERY PLAN SELECT row FROM items WHERE {condition.sql}"
            plan = str(view.catalogue.query(sql, condition.parameters))
        assert "SEARCH items USING INDEX field:" in plan, (where, plan)
    collection.drop_index("year")


def test_a_dot_of_the_name_itself_is_escaped(collection):
    assert found(collection, {r"a\.b": 1}) == ["r5"]
    assert found(collection, {"a.b": 1}) == []


@pytest.mark.parametrize(
    "where, words",
    [
        ({"year": {"gtee": 2019}}, "did you mean 'gte'"),
        ({"year": {}}, "is empty"),
        ({"year": [1, 2]}, "use 'in'"),
        ({"year": {"in": 3}}, "takes a list"),
        ({"year": {"gt": None}}, "takes a number or a string"),
        ({"year": {"eq": float("nan")}}, "finite"),
        ({"year": {"exists": 1}}, "True or False"),
        ({"year": "a\0"}, "no text that metadata can hold"),
        ({"or": {"year": 1}}, "takes a list of filters"),
        ({"not": [{"year": 1}]}, "a filter is a dict"),
        ([("year", 1)], "a filter is a dict"),
        ({3: 1}, "name is a str"),
        ({"": 1}, "not empty"),
        ({"a..b": 1}, "not empty"),
        ({'a"b': 1}, "has no quotes"),
        ({"a\\b": 1}, "backslashes"),
        ({"a\x01": 1}, "control characters"),
        ({"or": [{"year": i} for i in range(500)]}, "more than 400 conditions"),
        ({"or": [{}] * 500}, "more than 400 conditions"),
        ({"and": [{"not": {"or": []}}] * 500}, "more than 400 conditions"),
        ({"year": 2**63}, "'eq' takes whole numbers that fit 64 bits"),
        ({"year": {"gt": -(2**63) - 1}}, "'gt' takes whole numbers that fit 64 bits"),
        ({"year": np.uint64(2**63)}, "fit 64 bits"),
        ({"year": 10**5000}, "fit 64 bits"),
        ({"year": {"in": [1, 10**5000]}}, "'in' takes whole numbers that fit 64 bits"),
        ({"tags": {"contains": 10**5000}}, "'contains' takes whole numbers that fit 64 bits"),
        ({"year": {"exists": 10**5000}}, "cannot be used"),
        ({"year": {"in": np.zeros((1, 1))}}, "takes a list of values"),
        ({10**5000: 1}, "cannot be used"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the digits of some would take too long to print
)
def test_filters_that_make_no_sense_are_refused(collection, where, words):
    with pytest.raises(InputError, match=words):
        found(collection, where)


def test_values_of_numpy_are_those_of_python(collection):
    for theirs, ours in (
        ({"year": {"in": np.array([2019, 2021])}}, {"year": {"in": [2019, 2021]}}),
        ({"year": {"exists": np.False_}}, {"year": {"exists": False}}),
        ({"year": {"gte": np.int16(2020)}}, {"year": {"gte": 2020}}),
    ):
        assert found(collection, theirs) == found(collection, ours) != []


def test_words_of_filters_are_no_fields_to_index(collection):
    for word in ("and", "or", "not"):
        with pytest.raises(InputError, match="word of filters"):
            collection.create_index(word)
    collection.create_index("x.not")
    collection.drop_index("x.not")


def test_however_many_values_begin_with_a_bracket_they_are_one_part_of_the_statement(collection):
    from hashret.collection._where import compile_filter

    where = {f"f{i}": {"in": [f"[{j}" for j in range(399)]} for i in range(399)} | {"tag": {"in": ["[1,2]", "[1"]}}
    condition = compile_filter(where)
    assert len(condition.parameters) == condition.sql.count("?") == 400
    assert condition.sql.count("json_type") == 400
    assert found(collection, where) == []


def test_deep_filters_are_refused_before_the_parser_does(collection):
    def nested(levels: int) -> dict[str, Any]:
        where: dict[str, Any] = {"year": 2019}
        for _ in range(levels):
            where = {"not": {"and": [where]}}
        return where

    assert found(collection, nested(10)) == ["r1"]
    with pytest.raises(InputError, match="deeper"):
        found(collection, nested(40))
    with pytest.raises(InputError, match="deeper"):
        where: Any = 2019
        for _ in range(60):
            where = {"not": where}
        found(collection, {"year": where})
    assert len(found(collection, {"or": [{"year": i} for i in range(400)]})) == 2


@pytest.mark.parametrize(
    "evil",
    ["') OR 1=1 --", "x'); DROP TABLE items; --", "year') = 2019 OR ('1", "?", ":a", "$[0]", "a' || 'b", "%", "*"],
)
def test_names_and_values_stay_names_and_values(collection, evil):
    before = list(collection)
    assert found(collection, {evil: 1}) == [] and found(collection, {"tag": evil}) == []
    assert found(collection, {"tag": {"in": [evil]}}) == [] and found(collection, {"tags": {"contains": evil}}) == []
    collection.create_index(evil)
    collection.verify()
    collection.drop_index(evil)
    assert list(collection) == before


names = st.sampled_from(["a", "b", "c.d", "é"])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-2, 2),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.1, 1e22, 5e-324, -0.0]),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3),
    st.sampled_from(["a", "[1]", "{}", "[", '"', "\\", "\n", "1", "null"]),
)
values = st.one_of(
    scalars, st.lists(scalars, max_size=3), st.dictionaries(st.sampled_from(["d", "x"]), scalars, max_size=2)
)
metadatas = st.lists(st.dictionaries(st.sampled_from(["a", "b", "c", "é"]), values, max_size=3), min_size=1, max_size=8)
numbers_or_texts = scalars.filter(lambda value: value is not None)
conditions = st.recursive(
    st.one_of(
        scalars,
        st.dictionaries(st.sampled_from(["eq", "ne", "contains"]), scalars, min_size=1, max_size=2),
        st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), numbers_or_texts, min_size=1, max_size=2),
        st.fixed_dictionaries({"in": st.lists(scalars, max_size=3)}),
        st.fixed_dictionaries({"exists": st.booleans()}),
    ),
    lambda inner: st.fixed_dictionaries({"not": inner}),
    max_leaves=3,
)
filters = st.recursive(
    st.dictionaries(names, conditions, max_size=2),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"and": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"or": st.lists(inner, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=5,
)


def check_random_filters(examples: int) -> None:
    with tempfile.TemporaryDirectory() as place, Collection.create(Path(place) / "c", n_bits=8) as made:
        made.create_index("a")

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(metadatas, st.lists(filters, min_size=1, max_size=8))
        def check(rows: list[dict[str, Any]], wheres: list[dict[str, Any]]) -> None:
            made.delete(list(made))
            made.add(np.zeros((len(rows), 1), np.uint8), [f"i{i}" for i in range(len(rows))], rows)
            for where in wheres:
                assert found(made, where) == [f"i{i}" for i, row in enumerate(rows) if matches(where, row)], where

        check()


def test_random_filters_on_random_metadata():
    check_random_filters(60)


@pytest.mark.slow
def test_many_random_filters_on_random_metadata():
    check_random_filters(20_000)
