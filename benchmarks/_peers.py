"""The contestants of the search benchmark: a name and a function from queries to hits each, made once a data set.

A contestant that is not installed is left out. Exact ones are checked against one another before they are timed;
approximate ones come with their recall. Must not know how times are taken or reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from _search_report import READING

import hashret
from hashret import kernels
from hashret._lazy import available
from hashret.index.auto import AutoIndex
from hashret.index.mih import MIHIndex
from hashret.kernels import native

MASKED = 0.01  # of the rows are selected by the mask
NUMPY_CODES = 6_400_000  # that numpy looks at in a run, or 8 queries: tens of milliseconds, up to a second at 10^7
RECALL = 0.95  # what the approximate ones are set to reach, where they can


@dataclass
class Peer:
    """One contestant.

    Attributes:
        name: as it stands in the table.
        run: (queries, k, threads) -> anything.
        exact: whether it has to agree with the others.
        most: the largest batch that is worth timing as a whole; of larger ones a part is timed.
        alone: whether it is only timed with a query alone.
        recall: of an approximate one, at the k it was made for.
        note: parameters, memory, build time.
    """

    name: str
    run: Callable[[Any, int, int], Any]
    exact: bool = True
    most: int = 1000
    alone: bool = False
    recall: float | None = None
    note: str = ""


def exact_peers(codes: Any, n_bits: int, *, levels: tuple[str, ...], others: bool) -> Iterator[Peer]:
    """FAISS flat in both settings, ours (native at each SIMD level and with a mask, multi-index
    hashing, the automatic choice, numpy), and a bare reading."""
    words = codes.reshape(-1).view(np.uint64)
    half, second = len(words) // 2, ThreadPoolExecutor(1)

    def read(queries: Any, k: int, threads: int) -> Any:
        if threads == 1:
            return np.bitwise_or.reduce(words)
        rest = second.submit(np.bitwise_or.reduce, words[half:])
        return np.bitwise_or.reduce(words[:half]) | rest.result()

    yield Peer(READING, read, exact=False, alone=True)
    if available("faiss"):
        import faiss

        index = faiss.IndexBinaryFlat(n_bits)
        index.add(codes)

        def flat(heap: bool) -> Callable[[Any, int, int], Any]:
            def run(queries: Any, k: int, threads: int) -> Any:
                faiss.omp_set_num_threads(threads if len(queries) > 1 else 1)  # a second one would only wait
                index.use_heap = heap
                return index.search(queries, k)

            return run

        yield Peer("faiss flat (heap)", flat(True), most=32)
        yield Peer("faiss flat (counting)", flat(False), most=32)
    if native.available():
        best = native.levels()[-1]
        for level in dict.fromkeys([best, *(name for name in levels if name in native.levels())]):

            def run(queries: Any, k: int, threads: int, level: str = level) -> Any:
                hashret.set_num_threads(threads)
                native.use_level(level)
                try:
                    return kernels.search_checked(codes, queries, k, n_bits=n_bits, backend="native")
                finally:
                    native.use_level(best)

            yield Peer("native" if level == best else f"native {level}", run)
        mask = np.random.default_rng(0).random(len(codes)) < MASKED

        def masked(queries: Any, k: int, threads: int) -> Any:
            hashret.set_num_threads(threads)
            return kernels.search_checked(codes, queries, k, n_bits=n_bits, mask=mask, backend="native")

        yield Peer("native, masked", masked, exact=False, alone=True)
        start = time.perf_counter()
        mih = MIHIndex(n_bits)
        mih._flat = hashret.FlatIndex.over(codes, n_bits=n_bits, backend="native")  # without a copy
        mih.build()
        info = mih.info()
        built = time.perf_counter() - start
        note = f"{info['bytes_per_code']:.1f} B/code, widths {info['widths']}, built in {built:.1f} s"

        def probe(queries: Any, k: int, threads: int) -> Any:
            hashret.set_num_threads(threads)
            return mih.search(queries, k)

        if info["tables"]:
            yield Peer("mih", probe, note=note)
        auto = AutoIndex(n_bits, backend="native")
        auto._flat = hashret.FlatIndex.over(codes, n_bits=n_bits, backend="native")
        auto._mih = mih if info["tables"] else None  # whose tables need not be made again
        hashret.set_num_threads(1)
        chosen = auto.info()

        def choose(queries: Any, k: int, threads: int) -> Any:
            hashret.set_num_threads(threads)
            return auto.search(queries, k)

        yield Peer("auto", choose, note=f"{chosen.single} for one query, {chosen.batch} for a batch: {chosen.reason}")
    if others:

        def plain(queries: Any, k: int, threads: int) -> Any:
            hashret.set_num_threads(threads)
            return kernels.search_checked(codes, queries, k, n_bits=n_bits, backend="numpy")

        yield Peer("numpy", plain, most=max(8, NUMPY_CODES // len(codes)))
        if available("usearch"):
            from usearch.index import MetricKind, search

            def brute(queries: Any, k: int, threads: int) -> Any:
                return search(codes, queries, k, MetricKind.Hamming, exact=True, threads=threads)

            yield Peer("usearch exact", brute, exact=False, most=2, recall=1.0)  # leaves ties in any order


def approximate_peers(codes: Any, n_bits: int, queries: Any, truth: Any, k: int) -> Iterator[Peer]:
    """FAISS IVF and HNSW and usearch HNSW, set to the smallest effort that reaches ``RECALL``, or to the largest."""
    import faiss

    faiss.omp_set_num_threads(2)
    lists = int(min(4096, max(64, 4 * len(codes) ** 0.5)))
    start = time.perf_counter()
    quantizer = faiss.IndexBinaryFlat(n_bits)
    ivf = faiss.IndexBinaryIVF(quantizer, n_bits, lists)
    ivf.cp.niter = 6
    ivf.train(codes[:: max(1, len(codes) // (40 * lists))])
    ivf.add(codes)
    built = time.perf_counter() - start

    def ivf_run(queries: Any, k: int, threads: int) -> Any:
        faiss.omp_set_num_threads(threads)
        return ivf.search(queries, k)

    def set_probe(value: int) -> None:
        ivf.nprobe = value

    yield _tuned(f"faiss ivf{lists}", ivf_run, set_probe, "nprobe", (1, 4, 16, 64, 256), queries, truth, k, built)
    start = time.perf_counter()
    hnsw = faiss.IndexBinaryHNSW(n_bits, 16)
    hnsw.add(codes)
    built = time.perf_counter() - start

    def hnsw_run(queries: Any, k: int, threads: int) -> Any:
        faiss.omp_set_num_threads(threads)
        return hnsw.search(queries, k)

    def set_effort(value: int) -> None:
        hnsw.hnsw.efSearch = value

    yield _tuned("faiss hnsw16", hnsw_run, set_effort, "efSearch", (16, 64, 256, 1024), queries, truth, k, built)
    if available("usearch"):
        from usearch.index import Index

        start = time.perf_counter()
        graph = Index(ndim=n_bits, metric="hamming", dtype="b1", connectivity=16)
        graph.add(np.arange(len(codes)), codes, threads=2)
        built = time.perf_counter() - start

        def graph_run(queries: Any, k: int, threads: int) -> Any:
            return graph.search(queries, k, threads=threads)

        def set_expansion(value: int) -> None:
            graph.expansion_search = value

        efforts = (16, 64, 256, 1024)
        yield _tuned("usearch hnsw16", graph_run, set_expansion, "expansion", efforts, queries, truth, k, built)


def _tuned(
    name: str,
    run: Callable[[Any, int, int], Any],
    set_effort: Callable[[int], None],
    effort: str,
    values: tuple[int, ...],
    queries: Any,
    truth: Any,
    k: int,
    built: float,
) -> Peer:
    for value in values:
        set_effort(value)
        recall = recall_of(run(queries, k, 2), truth)
        if recall >= RECALL:
            break
    return Peer(name, run, exact=False, most=64, recall=recall, note=f"{effort} {value}, built in {built:.0f} s")


def recall_of(result: Any, truth: Any) -> float:
    """The share of hits whose distance is at most the true k-th: ties cost nothing."""
    near = np.asarray(result.distances if hasattr(result, "distances") else result[0]).reshape(truth.distances.shape)
    keys = np.asarray(result.keys if hasattr(result, "keys") else result[1]).reshape(near.shape)
    return float(((keys >= 0) & (near <= truth.distances[:, -1:])).mean())


def disagreement(codes: Any, queries: Any, k: int, peers: list[Peer]) -> str:
    """What is wrong with the hits of an exact contestant, or ""; FAISS may order ties as it likes."""
    truth = None
    for peer in peers:
        if not peer.exact:
            continue
        near, rows = (np.asarray(part) for part in peer.run(queries, k, 1))
        if peer.name.startswith("faiss"):
            rows = None
        if truth is None:
            truth = near
        elif not np.array_equal(truth, near):
            return f"{peer.name} has other distances"
        if rows is not None:
            counted = np.bitwise_count(codes[rows] ^ queries[:, None]).sum(axis=2)
            if not np.array_equal(counted, near):
                return f"{peer.name} has rows that are not at its distances"
    return ""
