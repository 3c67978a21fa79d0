"""FeatureHasher: it learns, its prefixes are codes, its files come back, and bad features are refused."""

from __future__ import annotations

import json
import resource
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hashret
from hashret import FeatureHasher
from hashret.baselines import build
from hashret.codes import check_codes, pack, prefix, unpack
from hashret.errors import ConfigError, CorruptError, DataError, InputError, StorageError, VersionError
from hashret.evaluation import evaluate_asymmetric, evaluate_codes, evaluate_floats
from hashret.feature_hasher.literature import CMDN, DJSRH, UCCH

N, N_TEST, TEXTS = 600, 150, 2
LENGTHS = (16, 32, 64)


def _world() -> dict[str, np.ndarray]:
    """Pairs that share 24 hidden directions, bent and noisy, with two texts a picture."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(N + N_TEST, 24))
    noisy = np.repeat(hidden, TEXTS, axis=0) + 0.4 * rng.normal(size=(TEXTS * len(hidden), 24))
    X = np.tanh(hidden @ rng.normal(size=(24, 48))) + 0.2 * rng.normal(size=(len(hidden), 48)) + 3
    Y = np.tanh(noisy @ rng.normal(size=(24, 32))) - 1
    return {
        "X": X[:N], "Y": Y[: TEXTS * N], "owner": np.repeat(np.arange(N), TEXTS),
        "X_test": X[N:], "Y_test": Y[TEXTS * N :], "owner_test": np.repeat(np.arange(N_TEST), TEXTS),
    }  # fmt: skip


WORLD = _world()


def _fit(**parameters: object) -> FeatureHasher:
    hasher = FeatureHasher(
        n_bits=64, hidden=64, dropout=0.1, input_dropout=0.1, passes=60, batch_size=128, lr=3e-3
    ).set_params(**parameters)
    return hasher.fit(WORLD["X"], WORLD["Y"], owner=WORLD["owner"])


@pytest.fixture(scope="module")
def hasher() -> FeatureHasher:
    return _fit()


def _r_sum(codes: tuple[np.ndarray, np.ndarray], n_bits: int) -> float:
    return evaluate_codes(*codes, WORLD["owner_test"], n_bits=n_bits).r_sum


def _codes(method: object, **options: object) -> tuple[np.ndarray, np.ndarray]:
    return method.encode_images(WORLD["X_test"], **options), method.encode_texts(WORLD["Y_test"], **options)  # type: ignore[attr-defined]


def test_it_finds_unseen_pairs_and_beats_a_baseline(hasher: FeatureHasher) -> None:
    chance = evaluate_codes(*_codes(hasher), WORLD["owner_test"], n_bits=64).chance_r_sum
    for n_bits in LENGTHS:
        figure = _r_sum(_codes(hasher, n_bits=n_bits), n_bits)
        baseline = build("cca-lsh", n_bits=n_bits).fit(WORLD["X"][WORLD["owner"]], WORLD["Y"])
        assert figure > 5 * chance
        assert figure > _r_sum(_codes(baseline), n_bits)
    assert hasher.score(WORLD["X_test"], WORLD["Y_test"], owner=WORLD["owner_test"]) == _r_sum(_codes(hasher), 64)


def test_relaxed_queries_are_between_codes_and_floats(hasher: FeatureHasher) -> None:
    images, texts = (hasher.encode_floats(m, WORLD[k]) for m, k in (("image", "X_test"), ("text", "Y_test")))
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, rtol=1e-5)
    codes = _codes(hasher)
    asymmetric = evaluate_asymmetric(images, texts, *codes, WORLD["owner_test"], n_bits=64).r_sum
    assert _r_sum(codes, 64) < asymmetric < evaluate_floats(images, texts, WORLD["owner_test"]).r_sum


def test_bits_chosen_together_lose_less_than_signs(hasher: FeatureHasher) -> None:
    signs = _fit(rounding=False)
    for modality, key in (("image", "X_test"), ("text", "Y_test")):  # training is the same
        floats = signs.encode_floats(modality, WORLD[key])
        np.testing.assert_array_equal(floats, hasher.encode_floats(modality, WORLD[key]))
        np.testing.assert_array_equal(pack(floats), signs.model_.encode(modality, list(WORLD[key].astype(np.float32))))
    assert _r_sum(_codes(hasher), 64) > _r_sum(_codes(signs), 64) + 8
    assert hasher.model_.fingerprint != signs.model_.fingerprint


def test_labels_and_heads_of_papers_keep_signs() -> None:
    labels = np.arange(N) % 4
    config = {"passes": 1, "n_bits": 16}
    known = FeatureHasher(**config).fit(WORLD["X"], WORLD["Y"], owner=WORLD["owner"], labels=labels)
    assert known.model_.config.rounding is None
    for method in (UCCH, DJSRH, CMDN):
        hasher = method(n_bits=16, passes=2).fit(WORLD["X"], WORLD["Y"], owner=WORLD["owner"])
        assert hasher.model_.config.rounding is None
    asked = UCCH(**config, rounding=True).fit(WORLD["X"], WORLD["Y"], owner=WORLD["owner"])
    assert asked.model_.config.rounding is not None
    with pytest.raises(ConfigError, match="rounding is true, false or None"):
        FeatureHasher(rounding="joint").fit(WORLD["X"], WORLD["Y"], owner=WORLD["owner"])  # type: ignore[arg-type]


def test_trained_prefixes_beat_other_bits_of_the_same_code(hasher: FeatureHasher) -> None:
    bits = [unpack(codes, n_bits=64) for codes in _codes(hasher)]
    drawn = [np.random.default_rng(seed).permutation(np.arange(16, 64))[:16] for seed in range(3)]
    others = [_r_sum((pack(bits[0][:, rows]), pack(bits[1][:, rows])), 16) for rows in drawn]
    assert _r_sum(_codes(hasher, n_bits=16), 16) > max(others)


def test_codes_and_their_prefixes_fit_together(hasher: FeatureHasher) -> None:
    whole, relaxed = hasher.encode_images(WORLD["X_test"]), hasher.encode_images(WORLD["X_test"], relaxed=True)
    check_codes(whole, n_bits=64)
    assert relaxed.dtype == np.float32
    assert np.abs(relaxed).max() <= 1
    np.testing.assert_array_equal(pack(relaxed), whole)
    np.testing.assert_array_equal(hasher.encode_images(WORLD["X_test"], n_bits=20), prefix(whole, n_bits=20))
    assert hasher.model_.code_lengths == LENGTHS
    assert (hasher.n_features_in_, hasher.n_text_features_in_) == (48, 32)
    assert hasher.encode_texts(np.empty((0, 32))).shape == (0, 8)


def test_an_item_keeps_its_code_whatever_it_is_encoded_with(hasher: FeatureHasher) -> None:
    rng = np.random.default_rng(1)
    for encode, features in ((hasher.encode_images, WORLD["X_test"]), (hasher.encode_texts, WORLD["Y_test"])):
        together = encode(features, relaxed=True)
        order = rng.permutation(len(features))
        np.testing.assert_allclose(encode(features[order], relaxed=True), together[order], atol=1e-5)
        np.testing.assert_allclose(encode(features[7:8], relaxed=True), together[7:8], atol=1e-5)


def test_the_same_seed_gives_the_same_codes_and_another_does_not() -> None:
    first, second, other = (_fit(passes=2, seed=seed).encode_images(WORLD["X_test"]) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_the_order_of_texts_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(len(WORLD["Y"]))
    order = order[np.argsort(order % TEXTS, kind="stable")]  # the texts of a picture stay in their order
    parts = FeatureHasher(n_bits=16, hidden=8, passes=1)
    straight = parts.fit(WORLD["X"], WORLD["Y"], owner=WORLD["owner"]).encode_texts(WORLD["Y_test"])
    mixed = parts.fit(WORLD["X"], WORLD["Y"][order], owner=WORLD["owner"][order]).encode_texts(WORLD["Y_test"])
    np.testing.assert_array_equal(straight, mixed)


def test_items_held_out_choose_the_round_and_small_sets_hold_out_none(hasher: FeatureHasher) -> None:
    assert len(hasher.curves_) == 1
    chosen = _fit(passes=6, validation_fraction=0.1)
    assert [row["epoch"] for row in chosen.curves_] == [1, 2, 3, 4, 5, 6]
    parts = FeatureHasher(n_bits=16, hidden=8, passes=6, validation_fraction=0.1)
    few = WORLD["X"][:60], WORLD["Y"][: 60 * TEXTS : TEXTS]
    assert len(parts.fit(*few).curves_) == 1
    with pytest.raises(ConfigError, match="items held out, and none are"):
        parts.set_params(patience=2).fit(*few)


def test_parameters_of_numpy_are_saved(tmp_path) -> None:
    hasher = FeatureHasher(n_bits=np.int64(16), hidden=np.int64(8), dropout=np.float32(0.1), passes=np.int32(1))
    hasher.fit(WORLD["X"][:60], WORLD["Y"][: 60 * TEXTS : TEXTS]).save(tmp_path / "model")
    assert FeatureHasher.load(tmp_path / "model").hidden == 8


def test_saving_changes_all_or_nothing(hasher: FeatureHasher, tmp_path) -> None:
    place = tmp_path / "model"
    hasher.save(place)
    (place / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"holds 'notes.txt' beside its model"):
        hasher.save(place)
    (place / "notes.txt").unlink()
    before = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
    other = FeatureHasher.load(place)
    other.curves_ = [{"note": "x" * 10**6}]  # longer than a file may be now: the facts are what does not fit
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["model.safetensors"]) + 10_000, limit[1]))
    try:
        with pytest.raises(StorageError, match="cannot be written"):
            other.save(place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()} == before
    assert FeatureHasher.load(place).get_params() == hasher.get_params()


def test_a_saved_hasher_comes_back(hasher: FeatureHasher, tmp_path) -> None:
    place = tmp_path / "model"
    hasher.save(place)
    again = FeatureHasher.load(place)
    np.testing.assert_array_equal(again.encode_texts(WORLD["Y_test"]), hasher.encode_texts(WORLD["Y_test"]))
    assert again.get_params() == hasher.get_params()
    assert len(again.curves_) == len(hasher.curves_)
    assert (again.n_features_in_, again.n_text_features_in_) == (48, 32)
    model = hashret.CrossModalHasher.load(place)
    assert model.fingerprint == hasher.model_.fingerprint
    np.testing.assert_array_equal(model.encode_images(list(WORLD["X_test"])), hasher.encode_images(WORLD["X_test"]))
    facts = json.loads((place / "feature_hasher.json").read_text())
    old = {**facts, "parameters": {**facts["parameters"], "n_bits": 64.0}}  # once fitted, and still a model
    del old["method"]
    (place / "feature_hasher.json").write_text(json.dumps(old))
    assert FeatureHasher.load(place).n_bits == 64.0
    again.set_params(device=torch.device("cpu"))
    again.set_params(n_bits=np.int64(64), code_lengths=np.array(LENGTHS)).save(place)  # numpy's numbers, an old place
    assert FeatureHasher.load(place).get_params()["code_lengths"] == LENGTHS

    facts = json.loads((place / "feature_hasher.json").read_text())
    (place / "feature_hasher.json").write_text(json.dumps({**facts, "parameters": {"nbits": 3}}))
    with pytest.raises(CorruptError, match="damaged"):
        FeatureHasher.load(place)
    for change, said in (
        ({"format": 9}, "has format 9, later than 1"), ({"parameters": {**facts["parameters"], "wings": 2}}, "'wings'"),
    ):  # fmt: skip
        (place / "feature_hasher.json").write_text(json.dumps({**facts, **change}))
        with pytest.raises(VersionError, match=said):
            FeatureHasher.load(place)
    shutil.rmtree(place)
    with pytest.raises(StorageError, match="holds no feature hasher"):
        FeatureHasher.load(place)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="something else"):
        hasher.save(tmp_path)


@settings(max_examples=8, deadline=None)
@given(
    n=st.integers(2, 40), width=st.integers(1, 9), text_width=st.integers(1, 9), n_bits=st.integers(1, 70),
    dtype=st.sampled_from(["float16", "float32", "float64", "int8"]), batch_size=st.integers(2, 50),
)  # fmt: skip
def test_any_pairs_give_valid_codes(n, width, text_width, n_bits, dtype, batch_size) -> None:
    rng = np.random.default_rng(n)
    X, Y = (rng.normal(scale=9, size=(n, d)).astype(dtype) for d in (width, text_width))
    X[:, 0] = 7  # a column that never changes
    hasher = FeatureHasher(n_bits=n_bits, hidden=4, passes=2, batch_size=batch_size).fit(X, Y)
    for codes in (hasher.encode_images(X), hasher.encode_texts(Y)):
        check_codes(codes, n_bits=n_bits)
        assert len(codes) == n
    assert hasher.model_.code_lengths[-1] == n_bits


def test_ten_pairs_are_learned_by_heart() -> None:
    hasher = FeatureHasher(n_bits=32, hidden=32, passes=100).fit(WORLD["X"][:10], WORLD["Y"][: 10 * TEXTS : TEXTS])
    assert hasher.score(WORLD["X"][:10], WORLD["Y"][: 10 * TEXTS : TEXTS]) > 550


def test_bad_features_are_refused_with_a_sentence(hasher: FeatureHasher) -> None:
    X, Y = WORLD["X"][:30], WORLD["Y"][:30]
    hole = X.copy()
    hole[[3, 9]] = np.nan
    with pytest.raises(DataError, match="NaN or infinity in row 3 and 1 more of X"):
        FeatureHasher().fit(hole, Y)
    with pytest.raises(DataError, match="in row 29 of Y;"):
        FeatureHasher().fit(X, np.where(np.arange(30)[:, None] == 29, 1e300, Y))
    for wrong in (Y[0], Y[0, 0], [["a", "b"]], [[1], [2, 3]], Y * 1j, np.empty((30, 0))):
        with pytest.raises(DataError, match=r"Y must be|required of Y"):
            FeatureHasher().fit(X, wrong)
    with pytest.raises(DataError, match="30 rows and Y has 20"):
        FeatureHasher().fit(X, Y[:20])
    with pytest.raises(DataError, match="2 rows of X have no text, such as row 5"):
        FeatureHasher().fit(X, Y, owner=np.where(np.isin(np.arange(30), (5, 8)), 0, np.arange(30)))
    with pytest.raises(DataError, match="rows from 0 to 30, and X has 30"):
        FeatureHasher().fit(X, Y[:2], owner=[0, 30])
    with pytest.raises(DataError, match="one integer for each"):
        FeatureHasher().fit(X, Y, owner=np.arange(30) / 2)
    with pytest.raises(DataError, match="at least 2 pairs"):
        FeatureHasher().fit(X[:1], Y[:1])
    with pytest.raises(DataError, match="32 features, but FeatureHasher is expecting 48"):
        hasher.encode_images(Y)
    with pytest.raises(InputError, match="has not learned yet"):
        FeatureHasher().encode_images(X)
    with pytest.raises(InputError, match="between 1 and the model's 64"):
        hasher.encode_images(X, n_bits=65)


def test_bad_parameters_are_refused_in_fit() -> None:
    X, Y = WORLD["X"][:30], WORLD["Y"][:30]
    for wrong, words in (
        ({"n_bits": 0}, "n_bits is a whole"), ({"code_lengths": (99,)}, "code_lengths"), ({"dropout": 1.0}, "dropout"),
        ({"validation_fraction": 1}, "validation_fraction"), ({"batch_size": 1}, "batch_size"), ({"mix": 2}, "mix"),
        ({"passes": 0}, "passes"), ({"temperature": 0}, "temperature"), ({"device": "abacus"}, "abacus"),
        ({"n_bits": 100.7}, "n_bits"), ({"n_bits": True}, "n_bits"), ({"n_bits": "64"}, "n_bits"),
        ({"seed": 1.5}, "seed"),
        ({"code_lengths": 16}, "code_lengths"), ({"code_lengths": {16}}, "code_lengths"),
         ({"code_lengths": (8.5,)}, "code_lengths"), ({"lr": "a"}, "lr"),
        ({"hidden": 1.5}, "hidden"), ({"validation_fraction": 0.99}, "leaves nothing of 30"),
        ({"device": None}, "device"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            FeatureHasher(n_bits=16).set_params(**wrong).fit(X, Y)
    with pytest.raises(ConfigError, match="did you mean 'n_bits'"):
        FeatureHasher().set_params(nbits=3)


def test_it_prints_what_was_changed() -> None:
    assert repr(FeatureHasher()) == "FeatureHasher()"
    assert repr(FeatureHasher(n_bits=64, seed=2)) == "FeatureHasher(n_bits=64, seed=2)"
    assert "code_lengths=array([16, 32])" in repr(FeatureHasher(code_lengths=np.array([16, 32])))


def test_a_long_code_leaves_its_first_256_bits_a_model_of_their_own() -> None:
    settings = {"hidden": 8, "passes": 1, "validation_fraction": 0, "code_lengths": (64, 256)}
    long = FeatureHasher(n_bits=300, **settings).fit(WORLD["X"][:40], WORLD["Y"][:40]).model_.config
    whole = FeatureHasher(n_bits=256, **settings).fit(WORLD["X"][:40], WORLD["Y"][:40]).model_.config
    assert [tower.head.own for tower in (*long.towers.values(), *whole.towers.values())] == [(256,), (256,), (), ()]
