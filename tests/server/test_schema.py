"""The OpenAPI description is true: schemathesis asks what it allows and what it forbids, and compares the answers.

That every request which fits the description is accepted is not asked for: whether a code has as many bytes as the
collection's, or a text is a filter, no description can say.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOKEN = "open-sesame"


@pytest.fixture(scope="module")
def described(world, start, tmp_path_factory):
    path = tmp_path_factory.mktemp("schema") / "own.hashret"
    shutil.copytree(world.collection, path)
    with start(path) as served:
        yield served.ready().address


@pytest.mark.slow
def test_answers_are_as_described(described, tmp_path):
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        pytest.skip("schemathesis is not installed: pip install 'hashret[dev]'")
    command = [
        program, "run", f"{described}openapi.json", "-H", f"Authorization: Bearer {TOKEN}",
        "--max-examples", "25", "--seed", "1", "--exclude-checks", "positive_data_acceptance",
        "--continue-on-failure", "--request-timeout", "30",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0, "\n".join(line[:300] for line in done.stdout.splitlines()[-150:])
