"""Exact search against its peers, by one command.

    python benchmarks/search.py --quick            one or two minutes
    python benchmarks/search.py                    everything: hours, resumable; cells that are done are kept
    python benchmarks/search.py --n 1e6 --bits 64  some of it
    python benchmarks/search.py --again --n 1e6 1e7 --k 10 --no-others --no-approximate    the bars, in 20 minutes
    python benchmarks/search.py --kinds trained.npy --n 1e5 1e6    codes of a model (trained_codes.py), or your own

Writes search.json, search.md and search.png into --out. In a cell (data, N, bits, k, batch, threads) all contestants
take turns, so that a busy machine hits them alike. In a turn one runs untimed first and then up to 8 times for up to
20 ms, with other queries each time as far as there are so many: so each finds its own memory in the caches as far as
it fits, and its threads awake, as between the queries of one program, whoever came before it. The median and the best
of all runs are kept, in ms a query. The ratio of the bars is the median of the better setting of FAISS IndexBinaryFlat
over ours.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads of FAISS that spin slow a busy machine down for all

import _command
import _machine
import numpy as np
from _peers import Peer, approximate_peers, disagreement, exact_peers
from _search_report import ALONE, READING, write_plot, write_report

import hashret
from hashret import kernels
from hashret._files import write_whole
from hashret.kernels import native

QUERIES = 1000
KINDS = ("clustered", "uniform")
CENTRES, FLIP = 10_000, 0.1
BURST, BURST_S = 8, 0.02  # timed runs in a turn at most, and their time in all
WARM = 16  # queries of the untimed run of a turn at most
HNSW_MOST = 1_000_000  # codes; a graph of more takes hours to build


def main() -> None:
    """Time what is missing and write the report."""
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    # figures of another machine or of other versions are not mixed with these
    state = _machine.load_state(options.out / "search.json", key={"machine": machine()})
    for kind, count, n_bits in itertools.product(options.kinds, options.n, options.bits):
        cells = cells_of(kind, count, n_bits, options)
        missing = [cell for cell in cells if options.again or name_of(cell) not in state["cells"]]
        if missing:
            run_cells(missing, *make(kind, count, n_bits), options, state)
    save(state, options.out)
    write_plot(state, options.out)
    print((options.out / "search.md").read_text())


def cells_of(kind: str, count: int, n_bits: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The cells of one data set."""
    return [
        {"data": Path(kind).stem, "n": count, "bits": n_bits, "k": k, "batch": batch, "threads": threads}
        for k in options.k
        for batch in options.batch
        for threads in options.threads
    ]


def everything() -> Iterator[dict[str, Any]]:
    """The cells of the command without options, with which the page is complete."""
    options = arguments([])
    for kind, count, n_bits in itertools.product(options.kinds, options.n, options.bits):
        yield from cells_of(kind, count, n_bits, options)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, or ``given`` in its place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10^5 codes, k = 10, exact contestants")
    parser.add_argument("--n", type=lambda x: int(float(x)), nargs="+", help="numbers of codes")
    parser.add_argument("--bits", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--k", type=int, nargs="+")
    parser.add_argument(
        "--kinds", type=known_kind, nargs="+", default=KINDS, help=f"{' and '.join(KINDS)}, or .npy files of codes"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 1000])
    parser.add_argument("--levels", nargs="*", default=["avx2"], help="SIMD levels to time beside the best")
    parser.add_argument("--seconds", type=float, help="for a cell, about")
    parser.add_argument("--approximate", action=argparse.BooleanOptionalAction, help="also IVF and HNSW")
    parser.add_argument("--others", action=argparse.BooleanOptionalAction, default=True, help="also numpy and usearch")
    parser.add_argument("--again", action="store_true", help="time cells anew that are done")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(given)
    names = [Path(kind).stem for kind in options.kinds]
    if len(set(names)) < len(names):
        parser.error(f"cells are told apart by the names of their data, so --kinds needs different ones than {names}")
    options.n = options.n or ([100_000] if options.quick else [100_000, 1_000_000, 10_000_000])
    options.k = options.k or ([10] if options.quick else [10, 100, 1000])
    options.seconds = options.seconds or (0.6 if options.quick else 6.0)
    if options.approximate is None:
        options.approximate = not options.quick
    here = Path(__file__).resolve().parent
    options.out = options.out or here / "results" / ("quick" if options.quick else "")
    return options


