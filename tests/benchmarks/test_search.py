"""The benchmark of searching: what it keeps, and what it calls complete."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
    assert second["cells"] == first["cells"] and "* complete: no, 0 of 216 cells are there" in shown
    first["key"]["machine"]["processor"] = "another"
    first["cells"]["of another machine"] = next(iter(first["cells"].values()))
    (tmp_path / "search.json").write_text(json.dumps(first))
    _, third = run(tmp_path)
    assert third["cells"].keys() == second["cells"].keys() and third["cells"] != second["cells"]
    assert third["key"] == second["key"]
