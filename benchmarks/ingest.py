"""What a collection costs: ingest, size, opening, memory, filters, deletes. One command:

    python benchmarks/ingest.py [--n 1000000] [--large 10000000] [--place DIR]

Prints a table and writes it as benchmarks/results/ingest.md. Each line has the figure by the clock, the same by the
processor's time (which a busy machine disturbs less, and which leaves out waiting for the disk), and the bar that the
clock should keep. Timings are medians of ``--repeats`` where the thing can be repeated; ingest is timed commit by
commit, and every commit is durable.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import _command
import numpy as np
from _machine import machine

from hashret._files import write_whole
from hashret.collection import Collection

COMMIT = 10_000
N_BITS = 128
RESULTS = Path(__file__).with_name("results")
HEAD = f"""# What a collection costs

Written by `python benchmarks/ingest.py`; {N_BITS}-bit codes, durable commits of {COMMIT:,}.
"""
_table = io.StringIO()

_COLD = """
import resource, sys, time
from hashret.collection import Collection
imported = time.perf_counter()
collection = Collection.open(sys.argv[1])
opened = time.perf_counter()
rss = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
length = len(collection)
import numpy as np
begun = time.perf_counter()
collection.search(np.zeros((1, collection.n_bits // 8), np.uint8), k=10)
print(opened - imported, rss, time.process_time(), time.perf_counter() - begun)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000, help="items of the common collections")
    parser.add_argument("--large", type=int, default=10_000_000, help="items of the large one; 0 leaves it out")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--place", type=Path, help="where the collections are made; a temporary directory without")
    parser.add_argument("--out", type=Path, default=RESULTS / "ingest.md", help="the table that is written")
    args = parser.parse_args()
    place = Path(tempfile.mkdtemp(dir=args.place))
    try:
        _line("what", "clock", "processor", "bar")
        _line("---", "---:", "---:", "---")
        _integers(place, args.n)
        _strings(place, args.n, args.repeats)
        _cold_start(place, args.repeats)
        if args.large:
            _large(place, args.large, args.repeats)
    finally:
        shutil.rmtree(place)
    about = "".join(f"* {what}: {value}\n" for what, value in machine("numpy").items())
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(args.out, f"{HEAD}\n{about}\n{_table.getvalue()}")


class _Took(NamedTuple):
    """Seconds by the clock and of the processor."""

    wall: float
    cpu: float


def _line(what: str, figure: str, cpu: str = "", bar: str = "") -> None:
    row = f"| {what:<72} | {figure:>12} | {cpu:>12} | {bar:<19} |"
    print(row, flush=True)
    _table.write(row + "\n")


def _rate_line(what: str, count: int, took: _Took, bar: str) -> None:
    _line(what, f"{count / took.wall:,.0f}/s", f"{count / took.cpu:,.0f}/s", bar)


def _time_line(what: str, took: _Took, bar: str = "") -> None:
    _line(what, f"{took.wall * 1e3:,.1f} ms", f"{took.cpu * 1e3:,.1f} ms", bar)


def _time(work: Callable[[], object]) -> _Took:
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return _Took(time.perf_counter() - start, time.process_time() - cpu)


def _median(repeats: int, work: Callable[[], object]) -> _Took:
    walls, cpus = zip(*(_time(work) for _ in range(repeats)))
    return _Took(statistics.median(walls), statistics.median(cpus))


def _codes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, N_BITS // 8), np.uint8)


def _fill(collection: Collection, count: int, batch: Callable[[int], dict[str, Any]]) -> tuple[_Took, float]:
    """The time of all commits, and the longest of them in seconds."""
    codes = _codes(COMMIT)
    times = []
    for first in range(0, count, COMMIT):
        more = batch(first)
        times.append(_time(lambda more=more: collection.add(codes, **more)))
    return _Took(sum(each.wall for each in times), sum(each.cpu for each in times)), max(each.wall for each in times)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())


def _integers(place: Path, count: int) -> None:
    shuffled = np.random.default_rng(1).permutation(count)
    kinds: dict[str, Callable[[int], dict[str, Any]]] = {
        "automatic ids": lambda first: {},
        "integer ids in order": lambda first: {"ids": list(range(first, first + COMMIT))},
        "integer ids in random order": lambda first: {"ids": shuffled[first : first + COMMIT]},
    }
    for name, batch in kinds.items():
        path = place / name.replace(" ", "-")
        with Collection.create(path, N_BITS) as collection:
            took, _ = _fill(collection, count, batch)
            _rate_line(f"ingest, {name}, {count:,} in commits of {COMMIT:,}", count, took, ">= 200,000/s")
        _line(f"  bytes on disk an item ({N_BITS // 8} of code, 8 of id)", f"{_size(path) / count:.1f}")
        shutil.rmtree(path)


def _strings(place: Path, count: int, repeats: int) -> None:
    path = place / "strings"
    collection = Collection.create(path, N_BITS)

    def batch(first: int) -> dict[str, Any]:
        span = range(first, first + COMMIT)
        return {"ids": [f"item-{i:08d}" for i in span], "metadata": [{"year": 1920 + i % 100, "n": i} for i in span]}

    took, _ = _fill(collection, count, batch)
    _rate_line(f"ingest, string ids and small metadata, {count:,}", count, took, ">= 80,000/s")
    query = _codes(1, seed=2)
    collection.search(query)
    _time_line("search, one query, no filter", _median(repeats, lambda: collection.search(query, k=10)))
    slow = _median(3, lambda: collection.search(query, k=10, where={"year": 2019}))
    _time_line("  where at 1 %, no index", slow, "<= 1,000 ms at 10^6")
    _time_line("  making the index", _time(lambda: collection.create_index("year")))
    for where in ({"year": 2019}, {"year": {"gte": 2019}}, {"year": {"in": [2019, 1800]}}):
        fast = _median(repeats, lambda where=where: collection.search(query, k=10, where=where))
        _time_line(f"  where `{where}` at 1 %, indexed", fast, "<= 20 ms at 10^6")
    changed = [f"item-{i:08d}" for i in range(0, count, max(1, count // 100_000))]
    codes, metadata = _codes(len(changed), seed=3), [{"year": 1}] * len(changed)
    removed = _time(lambda: collection.delete(changed))
    stored = _time(lambda: collection.upsert(codes, changed, metadata))
    both = _Took(removed.wall + stored.wall, removed.cpu + stored.cpu)
    _time_line(f"delete and upsert {len(changed):,} ids", both, "<= 5,000 ms")
    masked = _median(repeats, lambda: collection.search(query, k=10))
    _time_line(f"search, one query, {collection.info().dead:,} rows dead", masked)
    _time_line("compact", _time(collection.compact))
    _time_line("verify", _time(collection.verify))
    collection.close()
    _line("  bytes on disk an item (16 of code, 13 of id, 25 of metadata, index)", f"{_size(path) / count:.1f}")
    shutil.rmtree(path)


def _cold_start(place: Path, repeats: int) -> None:
    path = place / "cold"
    with Collection.create(path, N_BITS) as collection:
        _fill(collection, 100_000, lambda first: {"metadata": [{"n": first}] * COMMIT})
    command = [sys.executable, "-c", _COLD, str(path)]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(repeats)]
    wall = _median(repeats, lambda: subprocess.run(command, check=True, capture_output=True)).wall
    took = _Took(wall, statistics.median(float(run[2]) for run in runs))
    _time_line("process start to first search, 100,000 items with metadata", took, "<= 500 ms")


def _large(place: Path, count: int, repeats: int) -> None:
    path = place / "large"
    with Collection.create(path, N_BITS) as collection:
        took, longest = _fill(collection, count, lambda first: {"ids": np.arange(first, first + COMMIT)})
    _rate_line(f"ingest, integer ids in order, {count:,}", count, took, ">= 200,000/s")
    _line("  longest commit", f"{longest * 1e3:,.1f} ms", "", "<= 1,000 ms")
    packed = count * N_BITS // 8
    _line("  size / (packed codes + 8 bytes an id)", f"{_size(path) / (packed + 8 * count):.3f}", "", "<= 1.1")
    _line("  size / packed codes", f"{_size(path) / packed:.3f}")
    _opening(path, f"open {count:,}", repeats)
    dead = np.random.default_rng(4).permutation(count)[: count // 5]
    with Collection.open(path, mode="w") as collection:
        for part in np.array_split(dead, 20):
            collection.delete(part)
    _opening(path, f"open {count:,}, {len(dead):,} of them deleted", repeats)


def _opening(path: Path, what: str, repeats: int) -> None:
    command = [sys.executable, "-c", _COLD, str(path)]
    runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(repeats)]
    opened, searched = (statistics.median(float(run[at]) for run in runs) for at in (0, 3))
    resident = max(int(run[1]) for run in runs)
    _line(what, f"{opened * 1e3:.1f} ms", "", "<= 50 ms")
    _line("  resident memory, not searched", f"{resident / 1e6:.0f} MB", "", "<= 100 MB")
    _line("  first search in a new process", f"{searched * 1e3:.1f} ms")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    _command.run(main)
