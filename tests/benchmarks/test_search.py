"""The benchmark of searching: what it keeps, and what it calls complete."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "search.py"
SMALL = ("--n", "2000", "--bits", "64", "--k", "10", "--threads", "1", "--batch", "1", "--kinds", "uniform")


def run(out: Path, *options: str) -> tuple[str, dict]:
    command = [sys.executable, str(SCRIPT), *SMALL, "--no-approximate", "--no-others", "--seconds", "0.05"]
    done = subprocess.run([*command, "--out", str(out), *options], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((out / "search.json").read_text())


def test_a_cell_is_kept_until_the_machine_changes(tmp_path: Path) -> None:
    _, first = run(tmp_path)
    shown, second = run(tmp_path)
    assert second["cells"] == first["cells"] and "* complete: no, 0 of 324 cells are there" in shown
    first["key"]["machine"]["processor"] = "another"
    first["cells"]["of another machine"] = next(iter(first["cells"].values()))
    (tmp_path / "search.json").write_text(json.dumps(first))
    _, third = run(tmp_path)
    assert third["cells"].keys() == second["cells"].keys() and third["cells"] != second["cells"]
    assert third["key"] == second["key"]


def test_codes_of_a_model_are_timed_like_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sides = {"train": rng.normal(size=(200, 8)), "test": rng.normal(size=(1000, 8))}
    arrays = {f"{side}_{part}": values for part, values in sides.items() for side in ("image", "text")}
    np.savez(tmp_path / "features.npz", **arrays)
    codes = tmp_path / "trained.npy"
    making = [sys.executable, str(SCRIPT.with_name("trained_codes.py")), "--data", str(tmp_path / "features.npz")]
    made = subprocess.run(
        [*making, "--out", str(codes), "--n", "3000", "--passes", "1"], capture_output=True, text=True, timeout=300
    )
    assert made.returncode == 0, made.stderr
    assert np.load(codes).shape == (4000, 32) and len(np.unique(np.load(codes), axis=0)) > 1000
    shown, state = run(tmp_path, "--kinds", str(codes), "--k", "10", "100", "--bits", "128")
    assert {cell["data"] for cell in state["cells"].values()} == {"trained"} and len(state["cells"]) == 2
    assert "| native | 100 | - | " in shown and "x (trained 2,000, batch 1, threads 1" in shown
    few = subprocess.run(
        [sys.executable, str(SCRIPT), "--kinds", str(codes), "--n", "3001", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert few.returncode and "3,001 codes of 64 bits and 1,000 queries are needed" in few.stderr


def test_data_that_is_not_there_is_refused_before_anything_is_timed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for name in ("codes.npy", "other/codes.npy"):
        np.save(tmp_path / name, np.zeros((2000, 8), np.uint8))
    (tmp_path / "foreign.npy").write_bytes(b"no array")
    (tmp_path / "empty.npy").touch()
    for kinds, said in (
        (("clusterd",), "'clusterd' is neither one of clustered, uniform nor an .npy file of codes"),
        (("uniform", "missing.npy"), "missing.npy cannot be read as an array of codes"),
        (("foreign.npy",), "foreign.npy cannot be read as an array of codes"),
        (("empty.npy",), "empty.npy cannot be read as an array of codes"),
        (("codes.npy", "other/codes.npy"), "needs different ones"),
    ):
        command = [sys.executable, str(SCRIPT), "--out", "out", "--kinds", *kinds]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()


def test_missing_data_are_one_sentence(tmp_path: Path) -> None:
    making = [sys.executable, str(SCRIPT.with_name("trained_codes.py")), "--data", "nothing.jsonl", "--out", "x.npy"]
    done = subprocess.run(making, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("trained_codes.py: there is no data 'nothing.jsonl'")
    assert len(done.stderr.splitlines()) == 1 and not list(tmp_path.iterdir())
