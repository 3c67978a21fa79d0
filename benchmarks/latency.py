"""How long a query takes: by torch, by ONNX, by ONNX with 8-bit weights. One command:

    python benchmarks/latency.py photos.hashret     # a collection made by ``hashret index``, with the model it names
    python benchmarks/latency.py --quick            # the Flickr8k configuration untrained, over codes made up

Writes latency.json and latency.md into --out. Every runtime has processes of its own, so that memory is its own too.
A cell that is done is kept, and a run that was killed goes on where it stood; the report says whether it is complete.
Cold starts are whole ``hashret search`` commands. Percentiles are over queries one by one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _command
import numpy as np
from _machine import load_state, machine, save_state

WORDS = "two dogs play on the beach"
RUNTIMES = ("torch", "onnx", "int8")
PACKAGES = ("numpy", "torch", "timm", "transformers", "onnxruntime", "tokenizers", "pillow")
LIKE_FLICKR8K = 8091  # codes of the quick version


def main() -> None:
    """Time what is missing and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection", type=Path, nargs="?", help="with captions and pictures among its metadata")
    parser.add_argument(
        "--quick", action="store_true", help="fewer queries; a collection is made up where none is given"
    )
    parser.add_argument("--queries", type=int, help="words asked (300), and a fifth as many pictures")
    parser.add_argument("--starts", type=int, help="cold starts (5)")
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES), choices=RUNTIMES)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--cold", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(worker(*args.worker)))
        return
    if args.cold:
        print(json.dumps(cold(*args.cold)))
        return
    if args.collection is None and not args.quick:
        parser.error("give a collection, or --quick")
    args.queries, args.starts = args.queries or (50 if args.quick else 300), args.starts or (3 if args.quick else 5)
    out = args.out or Path(__file__).resolve().parent / "results" / ("quick" if args.quick else "")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        collection, model = (
            made_up(place) if args.collection is None else (args.collection, named_model(args.collection))
        )
        facts = describe(collection, model)
        key = {"collection": facts, "queries": args.queries, "starts": args.starts, "machine": machine(*PACKAGES)}
        state = load_state(out / "latency.json", key=key)
        state["complete"] = False
        missing = [runtime for runtime in args.runtimes if runtime not in state["cells"]]
        models = exported(model, place, missing)
        queries = write_queries(collection, place / "queries.json", args.queries)
        for runtime in missing:
            place_of = [str(collection), str(models[runtime])]
            kind = "torch" if runtime == "torch" else "onnx"
            cell: dict[str, Any] = {"load": round(os.getloadavg()[0], 1)}
            cell["cold"] = in_process("--cold", *place_of, kind, str(args.starts))
            cell |= in_process("--worker", *place_of, kind, str(queries))
            state["cells"][runtime] = cell
            save_state(out / "latency.json", state)
            print(runtime, json.dumps(cell), flush=True)
    state["complete"] = all(runtime in state["cells"] for runtime in RUNTIMES)
    save_state(out / "latency.json", state)
    page = out / "latency.md"
    page.write_text(report(state), encoding="utf-8")
    print(page.read_text(encoding="utf-8"))


# --- what is asked


def named_model(collection: Path) -> Path:
    """The model that a collection names."""
    from hashret import Collection

    with Collection.open(collection) as opened:
        if opened.model is None:
            raise SystemExit(f"{collection} does not name its model; make it with hashret index")
        return Path(opened.model)


def describe(collection: Path, model: Path) -> dict[str, Any]:
    """What decides the figures."""
    from hashret import Collection

    config = json.loads((model / "model.json").read_text())["config"]
    encoders = {modality: tower["encoder"]["name"] for modality, tower in config["towers"].items()}
    with Collection.open(collection) as opened:
        return {"items": len(opened), "n_bits": opened.n_bits, "fingerprint": opened.fingerprint, **encoders}


def made_up(place: Path) -> tuple[Path, Path]:
    """The model of the preset before any training, and a collection of random codes."""
    from PIL import Image

    from hashret import Collection, CrossModalHasher
    from hashret.onnx import samples
    from hashret.training import read_config

    config = Path(__file__).resolve().parents[1] / "configs" / "hashret.yaml"
    hasher = CrossModalHasher.build(read_config(config).model)
    hasher.save(place / "model")
    texts = itertools.cycle(samples.texts())
    metadata: list[dict[str, Any]] = [{"captions": [next(texts)]} for _ in range(LIKE_FLICKR8K)]
    for number, picture in enumerate(samples.pictures()):
        path = place / f"{number}.jpg"
        Image.fromarray(picture).save(path)
        metadata[number]["image"] = str(path)
    codes = np.random.default_rng(0).integers(0, 256, (LIKE_FLICKR8K, 32), np.uint8)
    names = {"fingerprint": hasher.fingerprint, "model": str(place / "model")}
    with Collection.create(place / "made-up.hashret", n_bits=256, **names) as collection:
        collection.add(codes, ids=list(range(LIKE_FLICKR8K)), metadata=metadata)
    return place / "made-up.hashret", place / "model"


def exported(model: Path, place: Path, runtimes: list[str]) -> dict[str, Path]:
    """The directory that each runtime loads; exports are made here, whatever lies beside the model."""
    models = {"torch": model}
    if set(runtimes) - {"torch"}:
        from hashret import CrossModalHasher
        from hashret.onnx.export import export_model

        hasher = CrossModalHasher.load(model, device="cpu")
        for runtime in set(runtimes) - {"torch"}:
            models[runtime] = export_model(hasher, place / runtime, int8=runtime == "int8").directory
    return models


