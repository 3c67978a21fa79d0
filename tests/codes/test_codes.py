"""Packing, unpacking, checking and cutting codes, and the report on them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hashret
from hashret.codes import bytes_for, check_codes, prefix, report
from hashret.errors import CodeError, InputError


def test_the_order_of_bits():
    """Bit j is bit 7 - j % 8 of byte j // 8; padding bits are zero; a bit is x > 0."""
    relaxed = np.full((1, 11), -0.5)
    relaxed[0, [0, 9]] = 0.1, np.inf
    relaxed[0, 3] = 0.0
    codes = hashret.pack(relaxed)
    assert codes.tolist() == [[0b1000_0000, 0b0100_0000]]
    assert codes.dtype == np.uint8 and codes.flags.c_contiguous
    bits = hashret.unpack(codes, n_bits=11)
    assert bits.dtype == bool and np.flatnonzero(bits).tolist() == [0, 9]


@given(seed=st.integers(0, 2**32), count=st.integers(0, 30), n_bits=st.integers(1, 600))
def test_unpack_undoes_pack(seed, count, n_bits):
    bits = np.random.default_rng(seed).random((count, n_bits)) < 0.5
    codes = hashret.pack(bits)
    assert codes.shape == (count, bytes_for(n_bits))
    np.testing.assert_array_equal(hashret.unpack(codes, n_bits=n_bits), bits)
    np.testing.assert_array_equal(hashret.pack(np.where(bits, 0.3, -0.3).astype(np.float16)), codes)
    assert check_codes(codes, n_bits=n_bits) is not None


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_of_any_width(dtype):
    assert hashret.pack(np.array([[1, -1, 0, 1e-7]], dtype)).tolist() == [[0b1001_0000]]


def test_one_code_gives_one_row():
    assert hashret.pack(np.array([1.0, -1.0])).tolist() == [[0b1000_0000]]
    assert hashret.unpack(np.array([0b1000_0000], np.uint8), n_bits=2).tolist() == [[True, False]]
    assert prefix(np.array([0xFF], np.uint8), n_bits=2).tolist() == [[0b1100_0000]]


@pytest.mark.parametrize(
    ("relaxed", "words"),
    [
        (np.array([[0.1, 0.2], [0.3, np.nan]]), "NaN, first in row 1"),
        (np.ones((2, 8), np.int64), "int64.*values > 0"),
        (np.ones((2, 8), np.uint8), "uint8"),
        (np.ones((2, 2, 2)), "shape"),
        (np.float32(0.1), "shape"),
        (np.array([["a"]]), "floats or bools"),
        ([[0.5], [1.0, 2.0]], "rows of one length"),
    ],
)
def test_pack_refuses_what_has_no_bits(relaxed, words):
    with pytest.raises(CodeError, match=words):
        hashret.pack(relaxed)


@pytest.mark.parametrize("n_bits", [0, -8, 4097, 8.0, "8", True, None])
def test_widths_that_are_none(n_bits):
    with pytest.raises(InputError, match="n_bits must be"):
        bytes_for(n_bits)


def test_check_copies_only_where_it_must():
    codes = np.zeros((4, 2), np.uint8)
    assert np.shares_memory(check_codes(codes, n_bits=16), codes)
    turned = np.asfortranarray(codes)
    assert check_codes(turned, n_bits=16).flags.c_contiguous
    assert type(check_codes(codes.view(np.recarray), n_bits=16)) is np.ndarray


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ([[0, 0]], "numpy array of uint8, not list"),
        (np.zeros((1, 2), bool), "packed uint8, not bool"),
        (np.zeros(2, np.uint8), "shape"),
        (np.zeros((1, 3), np.uint8), "2 bytes wide, and these are 3 bytes"),
        (np.array([[0, 1]], np.uint8), "zeros in the last 4 padding bits"),
    ],
)
def test_check_says_what_is_wrong(codes, words):
    with pytest.raises(CodeError, match=words):
        check_codes(codes, n_bits=12)
    with pytest.raises(CodeError, match=r"^the new ones"):
        check_codes(codes, n_bits=12, what="the new ones")


@given(seed=st.integers(0, 2**32), n_bits=st.integers(1, 200), kept=st.integers(1, 200))
def test_prefix_is_the_first_bits(seed, n_bits, kept):
    bits = np.random.default_rng(seed).random((5, n_bits)) < 0.5
    codes = hashret.pack(bits)
    if bytes_for(kept) > codes.shape[1]:
        with pytest.raises(CodeError, match="ask for fewer"):
            prefix(codes, n_bits=kept)
    else:
        expected = np.zeros((5, kept), bool)
        expected[:, :n_bits] = bits[:, :kept]
        np.testing.assert_array_equal(prefix(codes, n_bits=kept), hashret.pack(expected))
    with pytest.raises(CodeError, match="packed codes"):
        prefix(bits, n_bits=1)


def test_report_of_independent_bits():
    bits = np.array([[i >> j & 1 for j in range(10)] for i in range(1024)], bool)
    found = report(hashret.pack(bits), n_bits=10)
    assert (found.count, found.n_bits, found.constant, found.distinct) == (1024, 10, 0, 1024)
    assert found.balance == found.entropy == 1.0
    assert found.max_correlation == pytest.approx(0, abs=1e-12)


def test_report_of_poor_bits():
    rng = np.random.default_rng(0)
    bits = rng.random((20_000, 6)) < 0.5
    bits[:, 1] = ~bits[:, 0]
    bits[:, 2] = True
    bits[:, 3] = np.arange(20_000) % 4 == 0
    found = report(hashret.pack(bits), n_bits=6)
    assert found.max_correlation == pytest.approx(1)
    assert found.constant == 1 and found.ones[2] == 1 and found.ones[3] == 0.25
    expected = [1, 1, 0, -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75)), 1, 1]
    assert found.entropy == pytest.approx(np.mean(expected), abs=1e-3)
    assert found.balance == pytest.approx(np.mean([1, 1, 0, 0.5, 1, 1]), abs=0.01)
    assert found.distinct == len(np.unique(bits, axis=0))
    truth = np.corrcoef(bits[:, [0, 3]].T.astype(float))[0, 1]
    assert report(hashret.pack(bits[:, [0, 3]]), n_bits=2).max_correlation == pytest.approx(abs(truth), abs=1e-9)


def test_report_needs_codes():
    with pytest.raises(CodeError, match="at least one code"):
        report(np.zeros((0, 1), np.uint8), n_bits=8)
    assert report(np.zeros((1, 1), np.uint8), n_bits=8).constant == 8
