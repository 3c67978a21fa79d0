"""The comparison of systems: cells stand in their rows, and a claim compares one seed and one length with itself."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from hashret.data import Dataset, Record
from hashret.losses import Dims, build_loss
from hashret.training.features import identity_of

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType, ModuleType]:
    """``systems`` with its two parts; they lie beside each other and in no package."""
    monkeypatch.syspath_prepend(FOLDER)
    for name in ("systems", "_systems_cells", "_systems_tables"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import _systems_cells
    import _systems_tables
    import systems

    return systems, _systems_cells, _systems_tables


def content(lengths: dict[int, float], **more: Any) -> dict[str, Any]:
    """What a finished cell holds, with one number (its rSum) at each length."""
    way = {"R@1": 1.0, "R@5": 2.0, "R@10": 3.0}
    return {
        "codes": {str(n): {"i2t": way, "t2i": way, "rSum": r_sum} for n, r_sum in lengths.items()},
        "relaxed": {str(n): 0.0 for n in lengths},
        "float": {str(n): 0.0 for n in lengths},
        "bytes": {str(n): n // 8 for n in lengths},
        "seconds": {"features": 800.0, "training": 1000.0},
        "noise": {},
        "probe": 0.5,
        **more,
    }


def queries(runs: Path, cell: Any, lengths: dict[Any, float]) -> None:
    """Its values a query: every picture and every caption adds half of the number."""
    owner = np.array([0, 0, 0, 1, 2, 2])
    values = {f"{n}/{way}": np.full(size, r / 2) for n, r in lengths.items() for way, size in (("i2t", 3), ("t2i", 6))}
    (runs / cell.name).mkdir(parents=True)
    np.savez(runs / cell.name / "queries.npz", owner=owner, **values)


def test_units_weigh_pictures_and_captions_so_that_their_mean_is_r_sum(modules: Any) -> None:
    rng = np.random.default_rng(0)
    table = {"owner": np.array([0, 0, 0, 1, 2, 2]), "8/i2t": rng.random(3), "8/t2i": rng.random(6)}
    units = modules[2].units_of(table, "8")
    assert units.shape == (3,)
    assert units.mean() == pytest.approx(table["8/i2t"].mean() + table["8/t2i"].mean())


def test_lengths_and_seeds_do_not_meet_in_a_claim(modules: Any, tmp_path: Path) -> None:
    systems, parts, tables = modules
    without = ("stages.heads.losses.distance.weight=0",)
    figures = {
        parts.Cell("cmhr_drn", 256, 0): {256: 100.0},
        parts.Cell("cmhr_drn", 256, 0, without): {256: 90.0},
        parts.Cell("cmhr_drn", 256, 1): {256: 50.0},
        parts.Cell("cmhr_drn", 64, 0): {64: 10.0},
        parts.Cell("cmhr_drn", 1024, 0): {1024: 200.0},
        parts.Cell("cmhr_drn", 256, 0, systems.FROZEN["cmhr_drn"]): {256: 120.0},
    }
    for cell, lengths in figures.items():
        queries(tmp_path, cell, lengths)
    cells = {cell: content(lengths) for cell, lengths in figures.items()}
    rows = list(systems._rows(["cmhr_drn"]))
    tables.write_tables(
        tmp_path / "out.json", cells, tmp_path, data="tiny", rows=rows, n_bits=256, seed=0, scale=1.0, missing=0
    )
    found = json.loads((tmp_path / "out.json").read_text())["figures"]
    (claim,) = found["claims"]
    assert (claim["with"], claim["without"], claim["difference"]) == (100.0, 90.0, 10.0)
    lines = {(line["system"], line["n_bits"]): line["rSum"] for line in found["systems"]}
    assert lines == {
        ("cmhr_drn", 256): [120.0],
        ("cmhr_drn, own pair", 64): [10.0],
        ("cmhr_drn, own pair", 256): [100.0, 50.0],
        ("cmhr_drn, own pair", 1024): [200.0],
    }
    page = (tmp_path / "out.md").read_text()
    assert "| 100.0 | 90.0 | +10.0 [+" in page and "| 75.0 ± 35.4 |" in page


def test_a_nested_system_is_compared_at_its_prefix(modules: Any, tmp_path: Path) -> None:
    systems, parts, tables = modules
    figures = {
        parts.Cell("hashret", 256, 0): {64: 60.0, 256: 100.0, 1024: 300.0},
        parts.Cell("hashret", 256, 0, ("stages.heads.mix=0",)): {64: 70.0, 256: 130.0, 1024: 200.0},
        parts.Cell("hashret", 64, 0, systems.ALONE["hashret"]): {64: 66.0},
    }
    for cell, lengths in figures.items():
        queries(tmp_path, cell, lengths)
    cells = {cell: content(lengths) for cell, lengths in figures.items()}
    rows = list(systems._rows(["hashret"]))
    tables.write_tables(
        tmp_path / "out.json", cells, tmp_path, data="tiny", rows=rows, n_bits=256, seed=0, scale=1.0, missing=0
    )
    found = json.loads((tmp_path / "out.json").read_text())["figures"]
    assert [claim["difference"] for claim in found["claims"]] == [-30.0]
    assert [(line["system"], line["n_bits"]) for line in found["systems"]] == [
        ("hashret, 288 pixels", 64), ("hashret, 288 pixels", 256), ("hashret, 288 pixels", 1024),
        ("hashret, 288 pixels, one length", 64),
    ]  # fmt: skip


def test_a_re_ranker_is_compared_with_what_it_starts_from(modules: Any, tmp_path: Path) -> None:
    systems, parts, tables = modules
    cell = parts.Cell("mvsen", 256, 0)
    queries(tmp_path, cell, {"256": 90.0, "before": 90.0, "floats": 120.0, "after": 120.0})
    cells = {cell: content({256: 90.0}, rerank={"k": 20, "before": 90.0, "floats": 120.0, "after": 120.0})}
    method = {"method": "cca", "lengths": {"64": {"codes": {"rSum": 40.0}}, "256": {"codes": {"rSum": 50.0}}}}
    (tmp_path / "quality-tiny.json").write_text(json.dumps({"cells": [method]}), encoding="utf-8")
    rows = list(systems._rows(["mvsen"]))
    tables.write_tables(
        tmp_path / "out.json", cells, tmp_path, data="tiny", rows=rows, n_bits=256, seed=0, scale=1.0, missing=7
    )
    found = json.loads((tmp_path / "out.json").read_text())["figures"]
    (claim,) = (claim for claim in found["claims"] if claim["measure"] == "rerank")
    assert (claim["with"], claim["without"], claim["codes"]) == (120.0, 120.0, 90.0)
    page = (tmp_path / "out.md").read_text()
    assert "the order by codes gives 90.0 | 120.0 | 120.0 | +0.0 [+0.0, +0.0] | not shown; tried: " in page
    assert "Features and training of the 1 runs took 0.5 hours" in page and "7 of 8 runs are not finished" in page
    assert "| cca | 40.0 | 50.0 |" in page


def test_every_cell_has_a_configuration_whose_losses_fit_its_lengths(modules: Any) -> None:
    systems, parts, _ = modules
    wanted = Namespace(
        systems=list(systems.SYSTEMS), seeds=[0], scale=1.0, no_claims=False, quick=False, one_seed=False
    )
    cells = list(dict.fromkeys(systems._cells(wanted)))
    assert len({cell.name for cell in cells}) == len(cells) > 40
    size = parts.read_config("hashret").model.towers["image"].encoder.image_size
    assert [row.name for row in systems._rows(["hashret"])][1] == f"hashret, {size} pixels"
    widths = {"image": 8, "text": 8}
    for cell in cells:
        config = cell.config()
        assert cell.n_bits in (config.model.code_lengths or (config.model.n_bits,))
        dims = Dims(config.model.n_bits, config.model.code_lengths, 4, widths, widths)
        for stage in config.stages:
            for loss in stage.losses.values():
                build_loss(loss["kind"], {k: v for k, v in loss.items() if k not in ("kind", "weight")}, dims=dims)


def test_figures_of_another_data_set_are_not_taken(modules: Any, tmp_path: Path) -> None:
    parts = modules[1]
    cell = parts.Cell("hashret", 256, 0)
    (tmp_path / cell.name).mkdir()
    one, two = (Dataset("pairs", (Record("1", (words,), None, "train"),)) for words in ("a dog", "a cat"))
    mark = tmp_path / cell.name / parts.MARK
    assert parts.finished(mark.parent, one) is None
    mark.write_text(json.dumps({"data": identity_of(one)}))
    assert parts.compute(cell, one, tmp_path) == {"data": identity_of(one)}
    with pytest.raises(SystemExit, match="figures of another data set"):
        parts.compute(cell, two, tmp_path)
