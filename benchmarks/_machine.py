"""Where a benchmark ran and with what, and its state on disk: done cells are kept, and a killed run is no result."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import hashret
from hashret._files import write_whole
from hashret.evaluation.figures import system_name

_PLACES = ("--work", "--out", "--cache", "--runs")


def machine(*packages: str) -> dict[str, Any]:
    """Processor, cores, system, and the versions of Python, hashret and ``packages``."""
    processor = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = lines[0] if lines else processor
    versions = {"python": platform.python_version(), "hashret": hashret.__version__}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    facts = {"processor": processor, "cores": os.cpu_count(), "system": system_name()}
    if hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        facts["scheduling"] = "real time, ahead of what else runs"  # as by chrt -f, on a machine that is busy
    return {**facts, **versions}


def command_given() -> str:
    """The command line, without the folders of this machine and the options that say where files lie."""
    shown = ["python", f"benchmarks/{Path(sys.argv[0]).name}"]
    rest = iter(sys.argv[1:])
    for argument in rest:
        name, equals, _ = argument.partition("=")
        if name in _PLACES:
            if not equals:
                next(rest, None)
        else:
            shown.append(argument if argument.startswith("-") or "/" not in argument else Path(argument).name)
    return shlex.join(shown)


def name_of_data(path: str | Path) -> str:
    """What tables call a data set: by its file, or by its folder where the file has a name that all have."""
    path = Path(path)
    return path.resolve().parent.name if path.stem in ("captions", "dataset") else path.stem


def load_state(path: Path, *, key: dict[str, Any]) -> dict[str, Any]:
    """What an earlier run with the same ``key`` left, or an empty state."""
    if path.exists():
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if state.get("key") == key:
            return state
    return {"key": key, "complete": False, "cells": {}}


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write the state, at once or not at all."""
    write_whole(path, json.dumps(state, indent=1) + "\n")
