"""Figures as a file: the numbers, the command that made them, and where it ran.

Takes plain data, frozen dataclasses and anything with ``to_dict``; knows nothing of what the numbers mean.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from hashret._files import write_whole

PACKAGES = (
    "hashret", "numpy", "scipy", "faiss-cpu", "bitarray", "torch", "torchvision", "timm", "transformers", "pillow",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Python, machine, and the versions of the packages that numbers may depend on, as far as installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": system_name(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": versions,
    }


def system_name() -> str:
    """Such as ``Linux 6.18 x86_64``: of a release only what figures may depend on, not whose build of it ran."""
    release = ".".join(platform.release().split("-")[0].split(".")[:2])
    return f"{platform.system()} {release} {platform.machine()}"


def write_figures(path: str | Path, figures: Mapping[str, Any], *, command: str | None = None) -> Path:
    """Write figures as JSON, with the command and the environment beside them.

    Args:
        path: of the file; replaced whole.
        figures: names to numbers, mappings, results. Values that are not finite become null.
        command: what made them; the command line by default.

    Raises:
        StorageError: the file cannot be written.
    """
    content = {
        "figures": plain(figures),
        "command": command or shlex.join(sys.argv),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment(),
    }
    return write_whole(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it."""
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _processor() -> str:
    """The name of the CPU; the platform module knows it on few systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
