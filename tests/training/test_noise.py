"""Noise between images and captions."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashret.config import build
from hashret.errors import ConfigError, CorruptError, TrainingError
from hashret.training.noise import Corruption, NoiseConfig, corrupt

COUNTS = st.lists(st.integers(1, 5), min_size=2, max_size=30)
RATIOS = st.sampled_from([0.2, 0.4, 0.5, 0.6, 0.8, 1.0])


def owners(counts: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def drawn(counts: list[int], config: NoiseConfig) -> Corruption | None:
    """The corruption, or None where the data is rightly too small for it."""
    owner = owners(counts)
    n = len(owner) if config.kind == "caption" else len(counts)
    wanted = round(config.ratio * n)
    most = np.minimum(counts, wanted // 2).sum() if config.kind == "caption" and config.derange else n
    if wanted >= 2 and most >= wanted:
        return corrupt(owner, config)
    with pytest.raises(TrainingError, match="change places"):
        corrupt(owner, config)
    return None


@given(COUNTS, RATIOS, st.integers(0, 99), st.booleans())
def test_caption_noise_permutes_captions(counts, ratio, seed, derange):
    corruption = drawn(counts, NoiseConfig("caption", ratio, derange, seed))
    if corruption is None:
        return
    wanted = round(ratio * sum(counts))
    assert np.array_equal(corruption.owner, owners(counts))
    assert np.array_equal(np.sort(corruption.caption), np.arange(sum(counts)))
    assert np.array_equal(corruption.noisy, corruption.owner != corruption.owner[corruption.caption])
    assert corruption.noisy.sum() == wanted if derange else corruption.noisy.sum() <= wanted
    assert not (corruption.caption != np.arange(sum(counts)))[~corruption.noisy].any() or not derange


@given(COUNTS, RATIOS, st.integers(0, 99), st.booleans())
def test_image_noise_moves_all_captions_of_an_image_to_one_other(counts, ratio, seed, derange):
    corruption = drawn(counts, NoiseConfig("image", ratio, derange, seed))
    if corruption is None:
        return
    owner = corruption.owner
    sources = [set(owner[corruption.caption[owner == image]]) for image in range(len(counts))]
    assert all(len(source) == 1 for source in sources)
    assert sorted(source.pop() for source in sources) == list(range(len(counts)))
    noisy = {bool(corruption.noisy[owner == image].all()) for image in range(len(counts))}
    assert noisy <= {True, False}
    n_noisy = sum(bool(corruption.noisy[owner == image].any()) for image in range(len(counts)))
    assert n_noisy == round(ratio * len(counts)) if derange else n_noisy <= round(ratio * len(counts))
    if len(set(counts)) == 1:
        assert np.array_equal(np.sort(corruption.caption), np.arange(len(owner)))


def test_unequal_images_repeat_or_drop_captions():
    corruption = corrupt(owners([1, 3]), NoiseConfig("image", 1.0))
    assert corruption.caption.tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("kind", ["caption", "image"])
def test_the_seed_alone_decides(kind):
    owner = owners([5] * 200)
    first = corrupt(owner, NoiseConfig(kind, 0.4, seed=3))
    np.random.seed(1)  # the global state must not matter
    assert np.array_equal(first.caption, corrupt(owner, NoiseConfig(kind, 0.4, seed=3)).caption)
    assert not np.array_equal(first.caption, corrupt(owner, NoiseConfig(kind, 0.4, seed=4)).caption)
    assert first.noisy.mean() == pytest.approx(0.4)


def test_two_images_with_half_of_the_captions_each_still_derange():
    for seed in range(20):
        assert corrupt(owners([4, 4]), NoiseConfig("caption", 1.0, seed=seed)).noisy.all()


def test_without_noise_every_slot_shows_its_own_caption():
    corruption = corrupt(owners([2, 1]), NoiseConfig())
    assert corruption.caption.tolist() == [0, 1, 2] and not corruption.noisy.any()


def test_saved_and_loaded(tmp_path):
    path = tmp_path / "noise.json"
    corruption = corrupt(owners([5, 3, 4, 5]), NoiseConfig("image", 0.5, seed=7))
    corruption.save(path)
    loaded = Corruption.load(path)
    assert loaded.config == corruption.config
    for name in ("owner", "caption", "noisy"):
        assert np.array_equal(getattr(loaded, name), getattr(corruption, name))
    assert json.loads(path.read_text())["seed"] == 7


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"format": "hashret noise", "version": 1, "owner": [0, 1], "caption": [0, 2]}',
     '{"format": "hashret noise", "version": 1, "owner": [0, 1], "caption": [0]}',
     '{"format": "hashret noise", "version": 1, "owner": [0], "caption": [0], "kind": "other"}'],
)  # fmt: skip
def test_a_damaged_file_is_refused(tmp_path, content):
    path = tmp_path / "noise.json"
    path.write_text(content)
    with pytest.raises(CorruptError, match="draw it again"):
        Corruption.load(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(CorruptError):
        Corruption.load(tmp_path / "none.json")


@pytest.mark.parametrize("content", [{"ratio": 1.2}, {"ratio": -0.1}, {"seed": -1}, {"kind": "pair"}])
def test_options_are_checked(content):
    with pytest.raises(ConfigError):
        build(NoiseConfig, content)
    with pytest.raises(ConfigError):
        NoiseConfig(**content)


@pytest.mark.parametrize("owner", [[], [1, 2], [0, 2], [0, 1, 0], [[0, 1]]])
def test_owners_are_checked(owner):
    with pytest.raises(TrainingError, match="ascending"):
        corrupt(np.array(owner, dtype=np.int64), NoiseConfig("caption", 0.5))
