"""Configurations: plain data to dataclasses and back, overrides, and the sentences of their errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashret.config import build, override, plain, read_yaml
from hashret.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    kind: Literal["slow", "fast"] = "slow"


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    sizes: tuple[int, ...] = ()
    pair: tuple[float, float] = (0.0, 1.0)
    named: dict[str, Inner] = field(default_factory=dict)
    limit: int | None = None
    step: float | tuple[float, float] = 1.0
    on: bool = True


outers = st.builds(
    Outer,
    name=st.text(),
    inner=st.builds(Inner, rate=st.floats(allow_nan=False), kind=st.sampled_from(["slow", "fast"])),
    sizes=st.lists(st.integers()).map(tuple),
    named=st.dictionaries(st.text(), st.builds(Inner), max_size=3),
    limit=st.none() | st.integers(),
    step=st.floats(allow_nan=False) | st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)),
    on=st.booleans(),
)


@given(outers)
def test_plain_data_builds_the_same_again(outer):
    assert build(Outer, plain(outer)) == outer


def test_a_number_without_a_dot_is_still_a_number():
    assert build(Inner, {"rate": "1e-4"}).rate == 1e-4  # YAML 1.1 reads 1e-4 as a string
    with pytest.raises(ConfigError, match="must be a number"):
        build(Inner, {"rate": 10**400})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"nam": "x"}, "no key 'nam'; did you mean 'name'"),
        ({}, "needs the key 'name'"),
        ({"name": 3}, "name must be str, not 3"),
        ({"name": "x", "inner": {"rat": 1}}, "inner has no key 'rat'; did you mean 'rate'"),
        ({"name": "x", "inner": {"kind": "fats"}}, "inner.kind cannot be 'fats'; did you mean 'fast'"),
        ({"name": "x", "inner": 3}, "inner must be a mapping"),
        ({"name": "x", "sizes": 3}, "sizes must be a list"),
        ({"name": "x", "sizes": [1, "a"]}, r"sizes\[1\] must be int"),
        ({"name": "x", "pair": [1]}, "must have 2 entries"),
        ({"name": "x", "named": [1]}, "named must be a mapping"),
        ({"name": "x", "limit": True}, "limit must be int"),
        ({"name": "x", "on": 1}, "on must be bool"),
        (3, "must be a mapping"),
    ],
)
def test_what_does_not_fit_is_told(content, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build(Outer, content)


def test_overrides_walk_mappings_and_named_lists():
    content = {"stages": [{"name": "a", "lr": 1.0}, {"name": "b", "lr": 1.0}], "model": {"n_bits": 8}}
    changed = override(content, ["stages.b.lr=1e-3", "stages.0.lr=2", "model.n_bits=16", "seed=3", "new.part=[1, 2]"])
    assert changed["stages"][0]["lr"] == 2
    assert float(changed["stages"][1]["lr"]) == 1e-3
    assert (changed["model"]["n_bits"], changed["seed"], changed["new"]) == (16, 3, {"part": [1, 2]})
    assert content["model"]["n_bits"] == 8


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("seed", "KEY=VALUE"),
        ("stages.c.lr=1", "no entry 'c'"),
        ("seed.deep=1", "plain value"),
        ("seed.deep.er=1", "nothing lies below"),
        ("seed=[1", "not valid YAML"),
        ("seed=2020-13-45", "not valid YAML.*month"),
        ("seed=!!int abc", "not valid YAML.*abc"),
        ("seed=!!bool abc", "not valid YAML"),
        ("seed=!!timestamp abc", "not valid YAML"),
        ("seed=" + "[" * 5000, "not valid YAML"),
        ("stages.².lr=1", "no entry '²'"),
    ],
)
def test_overrides_that_lead_nowhere_are_told(setting, sentence):
    with pytest.raises(ConfigError, match=sentence):
        override({"seed": 0, "stages": [{"name": "a"}]}, [setting])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a: [", "not valid YAML"),
        (b"a: 2020-13-45", "not valid YAML.*month"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "not valid YAML"),
        (b"a: {b: 1, c: 2, b: 3}", "the key 'b' comes twice"),
        (b"a: 1\n'a': 2", "the key 'a' comes twice"),
        (b"- 1", "must hold a mapping"),
        (b"\xff\xfe\x00", "cannot be read|not valid"),
    ],
)
def test_files_that_hold_no_configuration_are_told(tmp_path, content, sentence):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        read_yaml(path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ConfigError, match="there is no configuration"):
        read_yaml(tmp_path / "c.yaml")


def test_merged_keys_may_be_written_over(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: &b\n  - &c {<<: *a, x: 3}\nd: {<<: *c, y: 4}\n")
    assert read_yaml(path) == {"a": {"x": 1, "y": 2}, "b": [{"x": 3, "y": 2}], "d": {"x": 3, "y": 4}}
    with pytest.raises(ConfigError, match="comes twice"):
        override({}, ["a={b: 1, b: 2}"])
