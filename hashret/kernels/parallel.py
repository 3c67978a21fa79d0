"""Work divided among threads, for back ends whose inner loops release the GIL.

The threads live for one call only: a pool of Python's that outlives it would not survive a fork (the C extension has
threads of its own, which end at one). Must not know what is done.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")


def pieces(count: int, parts: int) -> list[tuple[int, int]]:
    """The range 0 to ``count`` as at most ``parts`` (start, end) of nearly equal length, none of them empty."""
    parts = max(1, min(parts, count))
    edges = [count * i // parts for i in range(parts + 1)]
    return list(pairwise(edges))


def in_threads(work: Callable[[int, int], T], parts: list[tuple[int, int]]) -> list[T]:
    """``work(start, end)`` of every part, in the order of the parts; a single part runs in the caller's thread."""
    if len(parts) <= 1:
        return [work(start, end) for start, end in parts]
    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(work, *zip(*parts)))
