"""Intervals and paired tests: what they cover, and that they are not fooled by repeated queries."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hashret.errors import InputError
from hashret.evaluation.statistics import bootstrap, paired_test


def test_an_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        interval = bootstrap(rng.random(60) < 0.3, level=0.9, resamples=400, seed=seed)
        covered += interval.low <= 0.3 <= interval.high
    assert 165 <= covered <= 196  # 90 % of 200 is 180; the binomial's middle 99.8 %


def test_copies_of_a_query_do_not_narrow_the_interval_when_grouped() -> None:
    values = np.random.default_rng(1).random(50)
    plain = bootstrap(values)
    copied = bootstrap(np.repeat(values, 5), groups=np.repeat(np.arange(50), 5))
    naive = bootstrap(np.repeat(values, 5))
    assert (copied.low, copied.high, copied.n) == pytest.approx((plain.low, plain.high, plain.n))
    assert naive.high - naive.low < 0.6 * (plain.high - plain.low)


def test_queries_without_a_value_are_left_out() -> None:
    assert bootstrap([1.0, np.nan, 3.0]).value == 2
    assert bootstrap([1.0, np.nan, 3.0]).n == 2


def test_the_paired_test_is_the_share_of_sign_flips() -> None:
    gaps = np.array([0.5, -0.1, 0.3, 0.2, 0.4, 0.1, 0.25])
    flips = [abs(np.dot(signs, gaps)) for signs in itertools.product([-1, 1], repeat=len(gaps))]
    exact = np.mean([flip >= gaps.sum() - 1e-12 for flip in flips])
    result = paired_test(gaps, np.zeros(7))
    assert result.p_value == pytest.approx(exact, abs=0.01)
    assert result.difference == pytest.approx(gaps.mean())
    assert result.low < result.difference < result.high


def test_equal_systems_do_not_differ() -> None:
    values = np.random.default_rng(2).random(30)
    assert paired_test(values, values).p_value == 1


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="same queries"):
        paired_test([1.0, 2.0], [1.0])
    with pytest.raises(InputError, match="no query with a value"):
        bootstrap([np.nan])
    with pytest.raises(InputError, match="level"):
        bootstrap([1.0], level=95)
    with pytest.raises(InputError, match="groups"):
        bootstrap([1.0, 2.0], groups=[1])
    with pytest.raises(InputError, match=r"one value a query.*\(2, 3\)"):
        paired_test(np.ones((2, 3)), np.zeros((2, 3)))