def write_queries(collection: Path, path: Path, count: int) -> Path:
    """Captions and pictures of the collection itself, as JSON."""
    from hashret import Collection

    with Collection.open(collection) as opened:
        known = opened.get(list(itertools.islice(opened, count))).metadata
    texts = [metadata["captions"][0] for metadata in known if metadata.get("captions")]
    images = [metadata["image"] for metadata in known if metadata.get("image")][: max(count // 5, 5)]
    path.write_text(json.dumps({"texts": texts, "images": images}))
    return path


# --- the clocks


def cold(collection: str, model: str, runtime: str, starts: str) -> dict[str, Any]:
    """``hashret search`` as a process: seconds by the clock and of the processor, and its largest memory.

    Called in a process that holds little, because the system counts what a parent holds as its child's.
    """
    command = [sys.executable, "-m", "hashret", "search", collection, WORDS, "--model", model, "--runtime", runtime]
    clock, processor, memory = [], [], 0
    for _ in range(int(starts) + 1):  # the first one reads files that later ones find in memory
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        clock.append(time.perf_counter() - begun)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        processor.append(usage.ru_utime + usage.ru_stime)
        memory = max(memory, usage.ru_maxrss * 1024)
    return {
        "first_s": round(clock[0], 3),
        "median_s": round(float(np.median(clock[1:])), 3),
        "best_s": round(min(clock[1:]), 3),
        "processor_s": round(float(np.median(processor[1:])), 3),
        "rss_mb": round(memory / 1e6),
    }


def in_process(*arguments: str) -> dict[str, Any]:
    """What a worker prints."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments]
    printed: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return printed


def worker(collection: str, model: str, runtime: str, queries: str) -> dict[str, Any]:
    """Percentiles in ms of one runtime, in a process that loads nothing else."""
    from hashret import Engine

    asked = json.loads(Path(queries).read_text())
    found: dict[str, Any] = {}
    with Engine.open(collection, model=model, runtime=runtime) as engine:
        encode, n_bits = engine.model, engine.collection.n_bits
        engine.search(WORDS)  # warm
        found["text"] = percentiles(lambda text: encode.encode_texts([text], n_bits=n_bits), asked["texts"])
        codes = encode.encode_texts(asked["texts"], n_bits=n_bits)
        found["search"] = percentiles(lambda code: engine.collection.search(code, 10), codes)
        found["end to end"] = percentiles(lambda text: engine.search(text, k=10), asked["texts"])
        found["rss_words_mb"] = rss_mb()
        if asked["images"]:
            encode.encode_images(asked["images"][:1])
            found["image"] = percentiles(lambda path: encode.encode_images([path], n_bits=n_bits), asked["images"])
        found["rss_mb"] = rss_mb()
    found["torch_loaded"] = "torch" in sys.modules
    return found


def percentiles(call: Any, items: Any) -> dict[str, float]:
    """p50, p95 and p99 of single calls, in ms."""
    taken = []
    for item in items:
        begun = time.perf_counter()
        call(item)
        taken.append((time.perf_counter() - begun) * 1e3)
    return {name: float(f"{np.percentile(taken, q):.4g}") for name, q in (("p50", 50), ("p95", 95), ("p99", 99))}


def rss_mb() -> int:
    """Memory that the process holds now."""
    import resource

    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1_000_000


# --- the report


def report(state: dict[str, Any]) -> str:
    """The figures in Markdown."""
    key, cells = state["key"], state["cells"]
    lines = [
        "# Latency of a query",
        "",
        "Written by `python benchmarks/latency.py`. Times are p50 / p95 / p99 in ms of single queries; a cold start is",
        "a whole `hashret search` command, median of several after one that filled the page cache. `load` is the",
        "machine's load when a row began.",
        "",
        *(f"* {name}: {value}" for name, value in {**key["collection"], **key["machine"]}.items()),
        f"* queries: {key['queries']}, cold starts: {key['starts']}",
        f"* complete: {'yes' if state['complete'] else 'no, further cells are missing'}",
        "",
        "| runtime | words to code | picture to code | search | words, end to end | load |",
        "|---|---|---|---|---|---|",
    ]
    for runtime, cell in cells.items():
        times = (cell.get(name) for name in ("text", "image", "search", "end to end"))
        shown = (" / ".join(f"{value:g}" for value in part.values()) if part else "–" for part in times)
        lines.append(f"| {runtime} | {' | '.join(shown)} | {cell['load']} |")
    lines += [
        "",
        "| runtime | cold start | best | processor | its memory | serving words | words and pictures | torch loaded |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for runtime, cell in cells.items():
        start = cell["cold"]
        cold_start = " | ".join(f"{start[name]} s" for name in ("median_s", "best_s", "processor_s"))
        lines.append(
            f"| {runtime} | {cold_start} | {start['rss_mb']} MB "
            f"| {cell['rss_words_mb']} MB | {cell['rss_mb']} MB | {'yes' if cell['torch_loaded'] else 'no'} |"
        )
    if "onnx" in cells:
        lines += ["", *bars(cells["onnx"])]
    return "\n".join(lines) + "\n"


def bars(cell: dict[str, Any]) -> list[str]:
    """What was promised of ONNX on Flickr8k."""
    rows = (
        ("cold start of `hashret search`", cell["cold"]["median_s"], 1.5, "s"),
        ("words, end to end, p50", cell["end to end"]["p50"], 150, "ms"),
        ("the index's part, p50", cell["search"]["p50"], 1, "ms"),
        ("memory with both towers open", cell["rss_mb"], 600, "MB"),
    )
    table = [
        f"| {name} | {value:g} {unit} | {bar} {unit} | {'kept' if value <= bar else 'MISSED'} |"
        for name, value, bar, unit in rows
    ]
    return ["| ONNX | measured | bar | |", "|---|---|---|---|", *table]


if __name__ == "__main__":
    _command.run(main)
