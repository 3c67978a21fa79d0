"""Protocols and the test-once guard: files that can be trusted, and a refusal that holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hashret.errors import ConfigError, CorruptError, DataError, InputError
from hashret.evaluation.figures import environment, write_figures
from hashret.evaluation.once import TestOnce
from hashret.evaluation.protocols import Protocol, draw_protocol

IDS = [f"item-{n:03d}" for n in range(100)]


def _draw(**options: object) -> Protocol:
    return draw_protocol(IDS, name="toy", dataset="toy", n_query=20, n_train=30, n_validation=10, **options)  # type: ignore[arg-type]


def test_a_drawn_protocol_is_that_of_the_field() -> None:
    protocol = _draw(seed=7)
    assert not set(protocol.query) & set(protocol.database)
    assert set(protocol.train) | set(protocol.validation) <= set(protocol.database)
    assert len(protocol.searched) == 80
    assert len(protocol.without_train().searched) == 50
    assert (
        _draw(seed=7)
        == protocol
        == draw_protocol(IDS[::-1], name="toy", dataset="toy", n_query=20, n_train=30, n_validation=10, seed=7)
    )
    assert len({_draw(seed=seed).checksum for seed in range(5)} | {protocol.without_train().checksum}) == 6


def test_queries_that_look_for_their_own_pair_are_searched_themselves() -> None:
    protocol = _draw(relevance="instance")
    assert protocol.searched == protocol.query and len(protocol.query) == 20
    assert not set(protocol.query) & set(protocol.train + protocol.validation)


def test_rows_follow_the_ids() -> None:
    rows = _draw(exclude_train=True).searching(IDS)
    assert [IDS[row] for row in rows.query] == list(_draw().query)
    assert [IDS[row] for row in rows.database] == list(_draw().without_train().searched)
    assert rows.query.dtype == rows.database.dtype == np.int64
    with pytest.raises(DataError, match="not in the data set"):
        _draw().searching(IDS[:50])


def test_a_saved_protocol_comes_back_and_shows_tampering(tmp_path: Path) -> None:
    path = tmp_path / "splits" / "toy.json"
    _draw().save(path)
    assert Protocol.load(path) == _draw()
    content = json.loads(path.read_text())
    content["query"][0] = content["query"][0].replace("item", "other")
    path.write_text(json.dumps(content))
    with pytest.raises(CorruptError, match="changed after it was saved"):
        Protocol.load(path)
    content["querry"] = []
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="did you mean 'query'"):
        Protocol.load(path)
    path.write_text("[]")
    with pytest.raises(DataError, match="no checksum"):
        Protocol.load(path)
    with pytest.raises(DataError, match="there is no protocol"):
        Protocol.load(tmp_path / "none.json")


def test_leaks_are_refused() -> None:
    with pytest.raises(InputError, match="both query and train"):
        Protocol("x", "x", "instance", query=("a",), database=("a",), train=("a",))
    with pytest.raises(InputError, match="both query and database"):
        Protocol("x", "x", "labels", query=("a",), database=("a", "b"), train=())
    assert Protocol("x", "x", "instance", query=("a",), database=("a",), train=("b",)).searched == ("a",)
    with pytest.raises(InputError, match="asks for pairs, and its database lacks some of the queries"):
        Protocol("x", "x", "instance", query=("a",), database=("b",), train=())
    with pytest.raises(InputError, match="repeat"):
        Protocol("x", "x", "labels", query=("a", "a"), database=("b",), train=())
    with pytest.raises(InputError, match="cannot be drawn"):
        draw_protocol(IDS, name="x", dataset="x", n_query=90, n_train=20)


def test_the_test_split_is_read_once(tmp_path: Path) -> None:
    guard = TestOnce(tmp_path / "run")
    assert guard.readings() == ()
    guard.claim(checksum="abc", command="first look")
    with pytest.raises(InputError, match="'first look'"):
        guard.claim(checksum="abc")
    with pytest.raises(InputError):
        TestOnce(tmp_path / "run").claim(checksum="another")
    guard.claim(checksum="abc", again=True, command="second look")
    assert [reading.command for reading in guard.readings()] == ["first look", "second look"]
    guard.path.write_text("{")
    with pytest.raises(CorruptError, match="may have been read"):
        guard.claim(checksum="abc")


def test_of_many_processes_one_reads(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from hashret.evaluation.once import TestOnce; "
        "TestOnce(Path(sys.argv[1])).claim(checksum='x')"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE) for _ in range(4)]
    errors = [child.communicate()[1].decode() for child in children]
    assert [child.returncode for child in children].count(0) == 1
    assert sum("InputError" in error or "CorruptError" in error for error in errors) == 3


def test_figures_are_valid_json_with_their_origin(tmp_path: Path) -> None:
    from hashret.evaluation import evaluate_codes

    codes = np.arange(4, dtype=np.uint8)[:, None]
    result = evaluate_codes(codes, codes, [0, 1, 2, 3], n_bits=8)
    path = write_figures(
        tmp_path / "figures.json",
        {"test": result, "nothing": float("nan"), "array": np.float32([1, 2]), "path": tmp_path, "pair": (1, None)},
        command="hashret eval model",
    )
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["figures"]["test"]["rSum"] == 600
    assert content["figures"]["nothing"] is None
    assert content["figures"]["array"] == [1, 2]
    assert content["command"] == "hashret eval model"
    assert content["environment"]["packages"]["numpy"] == np.__version__
    assert environment()["cores"] >= 1
