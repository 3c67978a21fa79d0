"""How sure a figure is: bootstrap intervals, and paired tests of two systems over the same queries.

Takes per-query values and knows nothing of where they come from. Queries that belong together (the captions of one
picture) are resampled together when ``groups`` says so; taken one by one they would make intervals too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashret.errors import InputError

CELLS = 1 << 22  # resampled values in memory at a time: 32 MiB


@dataclass(frozen=True)
class Interval:
    """A mean and its bootstrap interval.

    Attributes:
        value: mean over the queries that have a value.
        low, high: percentile bounds.
        level: share of resamples inside.
        n: units resampled (queries, or groups of them).
    """

    value: float
    low: float
    high: float
    level: float
    n: int


@dataclass(frozen=True)
class PairedTest:
    """A comparison of two systems over the same queries.

    Attributes:
        difference: mean of the first minus mean of the second.
        low, high: bounds of its bootstrap interval.
        p_value: of the two-sided sign-flip randomisation test of "no difference".
        n: units compared (queries, or groups of them).
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def bootstrap(
    values: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0, groups: ArrayLike | None = None
) -> Interval:
    """The percentile bootstrap interval of a mean.

    Args:
        values: (Q,) per-query values; NaN = the query has none, and is left out.
        level: share of the resamples inside the interval.
        resamples: how many.
        seed: of the resampling.
        groups: (Q,) which queries belong together, such as ``owner`` for captions.

    Raises:
        InputError: no values, or options out of range.

    *Source:* Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapter 13.
    """
    sums, counts = _units(values, groups)
    _check(level, resamples)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    step = max(1, CELLS // len(sums))
    for start in range(0, resamples, step):
        picks = rng.integers(0, len(sums), (min(step, resamples - start), len(sums)))
        means[start : start + step] = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high), level, len(sums))


def paired_test(
    first: ArrayLike,
    second: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    groups: ArrayLike | None = None,
) -> PairedTest:
    """Whether two systems differ, query by query.

    Under "no difference" the sign of each query's (or group's) difference is arbitrary; the p-value is the share of
    random sign flips with a mean at least as far from zero, the observed one included.

    Args:
        first: (Q,) values of one system.
        second: (Q,) of the other, same queries in the same order; a query without a value in either is left out.
        level: of the interval.
        resamples: sign flips, and resamples of the interval.
        seed: of both.
        groups: (Q,) which queries belong together.

    Raises:
        InputError: different numbers of queries, or no query with both values.

    *Source:* Smucker, Allan and Carterette, "A comparison of statistical significance tests for information retrieval
    evaluation", CIKM 2007.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != two.shape:
        raise InputError(f"a paired test needs the same queries, and there are {one.shape} and {two.shape} values")
    gap = one - two
    interval = bootstrap(gap, level=level, resamples=resamples, seed=seed, groups=groups)
    sums, _ = _units(gap, groups)
    observed = abs(sums.sum())
    rng = np.random.default_rng(seed)
    reached = 0
    step = max(1, CELLS // len(sums))
    for start in range(0, resamples, step):
        signs = rng.integers(0, 2, (min(step, resamples - start), len(sums))) * 2 - 1
        reached += int((np.abs(signs @ sums) >= observed * (1 - 1e-12)).sum())
    return PairedTest(interval.value, interval.low, interval.high, (reached + 1) / (resamples + 1), interval.n)


def _units(values: ArrayLike, groups: ArrayLike | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of the values of each unit that has any."""
    numbers = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(numbers)
    if numbers.ndim != 1:
        raise InputError(f"an interval is over one value a query, (Q,), and these have the shape {numbers.shape}")
    if not known.any():
        raise InputError("there is no query with a value: an interval needs at least one")
    if groups is None:
        return numbers[known], np.ones(int(known.sum()))
    labels = np.asarray(groups)
    if labels.shape != numbers.shape:
        raise InputError(f"groups has the shape {labels.shape}, and there are {len(numbers):,} values")
    _, unit = np.unique(labels[known], return_inverse=True)
    return np.bincount(unit, numbers[known]).astype(np.float64), np.bincount(unit).astype(np.float64)


def _check(level: float, resamples: int) -> None:
    if not 0 < level < 1 or resamples < 1:
        raise InputError(f"level lies between 0 and 1 and resamples is at least 1, not {level} and {resamples}")
