"""An export gives the model's codes, for every kind of tower."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hashret.codes import pack, prefix
from hashret.errors import CorruptError, InputError, MismatchError, StorageError
from hashret.onnx import OnnxHasher, samples
from hashret.onnx.export import default_out, export_model

CNN = {"kind": "image", "name": "test_efficientnet", "weights": "none"}
VIT = {"kind": "image", "name": "test_vit", "weights": "none", "train_blocks": 2, "token_grid": 3}
BAG = {"kind": "bag", "name": "tfidf", "vocabulary_size": 40}
MIXED = {"mixers": [{"layers": 1, "heads": 4, "width": 16, "ffn": 32}], "pooler": "gpo"}
SYSTEMS = {
    "a CNN and a frozen BERT": (CNN, {"kind": "text", "pool": "mean"}, {}),
    "a ViT and a BERT with trained blocks": (
        {**VIT, "pool": "first+mean"},
        {"kind": "text", "train_blocks": 1, "pool": "first", "max_length": 12},
        {},
    ),
    "tokens through mixers and GPO": ({**VIT, "output": "tokens"}, {"kind": "text", "output": "tokens"}, MIXED),
    "a bag of words": (CNN, BAG, {"head": {"kind": "linear", "batch_norm": True}, "adapter": "standardise"}),
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_codes_are_those_of_the_model(make, tmp_path, system):
    image, text, more = SYSTEMS[system]
    hasher = make(image, text, **more)
    exported = export_model(hasher, tmp_path / "onnx")
    assert max(exported.differing.values()) <= 0.001
    loaded = OnnxHasher.load(tmp_path)
    assert (loaded.n_bits, loaded.code_lengths, loaded.fingerprint) == (100, (32, 100), hasher.fingerprint)
    assert json.loads((tmp_path / "onnx" / "export.json").read_text())["format"] == 1
    for modality, items in (("image", samples.pictures(11)), ("text", samples.texts()[::7])):
        expected = hasher.encode(modality, items, relaxed=True)
        for batch_size in (1, 4, 64):  # other batches and lengths than those that were traced
            relaxed = loaded.encode(modality, items, relaxed=True, batch_size=batch_size)
            np.testing.assert_allclose(relaxed, expected, atol=2e-5)
        codes = loaded.encode(modality, items, n_bits=32)
        assert np.bitwise_count(codes ^ hasher.encode(modality, items, n_bits=32)).mean() <= 0.008
        floats = loaded.encode_floats(modality, items, n_bits=40)
        np.testing.assert_allclose(floats, hasher.encode_floats(modality, items, n_bits=40), atol=2e-5)


def test_bits_chosen_together_are_those_of_the_model(make, tmp_path):
    items = {"image": samples.pictures(11), "text": samples.texts()[::7]}
    hasher = make(CNN, {"kind": "text", "pool": "mean"}, rounding={"weight": 0.6})
    plain = hasher.encode("text", items["text"])
    hasher.learn_rounding({modality: hasher.encode_floats(modality, listed) for modality, listed in items.items()})
    exported = export_model(hasher, tmp_path / "onnx", images=items["image"], texts=items["text"])
    assert max(exported.differing.values()) <= 0.001
    loaded = OnnxHasher.load(tmp_path)
    assert json.loads((tmp_path / "onnx" / "export.json").read_text())["format"] == 2
    for modality, listed in items.items():
        codes = hasher.encode(modality, listed)
        assert np.bitwise_count(codes ^ loaded.encode(modality, listed)).mean() <= 0.008
        np.testing.assert_array_equal(
            pack(loaded.encode(modality, listed, relaxed=True)), loaded.encode(modality, listed)
        )
        for n_bits in (20, 32):
            np.testing.assert_array_equal(
                loaded.encode(modality, listed, n_bits=n_bits), prefix(loaded.encode(modality, listed), n_bits=n_bits)
            )
    assert np.bitwise_count(plain ^ hasher.encode("text", items["text"])).mean() > 0.1
    (tmp_path / "onnx" / "coupling.npy").write_bytes(b"")
    with pytest.raises(CorruptError, match=r"coupling\.npy"):
        OnnxHasher.load(tmp_path).encode_texts(["a dog"])


def test_weights_of_8_bits_are_smaller_and_near(make, tmp_path):
    hasher = make({**VIT, "pool": "first+mean"}, {"kind": "text", "pool": "mean"})
    whole = export_model(hasher, tmp_path / "whole")
    small = export_model(hasher, tmp_path / "small", int8=True)
    assert (whole.precision, small.precision) == ("float32", "int8")
    assert small.n_bytes < whole.n_bytes
    assert all(0 < share < 0.2 for share in small.differing.values())
    assert OnnxHasher.load(tmp_path / "small").precision == "int8"


def test_a_cnn_keeps_its_weights(make, tmp_path):
    exported = export_model(make(CNN, BAG), tmp_path / "onnx", int8=True)
    assert exported.precision == "float32"
    assert {tower["precision"] for tower in OnnxHasher.load(tmp_path).facts.towers.values()} == {"float32"}
    assert max(exported.differing.values()) <= 0.001


def test_a_cnn_beside_8_bit_words_keeps_its_batches(make, tmp_path):
    assert export_model(make(CNN, {"kind": "text"}), tmp_path / "onnx", int8=True).precision == "int8"
    loaded = OnnxHasher.load(tmp_path)
    assert {modality: tower["precision"] for modality, tower in loaded.facts.towers.items()} == {
        "image": "float32",
        "text": "int8",
    }
    assert (loaded._tower("image").alone, loaded._tower("text").alone) == (False, True)


def test_own_features_are_refused(make, tmp_path):
    own = {"kind": "features", "name": "own", "width": 8, "modality": "text"}
    with pytest.raises(InputError, match="features of your own"):
        export_model(make(CNN, own), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_a_graph_that_gives_other_codes_is_not_written(make, tmp_path, monkeypatch):
    hasher = make(CNN, BAG)
    from hashret.onnx import export

    def another_head(tower, *rest):
        tower.head.linear.weight.data.neg_()
        write(tower, *rest)
        tower.head.linear.weight.data.neg_()

    write = export.write_graph
    monkeypatch.setattr(export, "write_graph", another_head)
    with pytest.raises(MismatchError, match="nothing was written"):
        export_model(hasher, tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


def test_an_export_replaces_an_export_and_nothing_else(make, tmp_path):
    hasher = make(CNN, BAG)
    out = default_out(tmp_path)
    export_model(hasher, out)
    (out / "left.over").write_text("of the first")
    export_model(hasher, out)
    assert not (out / "left.over").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").write_text("mine")
    with pytest.raises(StorageError, match="something else"):
        export_model(hasher, tmp_path / "photos")
    assert (tmp_path / "photos" / "1.jpg").read_text() == "mine"
