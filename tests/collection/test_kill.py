"""Writers die by SIGKILL at random moments; see kill_writer.py, which does it any number of times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_writer.py")


def kill(kills: int, seed: int, out: Path) -> str:
    command = [sys.executable, str(SCRIPT), "--kills", str(kills), "--seed", str(seed), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_acknowledged_is_lost_and_nothing_else_is_seen(tmp_path):
    assert "30 kills, 0 failures" in kill(30, 1, tmp_path)


@pytest.mark.slow
def test_the_same_a_thousand_times(tmp_path):
    assert "1000 kills, 0 failures" in kill(1000, 2, tmp_path)
