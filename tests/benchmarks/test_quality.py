"""The comparison of methods: every cell is kept, a killed run counts for nothing, and the tables hold what was run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "quality.py"


@pytest.fixture
def features(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 160)
    hidden = rng.normal(size=(3, 8))[labels] + rng.normal(size=(160, 8))
    images, texts = (hidden @ rng.normal(size=(8, d)) for d in (12, 10))
    arrays = {"image": images, "text": texts, "label": labels}
    parts = {f"{name}_train": a[:120] for name, a in arrays.items()} | {f"{n}_test": a[120:] for n, a in arrays.items()}
    np.savez(tmp_path / "labelled.npz", **parts)
    np.savez(tmp_path / "paired.npz", **{name: a for name, a in parts.items() if "label" not in name})
    return tmp_path


def _run(place: Path, name: str, *options: str) -> str:
    command = [sys.executable, str(SCRIPT), str(place / f"{name}.npz"), "--work", str(place), "--out", str(place)]
    options = ("--bits", "8,16", "--methods", "cca-itq,cmssh,cca-float,feature-hasher", "--threads", "1", *options)
    return subprocess.run([*command, *options], capture_output=True, text=True, check=True).stdout


def test_a_rerun_computes_only_what_is_missing(features: Path) -> None:
    first = _run(features, "paired")
    assert "kept" not in first
    cells = sorted((features / "cells" / "paired").glob("*.json"))
    assert [cell.stem for cell in cells] == [
        "cca-float-float-s0", "cca-itq-16-s0", "cca-itq-8-s0", "cmssh-8-16-s0", "feature-hasher-8-16-s0",
    ]  # fmt: skip
    content = json.loads(cells[1].read_text())
    cells[1].write_text(json.dumps(content)[:50])  # half a file
    cells[2].write_text(json.dumps({**json.loads(cells[2].read_text()), "key": "of other data"}))
    lines = _run(features, "paired").splitlines()
    assert sorted(line.split()[1] for line in lines if line.startswith("[") and not line.endswith("kept")) == [
        "cca-itq-16-s0:", "cca-itq-8-s0:",
    ]  # fmt: skip
    again = json.loads(cells[1].read_text())
    assert again["lengths"] == content["lengths"]
    assert again["complete"]


def test_the_page_names_every_place_and_revision_of_its_cells(features: Path) -> None:
    _run(features, "labelled", "--methods", "random,cca-itq")
    kept = sorted((features / "cells").rglob("*.json"))
    content = json.loads(kept[0].read_text())
    content["environment"] |= {"git": None, "device": "another one"}
    kept[0].write_text(json.dumps(content))
    page = _run(features, "labelled", "--methods", "random,cca-itq")
    assert "another one, Python" in page and "unknown" in page


def test_the_tables_show_what_was_measured(features: Path) -> None:
    page = _run(features, "labelled", "--seeds", "0,1")
    cells = json.loads((features / "quality-labelled.json").read_text())["cells"]
    figures = [cell["lengths"]["8"]["codes"] for cell in cells if cell["method"] == "feature-hasher"]
    mean = np.mean([figure[way] for figure in figures for way in ("i2t", "t2i")])
    row = next(line for line in page.splitlines() if line.startswith("| feature-hasher"))
    assert row.split("|")[2].strip() == f"{mean:.3f}"
    assert "- cmssh: Hardly grows with length" in page
    assert (features / "quality-labelled.md").read_text().strip() in page
    assert (features / "quality-labelled-codes.png").stat().st_size > 5000
    assert "<svg" in (features / "quality-labelled.html").read_text()
