"""Bags of words and features of one's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from hashret.data.bags import words_of
from hashret.encoders import EncoderConfig, build_encoder, load_encoder, save_encoder
from hashret.errors import ConfigError, CorruptError, DataError, InputError


def bag(name="tfidf", **settings):
    return build_encoder(EncoderConfig(kind="bag", name=name, **settings))


def features(**settings):
    return build_encoder(EncoderConfig(**{"kind": "features", "name": "own", "width": 4, **settings}))


def test_tfidf_agrees_with_scikit_learn(captions):
    encoder = bag(vocabulary_size=50)
    encoder.fit(captions)
    reference = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+").fit(captions)
    texts = ["dog dog beach", "a red, RED car", "zebra"]
    found = encoder(encoder.prepare(texts)).pooled
    order = [reference.vocabulary_[word] for word in encoder.vocabulary]
    expected = reference.transform(texts).toarray()[:, order]
    np.testing.assert_allclose(found[:, : len(order)], expected, rtol=1e-5, atol=1e-7)
    assert found.shape == (3, 50) and not found[:, len(order) :].any() and not found[2].any()


def test_counts_and_the_most_frequent_words_first():
    encoder = bag("bow", vocabulary_size=2)
    encoder.fit(["b a", "b c", "c b a"])
    assert encoder.vocabulary == ["b", "a"]
    assert torch.equal(encoder(encoder.prepare(["a a a", "b"])).pooled, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))


def test_letters_keep_their_marks():
    assert words_of("Le cafe\u0301 d'été, foo_bar2") == ["le", "caf\u00e9", "d", "été", "foo_bar2"]
    assert words_of("दिन दान") == ["दिन", "दान"]  # day and donation, which differ by vowels that are marks
    encoder = bag()
    encoder.fit(["a café", "a dog"])
    composed, apart = encoder(encoder.prepare(["caf\u00e9", "cafe\u0301"])).pooled
    assert torch.equal(composed, apart) and composed.any()


def test_bag_saved_and_loaded_gives_the_same(captions, tmp_path):
    encoder = bag()
    encoder.fit(captions)
    save_encoder(encoder, tmp_path)
    loaded = load_encoder(tmp_path)
    assert torch.equal(loaded(loaded.prepare(captions)).pooled, encoder(encoder.prepare(captions)).pooled)
    assert loaded.prefix_fingerprint == encoder.prefix_fingerprint != bag().prefix_fingerprint
    (tmp_path / "vocabulary.json").unlink()
    with pytest.raises(CorruptError, match="cannot be rebuilt"):
        load_encoder(tmp_path)


def test_bag_messages(captions):
    with pytest.raises(InputError, match="call fit"):
        bag().prepare(captions)
    with pytest.raises(ConfigError, match="did you mean 'tfidf'"):
        bag("tf-idf")
    with pytest.raises(ConfigError, match="no blocks and no tokens"):
        bag(output="tokens")
    with pytest.raises(DataError, match="no word in them"):
        bag().fit(["!!!", ""])
    with pytest.raises(DataError, match="takes strings"):
        bag().fit([3])


def test_features_pass_through_with_mask_and_pool(tmp_path):
    tokens, vector = np.arange(8, dtype=np.float32).reshape(2, 4), np.ones(4)
    np.save(tmp_path / "item.npy", tokens)
    items = [vector, tokens, tmp_path / "item.npy", torch.ones(4), [1, 2, 3, 4]]
    encoder = features(output="tokens")
    encoded = encoder(encoder.prepare(items))
    assert encoded.mask.sum(1).tolist() == [1, 2, 2, 1, 1]
    assert torch.equal(encoded.tokens[2], torch.from_numpy(tokens)) and not encoded.tokens[0, 1].any()
    assert encoded.pooled[1].tolist() == [2, 3, 4, 5] and encoded.pooled[0].tolist() == [1, 1, 1, 1]
    both = features(pool="first+mean")
    assert both.width == 8 and both(both.prepare(items)).pooled[1].tolist() == [0, 1, 2, 3, 2, 3, 4, 5]
    assert features(modality="text").modality == "text"


def test_both_work_where_their_inputs_lie():
    given = {"features": torch.empty(2, 3, 4, device="meta"), "mask": torch.ones(2, 3, dtype=torch.bool, device="meta")}
    for settings in ({}, {"output": "tokens"}, {"pool": "first+mean"}):
        assert {tensor.device.type for tensor in features(**settings).prefix(given)} == {"meta"}
    assert {tensor.device.type for tensor in bag().prefix({"bag": torch.empty(2, 5, device="meta")})} == {"meta"}


def test_features_saved_and_loaded(tmp_path):
    encoder = features(modality="text", pool="first")
    save_encoder(encoder, tmp_path)
    assert load_encoder(tmp_path).prefix_fingerprint == encoder.prefix_fingerprint
    assert load_encoder(tmp_path).modality == "text"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (np.ones(5), r"shape \(5,\); expected \(4,\)"),
        (np.ones((2, 2, 4)), r"shape \(2, 2, 4\)"),
        (np.ones((0, 4)), r"shape \(0, 4\)"),
        (np.array([1, 2, np.inf, 4]), "NaN or infinity"),
        (["a", "b", "c", "d"], "no array of numbers"),
        ("absent.npy", "no readable .npy"),
    ],
)
def test_feature_messages(item, message):
    with pytest.raises(DataError, match=message):
        features().prepare([np.ones(4), item])
    with pytest.raises(ConfigError, match="needs width"):
        features(width=None)
    with pytest.raises(ConfigError, match="no blocks"):
        features(train_blocks=1)
