"""Neighbours over codes against scikit-learn's own, on the unpacked bits."""

from __future__ import annotations

import copy
import importlib
import pickle

import numpy as np
import pytest

from hashret import pack, unpack
from hashret.errors import CodeError, InputError

neighbors = pytest.importorskip("sklearn.neighbors", reason="pip install 'hashret[sklearn]'")
HammingNeighbors = importlib.import_module("hashret.adapters.sklearn").HammingNeighbors
KNeighborsClassifier = neighbors.KNeighborsClassifier

N_BITS = 40


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    codes = pack(rng.random((200, N_BITS)) > 0.5)
    queries = pack(rng.random((20, N_BITS)) > 0.5)
    theirs = neighbors.NearestNeighbors(metric="hamming", algorithm="brute").fit(unpack(codes, n_bits=N_BITS))
    return codes, queries, unpack(queries, n_bits=N_BITS), theirs


def test_distances_are_scikit_learns(data):
    codes, queries, bits, theirs = data
    ours = HammingNeighbors(n_neighbors=7).fit(codes)
    distances, rows = ours.kneighbors(queries)
    np.testing.assert_allclose(distances, theirs.kneighbors(bits, 7)[0] * N_BITS)
    assert (np.lexsort((rows, distances), axis=1) == np.arange(7)).all()
    assert (ours.kneighbors(queries, return_distance=False) == rows).all()
    np.testing.assert_allclose(ours.kneighbors()[0], theirs.kneighbors(n_neighbors=7)[0] * N_BITS)


def test_a_code_is_not_its_own_neighbour():
    codes = np.zeros((4, 2), np.uint8)
    _, rows = HammingNeighbors(n_neighbors=2).fit(codes).kneighbors()
    assert rows.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]


def test_radius_neighbors_are_scikit_learns(data):
    codes, queries, bits, theirs = data
    ours = HammingNeighbors(radius=14).fit(codes)
    distances, rows = ours.radius_neighbors(queries)
    expected = theirs.radius_neighbors(bits, radius=14 / N_BITS + 1e-9, return_distance=False)
    assert [sorted(found.tolist()) for found in rows] == [sorted(found.tolist()) for found in expected]
    assert all((np.diff(found) >= 0).all() for found in distances)
    assert all(query not in found for query, found in enumerate(ours.radius_neighbors()[1]))


def test_it_works_in_a_pipeline(data):
    from sklearn.base import clone
    from sklearn.pipeline import make_pipeline

    codes, queries, bits, _ = data
    labels = unpack(codes, n_bits=N_BITS)[:, 0]
    pipeline = make_pipeline(HammingNeighbors(n_neighbors=5), KNeighborsClassifier(5, metric="precomputed"))
    theirs = KNeighborsClassifier(5, metric="hamming", algorithm="brute").fit(unpack(codes, n_bits=N_BITS), labels)
    agree = (pipeline.fit(codes, labels).predict(queries) == theirs.predict(bits)).mean()
    assert agree >= 0.8  # ties at the border are broken otherwise
    assert clone(pipeline[0]).get_params() == {"n_bits": None, "n_neighbors": 5, "radius": 1.0}


def test_a_fitted_one_can_be_copied_and_stored(data):
    codes, queries, _, _ = data
    fitted = HammingNeighbors(n_neighbors=7, n_bits=N_BITS).fit(codes)
    for again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        for ours, theirs in zip(again.kneighbors(queries), fitted.kneighbors(queries)):
            assert (ours == theirs).all()
        assert again.index_.n_bits == N_BITS and again.n_features_in_ == codes.shape[1]
    assert not hasattr(copy.deepcopy(HammingNeighbors()), "index_")


def test_wrong_input_is_told(data):
    from sklearn.exceptions import NotFittedError

    codes, queries, _, _ = data
    with pytest.raises(NotFittedError):
        HammingNeighbors().kneighbors(queries)
    with pytest.raises(CodeError):
        HammingNeighbors().fit(codes.astype(float))
    with pytest.raises(InputError, match="n_bits"):
        HammingNeighbors(n_bits=0).fit(codes)
    fitted = HammingNeighbors().fit(codes)
    with pytest.raises(InputError, match="n_neighbors"):
        fitted.kneighbors(queries, 201)
    with pytest.raises(InputError, match="n_neighbors"):
        fitted.kneighbors(n_neighbors=200)
    with pytest.raises(CodeError):
        fitted.kneighbors(queries[:, :3])
    for radius in (float("nan"), float("inf"), -0.5):
        with pytest.raises(InputError, match="radius"):
            fitted.radius_neighbors(queries, radius)
