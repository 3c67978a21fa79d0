"""``hashret info``: what a path is, in a few lines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hashret.cli._common import print_json, printable
from hashret.errors import CorruptError, HashretError, InputError

SUMMARY = "Describe a model, its ONNX export, a collection, a training run, or a file of codes."
EXAMPLES = ("hashret info photos.hashret", "hashret info runs/photos/model", "hashret info codes.npy --json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", type=Path)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> None:
    """Find out and print."""
    content = describe(args.path)
    if args.json:
        print_json(content)
        return
    width = max(map(len, content))
    for key, value in content.items():
        print(f"{key:<{width}}  {printable(value)}")


def describe(path: Path) -> dict[str, Any]:
    """The facts of a path, by name.

    Raises:
        InputError: there is nothing, or nothing of hashret's.
        CorruptError: a file of it is damaged.
    """
    if not path.exists():
        raise InputError(f"there is nothing at {str(path)!r}; give a model, a collection, a run or a .npy file")
    if (path / "model.json").is_file():
        return {"kind": "model", **_sound(_model, path)}
    if (path / "export.json").is_file():
        return {"kind": "ONNX export", **_export(path)}
    if (path / "figures.json").is_file() or (path / "checkpoints").is_dir():
        return {"kind": "training run", **_sound(_run, path)}
    if path.suffix == ".npy":
        return {"kind": "codes", **_codes(path)}
    if path.is_dir():
        return {"kind": "collection", **_collection(path)}
    raise InputError(
        f"{str(path)!r} is no model, export, collection, run or .npy file of codes; "
        "give a model, a collection, a run or a .npy file"
    )


def _sound(facts: Callable[[Path], dict[str, Any]], path: Path) -> dict[str, Any]:
    """The facts that a directory's JSON gives, or a sentence where it lacks some."""
    try:
        return facts(path)
    except HashretError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise CorruptError(
            f"what {str(path)!r} says of itself is incomplete or damaged ({reason}); make it or fetch it again"
        ) from error


def _model(path: Path) -> dict[str, Any]:
    facts = _json(path / "model.json")
    config = facts["config"]
    return {
        "n_bits": config["n_bits"],
        "code lengths": ", ".join(map(str, config["code_lengths"])) or "one",
        **{f"{modality} encoder": tower["encoder"]["name"] for modality, tower in config["towers"].items()},
        "fingerprint": facts["fingerprint"],
        **({"ONNX export": str(path / "onnx")} if (path / "onnx" / "export.json").is_file() else {}),
    }


def _export(path: Path) -> dict[str, Any]:
    from hashret.onnx.files import read_facts

    facts = read_facts(path)
    return {
        "n_bits": facts.n_bits,
        "code lengths": ", ".join(map(str, facts.code_lengths)),
        **{f"{modality} tower": tower["kind"] for modality, tower in facts.towers.items()},
        "precision": facts.precision,
        "bytes": sum(file.stat().st_size for file in path.iterdir()),
        "fingerprint": facts.fingerprint,
    }


def _run(path: Path) -> dict[str, Any]:
    if not (path / "figures.json").is_file():
        return {"state": "not finished; go on with: hashret train ... --resume"}
    figures = _json(path / "figures.json")
    if "selection" not in figures:
        raise InputError(f"{str(path)!r} is no training run; look at its report.html, or at what lies in it")
    best = figures["selection"]
    return {
        "name": figures["name"],
        "seed": figures["seed"],
        # every metric is positive; the value's sign is turned where lower is better
        "best": f"{best['metric']} {abs(best['value']):.1f} on validation",
        "seconds": round(figures["seconds"]["training"]),
        "model": str(path / "model"),
    }


def _codes(path: Path) -> dict[str, Any]:
    import numpy as np

    from hashret.arrays import NO_ARRAY

    try:
        codes = np.load(path, mmap_mode="r", allow_pickle=False)
    except NO_ARRAY as error:
        raise CorruptError(f"{str(path)!r} is no .npy file of codes: {error}") from error
    if not isinstance(codes, np.ndarray):  # numpy goes by what is in a file, and not by its name
        codes.close()
        raise CorruptError(f"{str(path)!r} is no .npy file of codes: it holds several arrays, as an .npz file does")
    return {
        "shape": f"{codes.shape[0]:,} x {codes.shape[1]} bytes" if codes.ndim == 2 else codes.shape,
        "dtype": str(codes.dtype),
    }


def _collection(path: Path) -> dict[str, Any]:
    import dataclasses

    from hashret.collection import Collection

    with Collection.open(path) as collection:
        return dataclasses.asdict(collection.info())


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptError(f"{str(path)!r} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CorruptError(f"{str(path)!r} holds no facts of a model or run")
    return content
