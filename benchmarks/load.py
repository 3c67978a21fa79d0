"""What the server holds: mixed queries beside writes, its throughput and latency, and what a kill leaves.

    python benchmarks/load.py --model run/model [--minutes 10] [--items 8091]
    python benchmarks/load.py                    (no model: queries by id and by code only)

A collection of random codes is made and served by ``hashret serve`` in a process of its own, and everything is sent
over loopback from this one, on the same cores. First as many requests as 16 connections get answered (the highest
throughput), then half of that rate at fixed times, latency counted from when each request was due; 5 writes a second
go on beside both. At the end the server is killed with SIGKILL under load, and every acknowledged item is looked up.
Writes benchmarks/results/load.json and load.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _command
import numpy as np
from _load_client import Call, Done, closed_loop, open_loop
from _machine import command_given, machine

from hashret.collection import Collection

TOKEN = "load"
CONNECTIONS = 16
WRITES = 5  # a second
DOCUMENTED = (429, 503)
WORDS = (
    "a", "the", "dog", "child", "man", "woman", "ball", "beach", "snow", "grass", "street", "bike", "red", "blue",
    "white", "black", "runs", "jumps", "plays", "sits", "stands", "holds", "with", "on", "in", "near", "water", "park",
    "two", "people", "girl", "boy", "shirt", "rock", "mountain", "crowd",
)  # fmt: skip
RESULTS = Path(__file__).with_name("results")


def main() -> None:
    """Measure, check, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="of load in all (1)")
    parser.add_argument("--items", type=int, default=8091, help="items of the collection (8,091, as Flickr8k)")
    parser.add_argument("--model", type=Path, help="a model for the text queries; without one there are none")
    parser.add_argument("--out", type=Path, default=RESULTS / "load", help="the results without their ending")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "load.hashret"
        n_bits = _make(path, args.items, args.model)
        result = asyncio.run(_measure(path, n_bits, args))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    args.out.with_suffix(".md").write_text(_table(result))
    print(_table(result))
    if result["lost"]:
        sys.exit(1)


