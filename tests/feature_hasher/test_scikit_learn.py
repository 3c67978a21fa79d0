"""FeatureHasher among scikit-learn's tools: its own checks of estimators, clone, pipelines, searches."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from hashret.feature_hasher import FeatureHasher

sklearn = pytest.importorskip("sklearn", minversion="1.6")

# Checks that give a target of one dimension (texts have features, and a list of numbers is refused) or by the name y,
# or ask for a TypeError of scikit-learn's own.
NOT_OURS = {
    "check_array_api_input",
    "check_dtype_object",
    "check_n_features_in_after_fitting",
    "check_transformer_data_not_an_array",
    "check_transformer_general",
    "check_transformer_preserve_dtypes",
}


def small(**parameters: object) -> FeatureHasher:
    return FeatureHasher(n_bits=8, hidden=8, passes=2).set_params(**parameters)


def test_it_passes_the_checks_of_estimators() -> None:
    from sklearn.utils.estimator_checks import estimator_checks_generator

    failed, count = {}, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for estimator, check in estimator_checks_generator(small(), legacy=True):
            name = getattr(check, "func", check).__name__
            if name in NOT_OURS:
                continue
            count += 1
            try:
                check(estimator)
            except Exception as error:
                failed[name] = str(error)
    assert not failed
    assert count > 35


def test_a_clone_has_the_parameters_and_has_not_learned() -> None:
    from sklearn.base import clone
    from sklearn.utils.validation import check_is_fitted

    rng = np.random.default_rng(0)
    hasher = small(seed=5, code_lengths=(4,)).fit(rng.normal(size=(20, 4)), rng.normal(size=(20, 3)))
    copy = clone(hasher)
    assert copy.get_params() == hasher.get_params()
    assert not hasattr(copy, "model_")
    check_is_fitted(hasher)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        check_is_fitted(copy)


def test_a_pipeline_scales_before_and_searches_after() -> None:
    from sklearn.neighbors import NearestNeighbors
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(40, 6)), rng.normal(size=(40, 5))
    pipeline = make_pipeline(StandardScaler(), small()).fit(X, Y)
    relaxed = pipeline.transform(X)
    assert relaxed.shape == (40, 8)
    assert relaxed.dtype == np.float32
    found = NearestNeighbors(n_neighbors=1).fit(relaxed).kneighbors(relaxed, return_distance=False)
    np.testing.assert_array_equal(relaxed[found[:, 0]], relaxed)


def test_a_search_over_parameters_scores_by_r_sum() -> None:
    from sklearn.model_selection import GridSearchCV

    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6))
    search = GridSearchCV(small(passes=20), {"lr": [1e-9, 1e-2]}, cv=2).fit(X, X @ rng.normal(size=(6, 6)))
    assert search.best_params_ == {"lr": 1e-2}
    assert 0 < search.best_score_ <= 600
