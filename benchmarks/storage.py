"""What an item costs on disk and in memory, part by part, beside float vectors. One command:

    python benchmarks/storage.py                    # 10^5 and 10^6 items of 64, 128 and 256 bits
    python benchmarks/storage.py --quick            # 10^5 items of 128 bits
    python benchmarks/storage.py --model MODEL      # the model too, and its ONNX exports

Writes storage.json and storage.md into --out. Everything is made, saved and measured: files by their size, memory by
what a fresh process holds more after it opened the file, unmapped, and searched. A cell that is done is kept, and a run
that was killed goes on where it stood; the report says whether it is complete.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _command
import numpy as np
from _machine import load_state, machine, save_state

COUNTS, WIDTHS = (100_000, 1_000_000), (64, 128, 256)
FLOAT_WIDTH = 512  # of CLIP ViT-B/32, the vector that most people have
KINDS = ("flat", "mih", "ivf", "hnsw")
HNSW_MOST = 100_000  # a graph of more takes minutes to build
COMMIT = 50_000
CENTRES, FLIP = 1000, 0.1


def main() -> None:
    """Measure what is missing and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10^5 items of 128 bits")
    parser.add_argument("--n", type=lambda text: int(float(text)), nargs="+", help="numbers of items")
    parser.add_argument("--bits", type=int, nargs="+")
    parser.add_argument("--model", type=Path, help="a model whose files are weighed")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(held(*args.worker))
        return
    counts = args.n or ([100_000] if args.quick else list(COUNTS))
    widths = args.bits or ([128] if args.quick else list(WIDTHS))
    out = args.out or Path(__file__).resolve().parent / "results" / ("quick" if args.quick else "")
    state = load_state(out / "storage.json", key={"machine": machine("numpy", "faiss-cpu")})
    state["complete"] = False
    for count in counts:
        for n_bits in widths:
            name = f"{count} x {n_bits}"
            if name not in state["cells"]:
                with tempfile.TemporaryDirectory() as folder:
                    state["cells"][name] = {"n": count, "bits": n_bits, **weigh(Path(folder), count, n_bits)}
                save_state(out / "storage.json", state)
                print(name, json.dumps(state["cells"][name]), flush=True)
    state.pop("model", None)  # of another run it may be another model
    if args.model:
        state["model"] = weigh_model(args.model)
    wanted = [f"{count} x {n_bits}" for count in COUNTS for n_bits in WIDTHS]
    state["complete"] = all(name in state["cells"] for name in wanted)
    save_state(out / "storage.json", state)
    page = out / "storage.md"
    page.write_text(report(state), encoding="utf-8")
    print(page.read_text(encoding="utf-8"))


# --- on disk


def weigh(place: Path, count: int, n_bits: int) -> dict[str, Any]:
    """Bytes an item of every part."""
    from hashret.index import INDEXES

    codes = made_up(count, n_bits)
    disk = {"codes": n_bits / 8, **collections(place, codes, n_bits)}
    memory: dict[str, float] = {}
    for kind in KINDS:
        if kind == "hnsw" and count > HNSW_MOST:
            continue
        index = INDEXES.load(kind)(n_bits)
        index.add(codes)
        index.search(codes[:1], 1)  # what is built late is built now
        path = place / f"{kind}.index"
        index.save(path)
        del index
        disk[f"{kind} index"] = path.stat().st_size / count
        memory[f"{kind} index"] = in_process("index", path) / count
        path.unlink()
    memory["collection, mapped"] = in_process("collection", place / "filled.hashret") / count
    return {
        part: {name: round(value, 2) for name, value in found.items()}
        for part, found in (("disk", disk), ("memory", memory))
    }


def collections(place: Path, codes: Any, n_bits: int) -> dict[str, float]:
    """Bytes an item of collections with less and more in them."""
    from hashret import Collection

    def fill(name: str, *, ids: Any = None, metadata: Any = None) -> float:
        path = place / f"{name}.hashret"
        with Collection.create(path, n_bits=n_bits) as collection:
            for first in range(0, len(codes), COMMIT):
                rows = range(first, min(first + COMMIT, len(codes)))
                collection.add(
                    codes[first : first + COMMIT],
                    ids=ids and [ids(row) for row in rows],
                    metadata=metadata and [metadata(row) for row in rows],
                )
        return sum(file.stat().st_size for file in path.iterdir()) / len(codes)

    def name(row: int) -> str:
        return f"photos/{row:08d}.jpg"

    found = {
        "collection, integer ids": fill("bare"),
        "collection, ids of 19 characters": fill("named", ids=name),
        "the same, metadata of 75 bytes": fill(
            "filled",
            ids=name,
            metadata=lambda row: {"captions": ["two dogs run over a field of snow"], "year": 2000 + row % 20},
        ),
    }
    for less in ("bare", "named"):
        shutil.rmtree(place / f"{less}.hashret")
    return found


