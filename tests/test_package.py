"""The package as a whole: what importing it costs, and what it promises."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hashret

ROOT = Path(hashret.__file__).parent

OUTSIDE_THE_STANDARD_LIBRARY = """
import sys
before = set(sys.modules)
import hashret
dir(hashret)
loaded = {name.split(".")[0] for name in set(sys.modules) - before}
print(*sorted(loaded - set(sys.stdlib_module_names) - {"hashret"}))
"""

SEARCH = """
import sys
import hashret
with hashret.Collection.open(sys.argv[1]) as collection:
    code = collection.codes([1])
    assert collection.search(code, 3).ids[0, 0] == 1
engine = hashret.Engine.open(sys.argv[1])
assert engine.search(id=1, k=1).ids[0, 0] == 1
print(*sorted({"torch", "transformers", "timm", "torchvision", "PIL", "yaml", "matplotlib"} & set(sys.modules)))
"""

WITHOUT = """
import importlib, os, sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
import hashret
from hashret.cli import main
from hashret.errors import MissingExtraError
os.environ.pop("HASHRET_MODEL", None)
"""

COMMANDS = """
model, photos = sys.argv[2:]
os.environ["HASHRET_CACHE"] = photos
for command in (
    ["demo", "--out", photos + "/demo"], ["index", photos], ["index", photos, "--model", model],
    ["train", "emoji", "--data", photos, "--out", photos + "/run"], ["export", model],
    ["encode", model, "--data", photos, "--out", photos + "/codes.npy"],
    ["eval", model, "--data", photos, "--split", "val"],
):
    assert main(command) == 2
for name in ("FeatureHasher", "CrossModalHasher"):
    try:
        getattr(hashret, name)
    except MissingExtraError as error:
        print(error, file=sys.stderr)
"""

IMPORTS = """
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
    except MissingExtraError as error:
        print(error)
"""


def fresh(code: str, *arguments: object) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_import_loads_the_standard_library_only():
    assert fresh(OUTSIDE_THE_STANDARD_LIBRARY) == ""


def test_opening_and_searching_loads_no_torch(tmp_path):
    import numpy as np

    codes = np.random.default_rng(0).integers(0, 256, (50, 16), dtype=np.uint8)
    with hashret.Collection.create(tmp_path / "c.hashret", n_bits=128) as collection:
        collection.add(codes, ids=list(range(50)))
    assert fresh(SEARCH, tmp_path / "c.hashret") == ""


def test_without_torch_everything_that_learns_says_what_to_install(world, tmp_path):
    (tmp_path / "a.png").touch()
    command = [sys.executable, "-c", WITHOUT + COMMANDS, "torch", str(world.model), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    told = done.stderr.splitlines()
    assert len(told) == 9, told
    for line in told:
        assert re.search(r"pip install 'hashret\[(learn|demo|export)\]'$", line), line
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_other_packages_that_are_missing_are_named():
    modules = ("hashret.training", "hashret.encoders.image", "hashret.server")
    told = fresh(WITHOUT + IMPORTS, "scipy,torchvision,httptools", *modules).splitlines()
    for line, package, extra in zip(told, ("scipy", "torchvision", "httptools"), ("learn", "learn", "server")):
        assert f"'{package}', which is not installed: pip install 'hashret[{extra}]'" in line
    assert len(told) == 3


@pytest.mark.parametrize("name", hashret.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(hashret, name).__doc__


def test_public_names_are_sorted_and_listed():
    assert list(hashret.__all__) == sorted(hashret.__all__)
    assert set(hashret.__all__) <= set(dir(hashret))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="hashret"):
        hashret.nothing  # noqa: B018


def test_types_are_shipped():
    assert (ROOT / "py.typed").exists()


def test_every_registered_part_can_be_loaded():
    from hashret.encoders import KINDS
    from hashret.losses import LOSSES
    from hashret.model.adapters import ADAPTERS
    from hashret.model.heads import HEADS
    from hashret.model.poolers import POOLERS
    from hashret.model.rerankers import RERANKERS

    learning = (LOSSES, HEADS, POOLERS, RERANKERS)
    for registry in (KINDS, ADAPTERS, *learning):
        for name in registry.names():
            said = registry.load(name).__doc__
            assert said and ("*Source:*" in said or registry not in learning), f"{registry.kind} {name}"


@pytest.mark.parametrize("path", sorted((ROOT.parent / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_is_valid(path):
    from hashret.training import read_config

    assert read_config(path).name == path.stem


def test_no_code_knows_a_system_by_its_name():
    """A system is its configuration alone: nothing else may happen because a run is called so."""
    systems = {path.stem for path in (ROOT.parent / "configs").glob("*.yaml")}
    also = {"hashret", "emoji"}  # names of the package and of a data set too: they may be said, but not compared
    assert len(systems) > 9 and also < systems
    quoted = re.compile(rf"""["']({"|".join(systems)})["']""")
    for path in ROOT.rglob("*.py"):
        if not quoted.search(text := path.read_text(encoding="utf-8")):
            continue
        nodes = list(ast.walk(ast.parse(text)))
        compared = [part for node in nodes if isinstance(node, ast.Compare | ast.MatchValue) for part in ast.walk(node)]
        for among, forbidden in ((nodes, systems - also), (compared, also)):
            said = {str(node.value) for node in among if isinstance(node, ast.Constant)} & forbidden
            assert not said, f"{path} names {said}: let the configuration say what is to happen"
