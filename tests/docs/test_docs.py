"""The documentation: every code block runs, every command is one, and the site builds.

A block marked ``python`` or ``bash`` is run, page by page, in a directory with real photos and captions; one marked
``console`` is not, but each ``hashret`` command in it must be one that the command line takes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hashret.cli import COMMANDS, main
from hashret.losses import LOSSES
from hashret.training import read_config
from hashret.training.sweep import at, points_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
HOW_TO = sorted((ROOT / "docs" / "how-to").glob("*.md"))
N_TRAIN, N_VAL, N_TEST = 40, 10, 10


def blocks(page):
    """(language, code, line) of each fenced block."""
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [(match[1], match[2], page.read_text()[: match.start()].count("\n") + 2) for match in found]


def commands(page):
    """Every ``hashret`` command of a page, as lists of words."""
    for language, code, _ in blocks(page):
        if language in ("bash", "console"):
            for line in code.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words and "=" in words[0]:
                    words = words[1:]  # a variable set for the command
                if words[:2] == ["docker", "run"] and "hashret" in words:
                    words = words[words.index("hashret") :]
                if words and words[0] == "hashret":
                    yield words[1:]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_every_command_is_one(page):
    found = list(commands(page))
    assert found or page.name != "README.md"
    for name, *rest in found:
        assert name in COMMANDS, name
        parser = argparse.ArgumentParser()
        importlib.import_module(f"hashret.cli.{name}").add_arguments(parser)
        args = parser.parse_args(rest)
        if name == "train" and not args.config.endswith(".yaml"):
            resolved = read_config(args.config, args.set)
            for point in points_of(args.sweep) if args.sweep else [()]:
                at(resolved, point)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_table_of_losses_is_complete():
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    table = page[page.index("## Losses") : page.index("## Keys")]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == LOSSES.names()


def test_the_example_of_a_configuration_is_one(tmp_path):
    found = blocks(ROOT / "docs" / "reference" / "configuration.md")
    (text,) = (code for language, code, _ in found if language == "yaml")
    (tmp_path / "mine.yaml").write_text(text)
    assert read_config(tmp_path / "mine.yaml").model.code_lengths == ()


@pytest.fixture(scope="module")
def workspace(shared_data, tmp_path_factory):
    """Sixty photos of Flickr8k with their captions, and the tutorial run on them."""
    place = tmp_path_factory.mktemp("tutorial")
    source = shared_data / "flickr8k"
    lines = [json.loads(line) for line in (source / "captions.jsonl").read_text().splitlines()]
    taken = []
    for split, count in (("train", N_TRAIN), ("val", N_VAL), ("test", N_TEST)):
        taken += [line for line in lines if line["split"] == split][:count]
    (place / "images").mkdir()
    (place / "photos" / "trips").mkdir(parents=True)
    for number, line in enumerate(taken):
        shutil.copy(source / line["image"], place / "images")
        if number < 12:
            shutil.copy(source / line["image"], place / "photos" / ("trips" if number % 2 else "."))
    (place / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in taken))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HASHRET_CACHE", str(place / "cache"))
        patch.setenv("HASHRET_MODEL", "run/model")
        run_page(ROOT / "docs" / "tutorial.md", place)
        yield place


def run_page(page, place):
    """Run the blocks of a page in order, in one namespace and one directory."""
    before, registered = Path.cwd(), dict(LOSSES.entries)
    sys.modules["page"] = type(sys)("page")
    namespace = sys.modules["page"].__dict__  # so that a class of a page can be registered by name
    os.chdir(place)
    try:
        for language, code, line in blocks(page):
            if language == "bash":
                for command in code.replace("\\\n", " ").splitlines():
                    words = shlex.split(command, comments=True)
                    if words:
                        assert words[0] == "hashret", f"{page.name}, line {line}: {command}"
                        assert main(words[1:]) == 0, f"{page.name}, line {line}: {command}"
            elif language == "python":
                exec(compile("\n" * (line - 1) + code, str(page), "exec"), namespace)
    finally:
        os.chdir(before)
        del sys.modules["page"]
        LOSSES._entries = registered  # what a page registers goes with it


def test_the_tutorial_runs(workspace):
    assert {"run", "captioned.hashret", "photos.hashret"} <= {path.name for path in workspace.iterdir()}


NEEDS = {
    "without-torch": ("onnxruntime", "onnx", "tokenizers"),
    "programs": ("langchain_core", "sklearn"),
}


SLOW = ("without-torch", "captions", "embeddings")  # each trains or exports a model


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page.stem in SLOW else (), id=page.stem) for page in HOW_TO],
)
def test_a_how_to_page_runs(workspace, page):
    for module in NEEDS.get(page.stem, ()):
        pytest.importorskip(module, reason=f"docs/how-to/{page.name} needs {module}")
    if page.stem == "embeddings" and not (workspace / "text_features.npy").exists():
        from hashret import CrossModalHasher
        from hashret.data import open_dataset

        model = CrossModalHasher.load(workspace / "run" / "model")
        dataset = open_dataset(workspace / "captions.jsonl")
        for name, items in (("image", [r.image for r in dataset]), ("text", [r.captions[0] for r in dataset])):
            np.save(workspace / f"{name}_features.npy", model.encode_floats(name, items, n_bits=64))
    run_page(page, workspace)


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    for module in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(module, reason="pip install 'hashret[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    reference = (tmp_path / "site" / "reference" / "search" / "index.html").read_text()
    assert "create_index" in reference
    assert "photos.hashret/" in (tmp_path / "site" / "format" / "index.html").read_text()
