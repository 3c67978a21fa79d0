"""What each measure is, as a formula over buckets: the expected value over all orders of tied items.

Every function takes ``Buckets`` and gives one number a query, (q,) float64. With buckets of one kind of item each,
as ``Buckets.pure`` and the stable order make them, nothing is left to chance and the value is the plain one.

Symbols. Bucket d holds n items, r of them relevant, after N items and R' relevant ones in nearer buckets; R is the
number of relevant items in the database, H the harmonic numbers, D the cumulative discount Σ 1 / log2(1 + rank).

*Source:* McSherry and Najork, "Computing information retrieval performance measures efficiently in the presence of
tied scores", ECIR 2008; He, Cakir, Bargal and Sclaroff, "Hashing as tie-aware learning to rank", CVPR 2018. The exact
values of ``found`` and ``first_hits`` follow from the hypergeometric distribution, as their docstrings say.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hashret.evaluation._tables import chance_of_a_hit, discount, harmonic, log_choose
from hashret.evaluation.buckets import Buckets

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def average_precision(buckets: Buckets, *, cut: int | None, norm: str) -> Floats:
    """AP, cut after ``cut`` ranks and divided in one of four ways that share the name in the literature.

    ``AP = (1 / Z) Σ_d (r/n) Σ_{t=1}^{J} [R' + 1 + (t-1)(r-1)/(n-1)] / (N + t)`` with J = min(n, cut - N).

    Args:
        buckets: the rankings.
        cut: ranks that count; None for all.
        norm: Z. "all" divides by R (trec_eval), "min" by min(R, cut) (standard IR in hashing), "found" by the relevant
            items within the cut (DeepHash), "first" takes the first min(R, cut) relevant items wherever they rank
            (DCHMT). Without a cut all four are the same.
    """
    if cut is None:
        return _divide(_precision_sum(buckets, None).sum(axis=1), buckets.n_relevant)
    if norm == "found":
        return _found(buckets, cut)
    if norm == "first":
        return _first_hits(buckets, cut)
    z = buckets.n_relevant if norm == "all" else np.minimum(buckets.n_relevant, cut)
    return _divide(_precision_sum(buckets, cut).sum(axis=1), z)


def ndcg(buckets: Buckets, *, cut: int | None, gain: str) -> Floats:
    """``Σ_d ḡ_d (D(N + n) - D(N)) / IDCG``, ḡ the mean gain in bucket d; ranks are clipped to ``cut``.

    Args:
        buckets: the rankings.
        cut: ranks that count; None for all.
        gain: "exp" for 2^level - 1, "linear" for the level.
    """
    levels = np.arange(buckets.counts.shape[1], dtype=np.float64)
    gains = 2.0**levels - 1.0 if gain == "exp" else levels
    table = discount(int(buckets.items.sum(axis=1).max(initial=0)))

    def discounted(counts: Ints, mean_gain: Floats) -> Floats:
        ends = np.cumsum(counts, axis=1)
        starts, stops = ends - counts, ends
        if cut is not None:
            starts, stops = np.minimum(starts, cut), np.minimum(stops, cut)
        total: Floats = (mean_gain * (table[stops] - table[starts])).sum(axis=1)
        return total

    mean_gain = _divide(np.einsum("qlb,l->qb", buckets.counts, gains), buckets.items)
    ideal = discounted(buckets.counts.sum(axis=2)[:, ::-1], np.broadcast_to(gains[::-1], (1, len(gains))))
    return _divide(discounted(buckets.items, mean_gain), ideal)


def precision(buckets: Buckets, *, cut: int) -> Floats:
    """``Σ_d r J / n / cut`` with J = min(n, cut - N): relevant items among the first ``cut``, over ``cut``."""
    inside = np.clip(cut - buckets.items_before, 0, buckets.items)
    share: Floats = _divide(buckets.relevant * inside, buckets.items).sum(axis=1) / cut
    return share


def hit(buckets: Buckets, *, cut: int) -> Floats:
    """``1 - C(n - r, J) / C(n, J)`` in the first bucket with a relevant item: any of them among the first ``cut``."""
    n, r, before = _first_relevant(buckets)
    return chance_of_a_hit(n, r, cut - before)


def rank(buckets: Buckets) -> Floats:
    """``N + (n + 1) / (r + 1)`` in the first bucket with a relevant item; NaN where no item is relevant."""
    n, r, before = _first_relevant(buckets)
    return np.where(r > 0, before + (n + 1) / (r + 1), np.nan)


def ball_precision(buckets: Buckets, *, radius: int) -> Floats:
    """Relevant share of the items within ``radius``; 0 where there are none. Buckets must be distances."""
    relevant = buckets.relevant[:, : radius + 1].sum(axis=1)
    return _divide(relevant, buckets.items[:, : radius + 1].sum(axis=1))


def ball_empty(buckets: Buckets, *, radius: int) -> Floats:
    """1 where no item lies within ``radius``, else 0. Buckets must be distances."""
    inside = buckets.items[:, : radius + 1].sum(axis=1)
    empty: Floats = np.equal(inside, 0).astype(np.float64)
    return empty


def _precision_sum(buckets: Buckets, cut: int | None) -> Floats:
    """(q, n_buckets), the expected sum of precisions at the relevant ranks of each bucket, within the cut.

    ``Σ_{t=1}^{J} [R' + 1 + m (t-1)] / (N + t) = (R' + 1 - m (N + 1)) (H[N + J] - H[N]) + m J``, m = (r-1)/(n-1).
    """
    n, before = buckets.items, buckets.items_before
    inside = n if cut is None else np.clip(cut - before, 0, n)
    return _bucket_sum(n, buckets.relevant, before, buckets.relevant_before, inside)


def _bucket_sum(n: Ints, r: Ints, before: Ints, hits_before: Ints, inside: Ints) -> Floats:
    table = harmonic(int((before + inside).max(initial=0)))
    slope = _divide(r - 1, n - 1)
    total = (hits_before + 1 - slope * (before + 1)) * (table[before + inside] - table[before]) + slope * inside
    expected: Floats = _divide(r, n) * total
    return expected


def _found(buckets: Buckets, cut: int) -> Floats:
    """AP over the hits within the cut, exactly.

    Only the bucket that the cut divides makes the divisor random. It has h hits among its J places inside the cut
    with the hypergeometric probability of (n, r, J), and given h they fall anywhere among the J places, so that the
    sum of precisions is that of a bucket of J items with h relevant: ``Σ_h P(h) (A + S(J, h)) / (R' + h)``.
    """
    n, before, r = buckets.items, buckets.items_before, buckets.relevant
    inside = np.clip(cut - before, 0, n)
    divided = (inside > 0) & (inside < n)
    whole = (inside == n) & (n > 0)
    sure = np.where(whole, _bucket_sum(n, r, before, buckets.relevant_before, n), 0.0).sum(axis=1)
    hits = np.where(whole, r, 0).sum(axis=1)
    value = _divide(sure, hits)
    rows = np.flatnonzero(divided.any(axis=1))
    if not len(rows):
        return value
    at = divided[rows].argmax(axis=1)
    n, r, before, inside = (part[rows, at][:, None] for part in (n, r, before, inside))
    hits, sure = hits[rows, None], sure[rows, None]
    h = np.arange(int(np.minimum(r, inside).max()) + 1)[None, :]
    probability = np.exp(log_choose(r, h) + log_choose(n - r, inside - h) - log_choose(n, inside))
    total = sure + _bucket_sum(inside, np.minimum(h, inside), before, hits, inside)
    value[rows] = (probability * _divide(total, hits + h)).sum(axis=1)
    return value


def _first_hits(buckets: Buckets, cut: int) -> Floats:
    """Mean precision at the first T = min(R, cut) relevant items, wherever they rank, exactly.

    In the bucket where the T-th lies, place t is relevant with probability r/n, and then has h relevant items of the
    same bucket before it, h hypergeometric (n - 1, r - 1, t - 1); it counts where h < T - R'.
    """
    wanted = np.minimum(buckets.n_relevant, cut)
    after = buckets.relevant_before + buckets.relevant
    whole = np.where(after <= wanted[:, None], _precision_sum(buckets, None), 0.0).sum(axis=1)
    divided = (buckets.relevant_before < wanted[:, None]) & (after > wanted[:, None])
    for row in np.flatnonzero(divided.any(axis=1)):
        d = int(divided[row].argmax())
        n, r = int(buckets.items[row, d]), int(buckets.relevant[row, d])
        before, hits = int(buckets.items_before[row, d]), int(buckets.relevant_before[row, d])
        most = int(wanted[row]) - hits - 1
        t = np.arange(1, n + 1)
        below = _at_most(most, n - 1, r - 1)  # P(h <= most) after t - 1 draws
        # E[h; h <= most] = (t-1)(r-1)/(n-1) P(h' <= most - 1), h' hypergeometric (n-2, r-2, t-2)
        shifted = np.concatenate([[0.0], _at_most(most - 1, n - 2, r - 2)])
        mean = (t - 1) * (r - 1) / (n - 1) * shifted
        whole[row] += float((r / n * ((hits + 1) * below + mean) / (before + t)).sum())
    return _divide(whole, wanted)


def _at_most(most: int, n: int, r: int) -> Floats:
    """(n + 1,), the probability of at most ``most`` relevant items among the first 0 … n of n items, r relevant.

    Each further draw takes it down by the probability that the count was ``most`` and that the draw is relevant.
    """
    if most < 0:
        return np.zeros(n + 1)
    draws = np.arange(n)
    exactly = np.exp(log_choose(r, most) + log_choose(n - r, draws - most) - log_choose(n, draws))
    falls = exactly * max(r - most, 0) / (n - draws)
    return np.clip(1.0 - np.concatenate([[0.0], np.cumsum(falls)]), 0.0, 1.0)


def _first_relevant(buckets: Buckets) -> tuple[Ints, Ints, Ints]:
    """n, r and N of each query's first bucket with a relevant item; r is 0 where there is none."""
    rows = np.arange(len(buckets.counts))
    at = (buckets.relevant > 0).argmax(axis=1)
    return buckets.items[rows, at], buckets.relevant[rows, at], buckets.items_before[rows, at]


def _divide(numerator: NDArray[np.generic], denominator: NDArray[np.generic]) -> Floats:
    """The quotient, zero where the denominator is zero."""
    shape = np.broadcast_shapes(numerator.shape, denominator.shape)
    quotient: Floats = np.divide(numerator, denominator, out=np.zeros(shape), where=np.asarray(denominator) != 0)
    return quotient
