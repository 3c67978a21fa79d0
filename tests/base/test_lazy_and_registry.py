"""Optional packages and registries: errors that carry the remedy."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from hashret._lazy import available, progress, require
from hashret.errors import ConfigError, MissingExtraError, UnknownIdError
from hashret.registry import Registry


def test_a_missing_package_ends_with_the_install_line():
    with pytest.raises(MissingExtraError, match=r"pip install 'hashret\[learn\]'$"):
        require("no_such_package.part", extra="learn")


def test_every_extra_that_a_message_names_is_one():
    root = Path(__file__).resolve().parents[2]
    extras = set(tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    code = "".join(file.read_text() for file in (root / "hashret").rglob("*.py"))
    named = {*re.findall(r'require\([^)]*extra="(\w+)"', code), *re.findall(r"hashret\[(\w+)\]", code)}
    assert {"learn", "report"} <= named <= extras


def test_what_a_package_itself_lacks_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        require("half_installed", extra="learn")


def test_available_imports_nothing():
    assert available("json")
    assert not available("no_such_package")
    assert "antigravity" not in sys.modules
    assert available("antigravity")
    assert "antigravity" not in sys.modules


def test_progress_is_silent_where_nobody_looks(capsys):
    bar = progress(range(3), label="counting")
    assert list(bar) == [0, 1, 2]
    bar.set_postfix(loss=1.0)
    assert capsys.readouterr() == ("", "")


def test_names_are_listed_without_importing():
    registry = Registry("part", {"gone": "no_such_package:Thing", "json": "json:dumps"})
    assert registry.names() == ("gone", "json")
    assert registry.load("json")([1]) == "[1]"


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match="there is no part 'jsn'; did you mean 'json'"):
        Registry("part", {"json": "json:dumps"}).load("jsn")


def test_a_taken_name_is_not_replaced_by_accident():
    registry = Registry("part", {"json": "json:dumps"})
    with pytest.raises(ConfigError, match="replace=True"):
        registry.register("json", "json:loads")
    registry.register("json", "json:loads", replace=True)
    assert registry.load("json")("[1]") == [1]
    with pytest.raises(ConfigError, match="colon"):
        registry.register("other", "json.loads")


def test_an_unknown_id_prints_its_sentence():
    assert str(UnknownIdError("there is no id 'a'")) == "there is no id 'a'"
