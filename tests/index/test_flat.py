"""The flat index: what it finds, how it grows, whose memory it uses, and asymmetric search."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hashret
from hashret import kernels
from hashret.errors import CodeError, ConfigError, InputError
from hashret.index import CodeIndex, FlatIndex, MIHIndex, rescore


def random_codes(seed, count, n_bits):
    return hashret.pack(np.random.default_rng(seed).random((count, n_bits)) < 0.5)


@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(0, 40), max_size=8), n_bits=st.integers(1, 130))
@settings(deadline=None)
def test_adding_in_parts_is_adding_at_once(seed, sizes, n_bits):
    codes, queries = random_codes(seed, sum(sizes), n_bits), random_codes(seed + 1, 3, n_bits)
    index = FlatIndex(n_bits)
    start = 0
    for size in sizes:
        index.add(codes[start : start + size])
        start += size
    np.testing.assert_array_equal(index.codes, codes)
    expected = kernels.search(codes, queries, 7, n_bits=n_bits)
    for got, want in zip(index.search(queries, 7), expected):
        np.testing.assert_array_equal(got, want)
    for got, want in zip(
        index.range_search(queries, n_bits // 3), kernels.range_search(codes, queries, n_bits // 3, n_bits=n_bits)
    ):
        np.testing.assert_array_equal(got, want)


def test_it_is_a_code_index():
    index = FlatIndex(100)
    assert isinstance(index, CodeIndex)
    assert len(index) == 0 and index.n_bits == 100 and index.codes.shape == (0, 13)
    assert index.search(np.zeros(13, np.uint8), 2).rows.tolist() == [[-1, -1]]
    assert "FlatIndex(n_bits=100, codes=0" in repr(index)


def test_mask_and_radius():
    codes = random_codes(0, 50, 64)
    index = FlatIndex(64)
    index.add(codes)
    mask = np.arange(50) % 2 == 1
    hits = index.search(codes[:4], 3, mask=mask, radius=0)
    assert hits.rows[:, 0].tolist() == [-1, 1, -1, 3] and (hits.rows[:, 1:] == -1).all()
    assert index.range_search(codes[:4], 0, mask=mask).rows.tolist() == [1, 3]


def test_what_does_not_fit_leaves_the_index_as_it_was():
    index = FlatIndex(12)
    index.add(random_codes(0, 5, 12))
    before = index.codes.copy()
    for wrong in (np.zeros((2, 3), np.uint8), np.full((2, 2), 255, np.uint8), np.zeros((2, 2)), [[0, 0]]):
        with pytest.raises(CodeError):
            index.add(wrong)
    np.testing.assert_array_equal(index.codes, before)


@pytest.mark.parametrize("kind", [FlatIndex, MIHIndex])
def test_more_hits_than_memory_are_refused(kind):
    index = kind(64)
    index.add(random_codes(0, 10, 64))
    for k in (10**12, 10**30):
        with pytest.raises(InputError, match="the 10 codes that there are"):
            index.search(index.codes[:1], k)
    for oversample in (10**9, np.int64(2)):
        assert index.search_asymmetric(np.ones((1, 64)), 3, oversample=oversample).rows.shape == (1, 3)


def test_codes_are_a_read_only_view():
    index = FlatIndex(8)
    index.add(np.array([1], np.uint8))
    with pytest.raises(ValueError, match="read-only"):
        index.codes[0, 0] = 3
    index.add(np.array([[2]], np.uint8))
    assert index.codes.tolist() == [[1], [2]]


def test_what_was_added_may_change_afterwards():
    index, codes = FlatIndex(8), np.array([[1]], np.uint8)
    index.add(codes)
    codes[0, 0] = 9
    assert index.codes.tolist() == [[1]]


def test_over_an_array_copies_nothing_and_follows_it(tmp_path):
    codes = random_codes(1, 100, 64)
    (tmp_path / "codes").write_bytes(codes.tobytes())
    mapped = np.memmap(tmp_path / "codes", np.uint8, "r", shape=(40, 8))
    index = FlatIndex.over(mapped, n_bits=64)
    assert np.shares_memory(index.codes, mapped) and len(index) == 40
    assert index.search(codes[70], 1, radius=0).rows.tolist() == [[-1]]
    index.refresh(np.memmap(tmp_path / "codes", np.uint8, "r", shape=(100, 8)))
    assert index.search(codes[70], 1, radius=0).rows.tolist() == [[70]]
    with pytest.raises(CodeError, match="cannot be refreshed to 40"):
        index.refresh(mapped)
    with pytest.raises(CodeError, match="C-contiguous"):
        FlatIndex.over(np.asfortranarray(codes), n_bits=64)
    with pytest.raises(CodeError, match="packed uint8"):
        index.refresh(np.zeros((200, 8)))
    with pytest.raises(CodeError, match="numpy array"):
        index.refresh([[0] * 8])
    index.add(codes[:1])  # from here on memory of its own
    assert len(index) == 101 and not np.shares_memory(index.codes, mapped)
    assert (tmp_path / "codes").read_bytes() == codes.tobytes()


def test_refresh_checks_only_what_is_new():
    codes = np.zeros((4, 2), np.uint8)
    index = FlatIndex.over(codes[:2], n_bits=12)
    codes[3, 1] = 1
    with pytest.raises(CodeError, match="padding"):
        index.refresh(codes)
    assert len(index) == 2
    index.refresh(codes[:3])
    assert len(index) == 3


def test_a_back_end_of_choice(monkeypatch):
    assert FlatIndex(64, backend="numpy").backend == "numpy"
    with pytest.raises(ConfigError, match="no back end 'nunpy'"):
        FlatIndex(64, backend="nunpy")
    for wrong in (0, 4097, 1.5):
        with pytest.raises(InputError, match="n_bits"):
            FlatIndex(wrong)


def test_searching_while_codes_are_added():
    """Each batch is nearer to the query than the last, so that whoever sees a row too early or torn finds it."""
    index, query = FlatIndex(64), np.zeros(8, np.uint8)
    index.add(np.full((1, 8), 255, np.uint8))
    problems = []

    def look():
        while not done.is_set():
            hits = index.search(query, 1)
            wanted = -(-int(hits.rows[0, 0]) // 50)  # the batch of the row: 64 - batch bits differ
            if hits.distances[0, 0] != 64 - wanted or hits.rows[0, 0] not in (0, 50 * wanted - 49):
                problems.append((hits.distances[0, 0], hits.rows[0, 0]))

    done = threading.Event()
    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    for batch in range(1, 61):
        index.add(np.repeat(np.packbits(np.arange(64) >= batch)[None], 50, axis=0))
    done.set()
    for reader in readers:
        reader.join()
    assert not problems and len(index) == 3001


def asymmetric_truth(codes, relaxed, n_bits, rows):
    signs = np.where(hashret.unpack(codes, n_bits=n_bits), 1.0, -1.0)
    scores = (relaxed @ signs.T).astype(np.float32)
    return [sorted(rows[i], key=lambda row: -scores[i, row]) for i in range(len(relaxed))], scores


@pytest.mark.parametrize("n_bits", [16, 100, 128])
def test_asymmetric_search_orders_candidates_by_score(n_bits):
    rng = np.random.default_rng(n_bits)
    codes, relaxed = random_codes(3, 500, n_bits), np.tanh(rng.standard_normal((6, n_bits)))
    index = FlatIndex(n_bits)
    index.add(codes)
    candidates = index.search(hashret.pack(relaxed), 40).rows
    order, scores = asymmetric_truth(codes, relaxed, n_bits, candidates)
    found = index.search_asymmetric(relaxed, 10, oversample=4)
    assert found.rows.tolist() == [rows[:10] for rows in order]
    np.testing.assert_allclose(found.scores, np.take_along_axis(scores, found.rows, axis=1), rtol=1e-5, atol=1e-5)
    assert found.scores.dtype == np.float32 and found.distances.dtype == np.int32 and found.rows.dtype == np.int64
    distances = hashret.hamming(hashret.pack(relaxed), codes)
    np.testing.assert_array_equal(found.distances, np.take_along_axis(distances, found.rows, axis=1))
    everything = index.search_asymmetric(relaxed, 500, oversample=1)
    np.testing.assert_allclose(everything.scores, -np.sort(-scores, axis=1), rtol=1e-5, atol=1e-5)


def test_asymmetric_search_pads_and_masks():
    index = FlatIndex(8)
    index.add(np.array([[0xFF], [0x0F], [0x00]], np.uint8))
    query = np.array([0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    found = index.search_asymmetric(query, 3, mask=np.array([True, False, True]))
    assert found.rows.tolist() == [[0, 2, -1]] and found.distances.tolist() == [[0, 8, -1]]
    np.testing.assert_allclose(found.scores, [[1.6, -1.6, -np.inf]], rtol=1e-6)
    assert FlatIndex(8).search_asymmetric(query, 2).scores.tolist() == [[-np.inf, -np.inf]]


def test_equal_scores_stay_in_the_order_of_distance_and_row():
    index = FlatIndex(8)
    index.add(np.array([[0x80], [0xC0], [0x80], [0xC0]], np.uint8))
    found = index.search_asymmetric(np.array([1.0, 0, 0, 0, 0, 0, 0, 0]), 4)
    assert found.rows.tolist() == [[0, 2, 1, 3]]


def test_asymmetric_search_refuses_what_is_no_relaxed_query():
    index = FlatIndex(8)
    index.add(np.zeros((3, 1), np.uint8))
    for wrong, words in (
        (np.zeros((1, 1), np.uint8), "must be floats"),
        (np.zeros((1, 9)), r"shape \(Q, 8\)"),
        (np.full((1, 8), np.nan), "NaN"),
        (np.full((1, 8), np.inf), "infinity"),
    ):
        with pytest.raises(CodeError, match=words):
            index.search_asymmetric(wrong, 1)
    with pytest.raises(InputError, match="oversample"):
        index.search_asymmetric(np.zeros(8), 1, oversample=0)
    with pytest.raises(CodeError, match="do not belong"):
        rescore(np.zeros((2, 8)), index.search(np.zeros(1, np.uint8), 1), index.codes, n_bits=8)
    with pytest.raises(CodeError, match="row 2, and there are 1 codes"):
        rescore(np.zeros((1, 8)), index.search(np.zeros(1, np.uint8), 3), index.codes[:1], n_bits=8)
