"""Another Python thread goes on while the C extension searches."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from hashret import MIHIndex, kernels
from hashret.index import mih
from hashret.kernels import native

pytestmark = pytest.mark.skipif(not native.available(), reason="the C extension was not built here")

N_BITS = 64


@pytest.fixture(scope="module")
def codes() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1_000_000, N_BITS // 8), np.uint8)


@pytest.fixture
def ticks() -> Iterator[list[int]]:
    """How far another thread has come; nobody takes the GIL from a thread that does not give it up."""
    count, ends, interval = [0], threading.Event(), sys.getswitchinterval()

    def tick() -> None:
        while not ends.is_set():
            count[0] += 1
            time.sleep(0)  # gives the GIL up, and comes back at once

    thread = threading.Thread(target=tick)
    sys.setswitchinterval(1000)
    kernels.set_num_threads(1)  # what runs in threads of Python gives the GIL up by waiting for them
    thread.start()
    try:
        yield count
    finally:
        ends.set()
        thread.join()
        kernels.set_num_threads(None)
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("what", ["search", "range_search", "mih build", "mih search", "mih range_search"])
def test_the_gil_is_free_during(what, codes, ticks, monkeypatch):
    index = MIHIndex(N_BITS)
    if what.startswith("mih"):
        for cost in ("PROBE_NS", "CANDIDATE_NS"):
            monkeypatch.setattr(mih, cost, 0.0)
        index.add(codes[:300_000])
        index.build()
    work = {
        "search": lambda: kernels.search(codes, codes[:200], 10, n_bits=N_BITS, backend="native"),
        "range_search": lambda: kernels.range_search(codes, codes[:200], 16, n_bits=N_BITS, backend="native"),
        "mih build": index.build,
        "mih search": lambda: index.search(codes[-200:], 1),
        "mih range_search": lambda: index.range_search(codes[-200:], 9),
    }[what]

    def during() -> int:
        before = ticks[0]
        work()
        return ticks[0] - before

    # hundreds in a search, or a few where the GIL is held but for a lock; a busy machine may not run the thread at once
    assert any(during() > 10 for _ in range(50))
    assert what in ("search", "range_search", "mih build") or index.last.scanned == 0