def known_kind(text: str) -> str:
    """Of the option ``--kinds``; a file has to be readable before anything is timed."""
    if text not in KINDS and not text.endswith(".npy"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither one of {', '.join(KINDS)} nor an .npy file of codes")
    if text.endswith(".npy"):
        try:
            np.load(text, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise argparse.ArgumentTypeError(f"{text} cannot be read as an array of codes: {error}") from error
    return text


def make(kind: str, count: int, n_bits: int) -> tuple[Any, Any]:
    """Codes and queries of one distribution; a file gives its last rows as queries."""
    rng = np.random.default_rng(n_bits)
    if kind.endswith(".npy"):
        codes = np.load(kind, mmap_mode="r")
        if codes.dtype != np.uint8 or codes.ndim != 2 or len(codes) < count + QUERIES or 8 * codes.shape[1] < n_bits:
            raise SystemExit(
                f"{kind} holds {codes.dtype} of shape {codes.shape}; {count:,} codes of {n_bits} bits and {QUERIES:,} "
                "queries are needed (--n and --bits ask for fewer)"
            )
        return tuple(np.ascontiguousarray(part[:, : n_bits // 8]) for part in (codes[:count], codes[-QUERIES:]))
    if kind == "uniform":
        codes = rng.integers(0, 256, (count + QUERIES, n_bits // 8), np.uint8)
    else:
        centres = rng.integers(0, 256, (CENTRES, n_bits // 8), np.uint8)
        codes = centres[rng.integers(0, CENTRES, count + QUERIES)]
        for start in range(0, len(codes), 1 << 16):
            part = codes[start : start + (1 << 16)]
            part ^= np.packbits(rng.random((len(part), n_bits), np.float32) < FLIP, axis=1)
    return codes[:count], np.ascontiguousarray(codes[count:])


def run_cells(
    cells: list[dict[str, Any]], codes: Any, queries: Any, options: argparse.Namespace, state: dict[str, Any]
) -> None:
    """Time the cells of one data set, and save after each."""
    kind, count, n_bits = cells[0]["data"], cells[0]["n"], cells[0]["bits"]
    index = hashret.FlatIndex(n_bits)
    index.add(codes)
    codes = index.codes  # in memory as an index has them
    peers = list(exact_peers(codes, n_bits, levels=tuple(options.levels), others=options.others))
    wrong = disagreement(codes, queries[:8], 10, peers)
    if wrong:
        raise SystemExit(f"{kind}, {count} x {n_bits} bits: {wrong}")
    if options.approximate and count <= HNSW_MOST:
        truth = kernels.search(codes, queries[:200], 10, n_bits=n_bits)
        peers += approximate_peers(codes, n_bits, queries[:200], truth, 10)
    for cell in cells:
        load = round(os.getloadavg()[0], 1)
        cell = {**cell, "load": load, "peers": time_cell(cell, peers, queries, options.seconds)}
        state["cells"][name_of(cell)] = cell
        save(state, options.out)
        shown = {name: round(timed["median_ms"], 4) for name, timed in cell["peers"].items()}
        print(name_of(cell), f"load {cell['load']:.1f}", shown, flush=True)


def time_cell(cell: dict[str, Any], peers: list[Peer], queries: Any, seconds: float) -> dict[str, Any]:
    """Median and best ms a query of every contestant, in turns; slow ones get part of the batch and fewer turns."""
    batch, k, threads = cell["batch"], cell["k"], cell["threads"]
    peers = [peer for peer in peers if batch == 1 or not peer.alone]
    if batch == 1 and threads > 1:  # what threads gain is told by turns: the machine is another a minute later
        peers += [on_one_thread(peer) for peer in peers if peer.name in ("native", READING)]
    plan: dict[str, tuple[Peer, int, int, int, list[float]]] = {}
    share = seconds / len(peers)
    for peer in peers:
        size = min(batch, peer.most)
        peer.run(queries[: min(size, 8)], k, threads)  # makes what is made at the first search
        some = size if size <= 32 else size // 8
        start = time.perf_counter()
        peer.run(queries[:some], k, threads)
        once = (time.perf_counter() - start) * size / some
        burst = max(1, min(BURST, int(BURST_S / once)))
        rounds = max(3, min(301, int(share / (once * (burst + min(size, WARM) / size)))))
        plan[peer.name] = peer, size, burst, rounds, []
    turns = max(rounds for _, _, _, rounds, _ in plan.values())
    for turn in range(turns):
        for peer, size, burst, rounds, taken in plan.values():
            if len(taken) * turns > turn * rounds * burst:
                continue  # its turns are spread over all of them
            places = len(queries) - size + 1
            peer.run(queries[: min(size, WARM)], k, threads)
            for _ in range(burst):
                first = (len(taken) + 1) * size % places
                start = time.perf_counter()
                peer.run(queries[first : first + size], k, threads)
                taken.append((time.perf_counter() - start) * 1e3 / size)
    return {
        name: {
            "median_ms": float(f"{np.median(taken):.4g}"),
            "best_ms": float(f"{min(taken):.4g}"),
            "runs": len(taken),
            "queries": size,
            **({"recall": round(peer.recall, 4)} if peer.recall is not None else {}),
            **({"note": peer.note} if peer.note else {}),
        }
        for name, (peer, size, _, _, taken) in plan.items()
    }


def on_one_thread(peer: Peer) -> Peer:
    """The same contestant, whatever the cell's number of threads."""
    return replace(peer, name=peer.name + ALONE, run=lambda queries, k, threads: peer.run(queries, k, 1))


def name_of(cell: dict[str, Any]) -> str:
    """The key of a cell."""
    return "{data}, {n} x {bits}, k {k}, batch {batch}, threads {threads}".format(**cell)


def machine() -> dict[str, Any]:
    """Where it ran and with what."""
    levels: dict[str, Any] = {"native": list(native.levels()) if native.available() else []}
    try:
        import faiss

        levels["faiss"] = faiss.SIMDConfig.get_level_name()
    except (ImportError, AttributeError):
        levels["faiss"] = "unknown"
    return {**_machine.machine("numpy", "faiss-cpu", "usearch"), "simd": levels}


def save(state: dict[str, Any], out: Path) -> None:
    """The numbers and the report, each at once or not at all."""
    wanted = [name_of(cell) for cell in everything()]
    there = sum(name in state["cells"] for name in wanted)
    state["complete"] = there == len(wanted)
    write_whole(out / "search.json", json.dumps(state, indent=None, separators=(",", ":")))
    write_report(state, out, there=there, wanted=len(wanted))


if __name__ == "__main__":
    _command.run(main)
