"""Tables of harmonic numbers and factorials, from which expected values over tie orders are read.

Knows numbers only: no codes, no rankings. The tables grow on demand and are shared by all measures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

SHORT = 64  # products of up to this many factors are multiplied out, which is exact; longer ones go by logarithms

_grown: dict[str, Floats] = {}


def harmonic(n: int) -> Floats:
    """``H[0..n]`` with ``H[k] = 1 + 1/2 + … + 1/k``, float64 of shape (n + 1,) or longer."""
    return _table("harmonic", n, lambda k: 1.0 / k)


def log_factorial(n: int) -> Floats:
    """``log(k!)`` for k = 0…n, float64 of shape (n + 1,) or longer."""
    return _table("log_factorial", n, np.log)


def discount(n: int) -> Floats:
    """``D[0..n]`` with ``D[k] = Σ_{rank ≤ k} 1 / log2(1 + rank)``, float64 of shape (n + 1,) or longer."""
    return _table("discount", n, lambda k: 1.0 / np.log2(1.0 + k))


def _table(name: str, n: int, term: object) -> Floats:
    table = _grown.get(name)
    if table is None or len(table) <= n:
        length = max(1024, int(n * 1.25))  # some room, so that a slightly larger database does not build it anew
        table = np.zeros(length + 1)
        np.cumsum(term(np.arange(1, length + 1, dtype=np.float64)), out=table[1:])  # type: ignore[operator]
        table.flags.writeable = False
        _grown[name] = table
    return table


def log_choose(n: ArrayLike, k: ArrayLike) -> Floats:
    """``log C(n, k)``, elementwise; minus infinity where the choice is impossible."""
    n, k = np.broadcast_arrays(np.asarray(n), np.asarray(k))
    possible = (k >= 0) & (k <= n)
    n_safe, k_safe = np.where(possible, n, 0), np.where(possible, k, 0)
    table = log_factorial(int(n_safe.max(initial=0)))
    return np.where(possible, table[n_safe] - table[k_safe] - table[n_safe - k_safe], -np.inf)


def chance_of_a_hit(n: ArrayLike, r: ArrayLike, draws: ArrayLike) -> Floats:
    """The probability that ``draws`` of ``n`` items, in random order, hold at least one of ``r`` relevant ones.

    ``1 - C(n - r, J) / C(n, J)`` with J = draws clipped to 0…n; zero where J or r is zero.
    """
    n, r, drawn = np.broadcast_arrays(np.asarray(n), np.asarray(r), np.clip(np.asarray(draws), 0, n))
    few, many = np.minimum(r, drawn), np.maximum(r, drawn)  # the ratio is the same with r and J exchanged
    none = np.ones(n.shape)
    if few.max(initial=0) <= SHORT:
        for i in range(int(few.max(initial=0))):
            taken = few > i
            none[taken] *= np.maximum(n[taken] - many[taken] - i, 0) / (n[taken] - i)
    else:
        none = np.exp(log_choose(n - r, drawn) - log_choose(n, drawn))
    # Rounding of the logarithms, about 1e-11, must not show up as a hit rate below zero.
    return np.where((drawn > 0) & (r > 0), np.clip(1.0 - none, 0.0, 1.0), 0.0)