def weigh_model(model: Path) -> dict[str, int]:
    """Bytes of a model and of its exports, which are made in a temporary folder."""
    from hashret import CrossModalHasher
    from hashret.onnx.export import export_model
    from hashret.onnx.files import FOLDER

    found = {"torch": sum(f.stat().st_size for f in model.rglob("*") if f.is_file() and FOLDER not in f.parts)}
    hasher = CrossModalHasher.load(model, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float32", "int8"):
            exported = export_model(hasher, Path(folder) / precision, int8=precision == "int8")
            found[f"ONNX, {precision}"] = exported.n_bytes
    return found


def made_up(count: int, n_bits: int) -> Any:
    """Codes around centres, as learned codes lie, and not evenly spread."""
    random = np.random.default_rng(n_bits)
    centres = np.packbits(random.random((CENTRES, n_bits), np.float32) < 0.5, axis=1)
    codes = centres[random.integers(0, CENTRES, count)]
    for first in range(0, count, COMMIT):
        part = codes[first : first + COMMIT]
        part ^= np.packbits(random.random((len(part), n_bits), np.float32) < FLIP, axis=1)
    return codes


# --- in memory


def in_process(kind: str, path: Path) -> int:
    """Bytes that a fresh process holds for a file."""
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", kind, str(path)]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


def held(kind: str, path: str) -> int:
    """What the memory of this process grows by when a file is opened and searched."""
    from hashret import Collection, FlatIndex
    from hashret.index import open_index

    small = FlatIndex(64)
    small.add(np.zeros((1000, 8), np.uint8))
    small.search(np.zeros((1, 8), np.uint8), 10)
    import faiss  # noqa: F401  (is no part of an index)

    before = resident()
    opened: Any = open_index(path, mmap=False) if kind == "index" else Collection.open(path)
    opened.search(np.zeros((1, (opened.n_bits + 7) // 8), np.uint8), 10)
    return resident() - before


def resident() -> int:
    """Bytes that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- the report


def report(state: dict[str, Any]) -> str:
    """The figures in Markdown."""
    cells = list(state["cells"].values())
    columns = [f"{cell['n']:,} x {cell['bits']}" for cell in cells]
    lines = [
        "# Bytes an item",
        "",
        "Written by `python benchmarks/storage.py`. Disk is the size of the files; an index file and a collection hold",
        "the codes too. Memory is what a fresh process holds more once it opened and searched them.",
        "",
        *(f"* {name}: {value}" for name, value in state["key"]["machine"].items()),
        f"* complete: {'yes' if state['complete'] else 'no, further cells are missing'}",
    ]
    for title, part in (("On disk", "disk"), ("In memory", "memory")):
        names = list(dict.fromkeys(name for cell in cells for name in cell[part]))
        lines += [
            "",
            f"## {title}",
            "",
            "| items x bits | " + " | ".join(columns) + " |",
            "|---" * (len(cells) + 1) + "|",
        ]
        for name in names:
            shown = (f"{cell[part][name]:.1f}" if name in cell[part] else "–" for cell in cells)
            lines.append(f"| {name} | {' | '.join(shown)} |")
        if part == "disk":
            for kind, size in (("float32", 4), ("float16", 2)):
                shown = (f"{size * FLOAT_WIDTH} ({size * FLOAT_WIDTH / cell['disk']['codes']:.0f} x)" for cell in cells)
                lines.append(f"| {kind} vectors, {FLOAT_WIDTH} wide (times the codes) | {' | '.join(shown)} |")
    if "model" in state:
        lines += ["", "## The model", "", "| as | MB |", "|---|---|"]
        lines += [f"| {name} | {n_bytes / 1e6:.1f} |" for name, n_bytes in state["model"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    _command.run(main)
