"""Which back end runs, how many threads it gets, and distances of all pairs."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hashret
from hashret import kernels
from hashret.errors import CodeError, ConfigError, InputError
from hashret.registry import Registry


def test_auto_takes_the_first_that_can_run(monkeypatch):
    monkeypatch.delenv("HASHRET_BACKEND", raising=False)
    assert kernels.choose_backend()[0] == kernels.available_backends()[0]
    assert kernels.available_backends()[-1] == "numpy"


def test_the_environment_chooses_and_an_argument_overrides_it(monkeypatch):
    monkeypatch.setenv("HASHRET_BACKEND", "numpy")
    assert kernels.choose_backend()[0] == "numpy"
    assert kernels.choose_backend("auto")[0] == "numpy"
    assert kernels.choose_backend("faiss")[0] == "faiss"
    monkeypatch.setenv("HASHRET_BACKEND", "")  # as good as none
    assert kernels.choose_backend()[0] == kernels.available_backends()[0]


def test_an_unknown_back_end_names_the_nearest(monkeypatch):
    with pytest.raises(ConfigError, match="did you mean 'numpy'"):
        kernels.choose_backend("nunpy")
    monkeypatch.setenv("HASHRET_BACKEND", "cuda")
    with pytest.raises(ConfigError, match=r"^HASHRET_BACKEND: there is no back end 'cuda'"):
        kernels.search(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8), 1, n_bits=8)


def test_a_back_end_of_ones_own_joins_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "own_backend.py").write_text(
        "from hashret.kernels import _numpy as counting\nclass Broken:\n    available = staticmethod(lambda: False)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("back end", {**kernels.BACKENDS.entries, "mine": "own_backend:counting"})
    registry.register("broken", "own_backend:Broken")
    monkeypatch.setattr(kernels, "BACKENDS", registry)
    assert "mine" in kernels.available_backends() and "broken" not in kernels.available_backends()
    codes = np.arange(8, dtype=np.uint8)[:, None]
    assert kernels.search(codes, codes[3], 1, n_bits=8, backend="mine").rows.tolist() == [[3]]
    with pytest.raises(InputError, match=r"'broken' cannot run here.*choose one of .*numpy"):
        kernels.choose_backend("broken")


def test_threads_default_to_all_cores_and_can_be_set():
    assert kernels.get_num_threads() == len(os.sched_getaffinity(0))
    hashret.set_num_threads(3)
    try:
        assert kernels.get_num_threads() == 3
        for wrong in (0, -1, 1.5, True, "2"):
            with pytest.raises(InputError, match="number of threads"):
                hashret.set_num_threads(wrong)
        assert kernels.get_num_threads() == 3
    finally:
        hashret.set_num_threads(None)


@given(seed=st.integers(0, 2**32), a=st.integers(0, 40), b=st.integers(0, 40), n_bytes=st.integers(1, 70))
def test_hamming_counts_differing_bits(seed, a, b, n_bytes):
    rng = np.random.default_rng(seed)
    left, right = (rng.integers(0, 256, (count, n_bytes), dtype=np.uint8) for count in (a, b))
    expected = np.unpackbits(left[:, None] ^ right[None], axis=2).sum(axis=2, dtype=np.int32)
    got = hashret.hamming(left, right)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, expected)


def test_hamming_over_several_blocks():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 256, (3, 5), dtype=np.uint8), rng.integers(0, 256, (140_000, 5), dtype=np.uint8)
    expected = np.bitwise_count(left[:, None] ^ right[None]).sum(axis=2)
    np.testing.assert_array_equal(hashret.hamming(left, right), expected)
    np.testing.assert_array_equal(hashret.hamming(left[0], right[7]), expected[:1, 7:8])


def test_hamming_refuses_what_has_no_distance():
    codes = np.zeros((2, 4), np.uint8)
    with pytest.raises(CodeError, match="one width, and these are 4 and 3 bytes"):
        hashret.hamming(codes, codes[:, :3])
    with pytest.raises(CodeError, match="first codes must be packed uint8"):
        hashret.hamming(codes.astype(np.float32), codes)
    with pytest.raises(CodeError, match="second codes must be a numpy array"):
        hashret.hamming(codes, [[1, 2, 3, 4]])


def test_the_fallback_is_numpy_where_nothing_else_is(monkeypatch):
    """As on a machine without faiss: import of it fails."""
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert "faiss" not in kernels.available_backends()
    with pytest.raises(InputError, match="'faiss' cannot run here"):
        kernels.choose_backend("faiss")


def test_where_faiss_miscounts_it_does_not_answer(monkeypatch, truth, make_codes):
    """As on ARM, for codes of 32 bytes and more."""
    monkeypatch.setattr(kernels._faiss, "counts_right", lambda n_bytes: False)
    monkeypatch.setattr(kernels._faiss, "_scan", None)
    rng = np.random.default_rng(1)
    codes, queries = make_codes(rng, 500, 256, "duplicates"), make_codes(rng, 3, 256)
    found = kernels.search(codes, queries, 5, n_bits=256, backend="faiss")
    for got, expected in zip(found, truth(codes, queries, 5)):
        np.testing.assert_array_equal(got, expected)
    within = kernels.range_search(codes, queries, 120, n_bits=256, backend="faiss")
    for got, expected in zip(within, truth.ranged(codes, queries, 120)):
        np.testing.assert_array_equal(got, expected)
