"""With labels the hasher finds what shares one; heads of the literature learn by the same engine."""

from __future__ import annotations

import numpy as np
import pytest

from hashret.baselines import BASELINES, build
from hashret.codes import check_codes
from hashret.errors import ConfigError, DataError, InputError
from hashret.evaluation import evaluate_codes, evaluate_labels
from hashret.feature_hasher import TRAINED, FeatureHasher
from hashret.feature_hasher.literature import CMDN

N, N_TEST, N_BITS = 400, 120, 32


def _world() -> dict[str, np.ndarray]:
    """Pairs of four classes, in spaces of 20 and 12 dimensions; classes are no linear function of either."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(N + N_TEST, 8))
    labels = 2 * (hidden[:, 0] * hidden[:, 1] > 0) + (hidden[:, 2] > 0)
    views = [hidden @ rng.normal(size=(8, d)) + 0.1 * rng.normal(size=(len(hidden), d)) for d in (20, 12)]
    return {"X": views[0], "Y": views[1], "labels": labels}


WORLD = _world()


def _fit(name: str, **options: object) -> FeatureHasher:
    parameters = {"n_bits": N_BITS, "code_lengths": (16,), "hidden": 64, "passes": 60, "batch_size": 100, "lr": 5e-3}
    hasher = TRAINED.load(name)(**{**parameters, "dropout": 0.1, "input_dropout": 0.0, **options})
    return hasher.fit(WORLD["X"][:N], WORLD["Y"][:N], labels=WORLD["labels"][:N])


def _map(method: object, n_bits: int = N_BITS) -> float:
    codes = method.encode_texts(WORLD["Y"][N:]), method.encode_images(WORLD["X"][:N])  # type: ignore[attr-defined]
    cut = [code[:, : n_bits // 8] for code in codes]
    return evaluate_labels(
        *cut, WORLD["labels"][N:], WORLD["labels"][:N], n_bits=n_bits, measures=("AP@all",)
    )["AP@all"]  # fmt: skip


@pytest.fixture(scope="module")
def supervised() -> FeatureHasher:
    return _fit("feature-hasher")


def test_labels_are_what_a_search_finds(supervised: FeatureHasher) -> None:
    linear = build("scm-seq", n_bits=N_BITS).fit(WORLD["X"][:N], WORLD["Y"][:N], WORLD["labels"][:N])
    assert _map(supervised) > _map(linear) + 0.1
    assert _map(supervised, 16) > _map(linear, 16) + 0.1


def test_one_label_a_picture_or_a_row_of_zeros_and_ones(supervised: FeatureHasher) -> None:
    rows = np.eye(4)[WORLD["labels"][:N]]
    again = FeatureHasher(**supervised.get_params()).fit(WORLD["X"][:N], WORLD["Y"][:N], labels=rows)
    np.testing.assert_array_equal(again.encode_images(WORLD["X"]), supervised.encode_images(WORLD["X"]))
    X, Y = WORLD["X"][:30], WORLD["Y"][:30]
    with pytest.raises(DataError, match="one row for each of the 30"):
        FeatureHasher().fit(X, Y, labels=np.zeros(20))
    with pytest.raises(DataError, match="all labels are the same"):
        FeatureHasher().fit(X, Y, labels=np.zeros(30))
    with pytest.raises(DataError, match="no pair has a label"):
        FeatureHasher().fit(X, Y, labels=np.zeros((30, 4)))
    with pytest.raises(DataError, match="lists of several lengths"):
        FeatureHasher().fit(X, Y, labels=[[1], [2, 3]] * 15)
    short = FeatureHasher(n_bits=16, hidden=8, passes=1)
    assert short.fit_transform(X, Y, labels=WORLD["labels"][:30]).shape == (30, 16)


@pytest.mark.parametrize("name", [name for name in TRAINED.names() if name != "feature-hasher"])
def test_heads_of_the_literature_learn_and_come_back(name: str, tmp_path) -> None:
    hasher = _fit(name)
    codes = hasher.encode_images(WORLD["X"][N:]), hasher.encode_texts(WORLD["Y"][N:])
    check_codes(codes[0], n_bits=N_BITS)
    if name == "dsph":
        assert _map(hasher) > 0.35  # chance is 0.25
        with pytest.raises(InputError, match="DSPH learns from labels"):
            hasher.fit(WORLD["X"], WORLD["Y"])
    else:
        result = evaluate_codes(*codes, np.arange(N_TEST), n_bits=N_BITS)
        assert result.r_sum > 4 * result.chance_r_sum
    hasher.save(tmp_path / "model")
    again = type(hasher).load(tmp_path / "model")
    np.testing.assert_array_equal(again.encode_texts(WORLD["Y"][N:]), codes[1])
    assert again.get_params() == hasher.get_params()
    assert type(FeatureHasher.load(tmp_path / "model")) is type(hasher)
    other = TRAINED.load("ucch" if name != "ucch" else "cmdn")
    with pytest.raises(InputError, match=f"holds a {type(hasher).__name__}; load it with {type(hasher).__name__}.load"):
        other.load(tmp_path / "model")
    if not type(hasher).uses_labels:  # which then change nothing
        plain = type(hasher)(**hasher.get_params()).fit(WORLD["X"][:N], WORLD["Y"][:N])
        np.testing.assert_array_equal(plain.encode_texts(WORLD["Y"][N:]), codes[1])


@pytest.mark.parametrize("validation_fraction", [0.0, 0.1])
@pytest.mark.parametrize("passes", [2, 3, 7])
def test_the_two_stages_of_cmdn_have_the_passes_of_a_fit(passes: int, validation_fraction: float) -> None:
    hasher = CMDN(n_bits=16, hidden=8, passes=passes, batch_size=50, validation_fraction=validation_fraction)
    hasher.fit(WORLD["X"][:N], WORLD["Y"][:N])
    a_pass = (N - round(validation_fraction * N)) // 50
    steps = {curve["stage"]: curve["steps"] for curve in hasher.curves_}
    assert steps == {"separate": passes // 2 * a_pass, "joint": (passes - passes // 2) * a_pass}
    with pytest.raises(ConfigError, match="two stages, each of a pass at least, and passes is 1"):
        hasher.set_params(passes=1).fit(WORLD["X"][:N], WORLD["Y"][:N])


def test_relaxed_codes_are_not_saturated() -> None:
    hasher = FeatureHasher(n_bits=16, hidden=16, passes=20, validation_fraction=0).fit(WORLD["X"][:N], WORLD["Y"][:N])
    assert 0.3 < np.abs(hasher.transform(WORLD["X"][:N])).mean() < 0.6


def test_no_two_methods_share_a_name() -> None:
    assert not set(TRAINED.names()) & set(BASELINES.names())