def _make(path: Path, n_items: int, model: Path | None) -> int:
    """A collection of random codes with captions and years, as large as the model's codes; its number of bits."""
    about: dict[str, Any] = {}
    n_bits = 256
    if model is not None:
        facts = json.loads((model / "model.json").read_text())
        n_bits = facts["config"]["n_bits"]
        about = {"fingerprint": facts["fingerprint"], "model": str(model.resolve())}
    draw = random.Random(0)
    codes = np.random.default_rng(0).integers(0, 256, (n_items, n_bits // 8), np.uint8)
    metadata = [
        {"captions": [" ".join(draw.choices(WORDS, k=9)) for _ in range(5)], "year": draw.randrange(2000, 2025)}
        for _ in range(n_items)
    ]
    with Collection.create(path, n_bits=n_bits, **about) as collection:
        collection.add(codes, ids=[f"{n}.jpg" for n in range(n_items)], metadata=metadata)
    return n_bits


async def _measure(path: Path, n_bits: int, args: argparse.Namespace) -> dict[str, Any]:
    seconds = args.minutes * 60
    process, port = _start(path, args.model)
    queries, writes = _queries(n_bits, args.items, texts=args.model is not None), _writes(n_bits)
    load = {"port": port, "token": TOKEN}
    try:
        await closed_loop(queries, connections=4, stop=_after(min(5.0, seconds / 6)), **load)  # warm
        spent = _processor(process.pid)
        highest, written = await _both(queries, writes, _after(seconds / 3), rate=None, **load)
        throughput = len(highest) / (seconds / 3)
        half, more = await _both(queries, writes, _after(seconds * 2 / 3), rate=throughput / 2, **load)
        written += more
        resident = _resident(process.pid)
        spent = 1000 * (_processor(process.pid) - spent) / (len(highest) + len(half))
        killing = asyncio.create_task(_both(queries, writes, _until_gone(process), rate=throughput / 2, **load))
        await asyncio.sleep(min(2.0, seconds / 10))
        process.send_signal(signal.SIGKILL)
        process.wait()
        written += (await killing)[1]
    finally:
        process.kill()
        process.wait()
    acknowledged = [done.call.body["items"][0] for done in written if done.status == 201]
    return {
        "command": command_given(),
        "machine": machine("fastapi", "uvicorn", "onnxruntime", "torch"),
        "load average": os.getloadavg(),
        "minutes": args.minutes,
        "items": args.items,
        "n_bits": n_bits,
        "text queries": args.model is not None,
        "highest throughput": round(throughput, 1),
        "at the highest": _summary(highest),
        "half": round(throughput / 2, 1),
        "at half": _summary(half),
        "writes": _summary([done for done in written if done.status]),
        "undocumented errors": sum(done.status not in (200, 201, *DOCUMENTED) for done in (*highest, *half)),
        "processor ms": round(spent, 2),
        "resident MB": round(resident / 1e6),
        "acknowledged": len(acknowledged),
        "lost": _lost(path, acknowledged),
    }  # fmt: skip


async def _both(
    queries: Iterator[Call], writes: Iterator[Call], stop: Any, *, rate: float | None, port: int, token: str
) -> tuple[list[Done], list[Done]]:
    """Queries, as many as go or ``rate`` a second, beside the writes."""
    asked = (
        closed_loop(queries, port=port, token=token, connections=CONNECTIONS, stop=stop)
        if rate is None
        else open_loop(queries, port=port, token=token, rate=rate, stop=stop)
    )
    found, written = await asyncio.gather(
        asked, open_loop(writes, port=port, token=token, rate=WRITES, stop=stop)
    )  # fmt: skip
    return found, written


def _start(path: Path, model: Path | None) -> tuple[subprocess.Popen[str], int]:
    """The server, once it can answer everything."""
    import urllib.error
    import urllib.request

    process = subprocess.Popen(
        [sys.executable, "-m", "hashret", "serve", str(path), "--port", "0", "--token", TOKEN],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    address = line.split("served at ")[1].split()[0]
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{address}ready").close()
            break
        except urllib.error.HTTPError:
            time.sleep(0.5)
    else:
        raise SystemExit("the server did not become ready within five minutes")
    return process, int(address.rsplit(":", 1)[1].strip("/"))


def _queries(n_bits: int, n_items: int, *, texts: bool) -> Iterator[Call]:
    """A tenth by text, three tenths by id, the rest by code."""
    draw = random.Random(1)
    while True:
        kind = draw.random()
        if kind < 0.1 and texts:
            yield Call("text", "/api/search/text", {"text": " ".join(draw.choices(WORDS, k=6)), "k": 20})
        elif kind < 0.4:
            yield Call("id", "/api/search/like", {"id": f"{draw.randrange(n_items)}.jpg", "k": 20})
        else:
            code = draw.randbytes(n_bits // 8).hex()
            yield Call("code", "/api/search/codes", {"codes": [code], "k": 20})


def _writes(n_bits: int) -> Iterator[Call]:
    draw, number = random.Random(2), 0
    while True:
        item = {"id": f"new-{number}", "code": draw.randbytes(n_bits // 8).hex(), "metadata": {"number": number}}
        yield Call("write", "/api/items", {"items": [item]})
        number += 1


def _after(seconds: float) -> Any:
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() > end


def _until_gone(process: subprocess.Popen[str]) -> Any:
    return lambda: process.poll() is not None


def _summary(done: list[Done]) -> dict[str, Any]:
    """Counts by status, and percentiles in ms of the answers of each kind."""
    kinds = {}
    for kind in sorted({one.kind for one in done}):
        times = 1000 * np.array([one.seconds for one in done if one.kind == kind and one.status in (200, 201)])
        if len(times):
            percentiles = np.percentile(times, [50, 95, 99])
            kinds[kind] = {"count": len(times), **dict(zip(("p50", "p95", "p99"), percentiles.round(2).tolist()))}
    return {"statuses": dict(Counter(str(one.status) for one in done)), "ms": kinds}


def _lost(path: Path, items: list[dict[str, Any]]) -> int:
    """How many acknowledged items are not there with their code, after a writer has opened what the kill left."""
    with Collection.open(path, mode="w") as collection:
        collection.verify()
        held = [item for item in items if item["id"] in collection]
        codes = collection.codes([item["id"] for item in held]) if held else []
        right = sum(code.tobytes().hex() == item["code"] for code, item in zip(codes, held))
    return len(items) - right


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _processor(pid: int) -> float:
    """Seconds of the processor that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _table(result: dict[str, Any]) -> str:
    own, highest, half = result["machine"], result["at the highest"], result["at half"]
    lines = [
        "# Load", "",
        f"Written by `{result['command']}`.", "",
        f"{result['items']:,} items of {result['n_bits']} bits, {result['minutes']:g} minutes, {WRITES} writes a "
        "second beside the queries.",
        f"Client and server share {own['cores']} cores ({own['processor']}), on which other programs were busy too: "
        f"the load average at the end was {result['load average'][0]:.1f}.", "",
        f"- Highest throughput ({CONNECTIONS} connections): **{result['highest throughput']:,} requests a second**",
        f"- Statuses at the highest: {_counts(highest)}; at half: {_counts(half)}",
        f"- Statuses of writes: {_counts(result['writes'])}",
        f"- Errors other than the documented 429 and 503: **{result['undocumented errors']}**",
        f"- Processor time of the server: {result['processor ms']} ms a request",
        f"- Resident memory of the server: {result['resident MB']} MB",
        f"- After SIGKILL under load: {result['acknowledged']:,} writes acknowledged, **{result['lost']} lost**", "",
        f"At half of the highest ({result['half']:,} requests a second), in ms from when a request was due:", "",
        "| kind | requests | p50 | p95 | p99 |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for kind, figures in {**half["ms"], **result["writes"]["ms"]}.items():
        lines.append(f"| {kind} | {figures['count']:,} | {figures['p50']} | {figures['p95']} | {figures['p99']} |")
    return "\n".join(lines) + "\n"


def _counts(summary: dict[str, Any]) -> str:
    return ", ".join(f"{count:,} x {status}" for status, count in summary["statuses"].items())


if __name__ == "__main__":
    _command.run(main)
