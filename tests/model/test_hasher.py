"""CrossModalHasher: codes of own features, of pictures and of words; saving, loading, fingerprints, leaks."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hashret.codes import pack, prefix
from hashret.config import build
from hashret.encoders import EncoderConfig, build_encoder
from hashret.errors import ConfigError, CorruptError, DataError, InputError, StorageError, VersionError
from hashret.model import CrossModalHasher, ModelConfig
from hashret.rounding import Rounding, coupling_of

RNG = np.random.default_rng(0)
IMAGES = [RNG.normal(size=12).astype(np.float32) for _ in range(9)]
TOKENS = [RNG.normal(size=(count, 12)).astype(np.float32) for count in (3, 1, 7, 2, 5, 5, 4, 6, 1)]


@pytest.fixture(scope="module")
def real() -> CrossModalHasher:
    """Real encoders, tiny and random: a ViT for pictures and a bag of words for texts."""
    torch.manual_seed(0)
    image = {"kind": "image", "name": "test_vit", "weights": "none", "image_size": 32, "output": "tokens"}
    config = build(
        ModelConfig,
        {
            "n_bits": 36,
            "code_lengths": [8, 16],
            "towers": {
                "image": {"encoder": image, "pooler": "gpo"},
                "text": {"encoder": {"kind": "bag", "name": "tfidf", "vocabulary_size": 16}},
            },
        },
    )
    encoders = {m: build_encoder(tower.encoder) for m, tower in config.towers.items()}
    encoders["text"].fit(["a dog on a beach", "a cat in a hat", "two dogs and a cat"])
    return CrossModalHasher(config, encoders)


def pictures(count: int) -> list[np.ndarray]:
    return [np.random.default_rng(seed).integers(0, 255, (40, 50, 3), dtype=np.uint8) for seed in range(count)]


def test_codes_are_the_signs_of_relaxed_codes(make):
    hasher = make()
    codes = hasher.encode_images(IMAGES)
    relaxed = hasher.encode_images(IMAGES, relaxed=True)
    assert codes.dtype == np.uint8 and codes.shape == (9, 3)
    assert relaxed.dtype == np.float32 and relaxed.shape == (9, 20) and np.abs(relaxed).max() < 1
    np.testing.assert_array_equal(codes, pack(relaxed))


def test_floats_are_unit_vectors_with_the_same_signs(make):
    hasher = make()
    floats = hasher.encode_floats("image", IMAGES)
    np.testing.assert_allclose(np.linalg.norm(floats, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(pack(floats), hasher.encode_images(IMAGES))
    short = hasher.encode_floats("image", IMAGES, n_bits=5)
    np.testing.assert_allclose(short, floats[:, :5] / np.linalg.norm(floats[:, :5], axis=1, keepdims=True), rtol=1e-5)


def test_a_prefix_is_the_start_of_the_whole_code(make):
    hasher = make(code_lengths=[4, 12])
    codes = hasher.encode_images(IMAGES)
    np.testing.assert_array_equal(hasher.encode_images(IMAGES, n_bits=12), prefix(codes, n_bits=12))
    assert hasher.encode_images(IMAGES, n_bits=12, relaxed=True).shape == (9, 12)
    assert hasher.code_lengths == (4, 12, 20)


@pytest.mark.parametrize("relaxed", [False, True])
def test_no_items_give_no_codes(make, relaxed):
    assert make().encode("text", [], relaxed=relaxed).shape == (0, 20 if relaxed else 3)


def test_order_is_kept_when_items_of_one_size_share_batches(make):
    hasher = make(output="tokens")
    one_by_one = np.concatenate([hasher.encode_images([item], relaxed=True) for item in TOKENS])
    np.testing.assert_allclose(hasher.encode_images(TOKENS, relaxed=True, batch_size=4), one_by_one, atol=1e-6)


@pytest.mark.parametrize("pooler", ["first", "mean", "max", "gpo", "attention", "first_mean"])
def test_a_code_does_not_depend_on_its_batch(make, leaks, pooler):
    mixers = [{"heads": 2, "ffn": 16}, {"heads": 2, "width": 8, "ffn": 16, "shared": True}]
    hasher = make(tower={"pooler": pooler, "mixers": mixers, "head": {"batch_norm": True}}, output="tokens")
    leaks(hasher, "image", TOKENS)


def test_a_code_of_a_real_encoder_does_not_depend_on_its_batch(real, leaks):
    leaks(real, "image", pictures(7))
    leaks(real, "text", ["a dog", "a cat in a hat", "two", "a dog and a cat on a beach", "hat"])


def test_encoding_leaves_the_mode_and_the_generator_alone(make):
    hasher = make()
    hasher.tower("image").head.train()
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    first = hasher.encode_images(IMAGES)
    assert hasher.tower("image").head.training and not hasher.tower("text").head.training
    assert torch.rand(1) == expected
    np.testing.assert_array_equal(first, hasher.encode_images(IMAGES))  # no dropout


@pytest.mark.parametrize("which", ["own", "real"])
def test_a_saved_model_is_the_same_model(make, real, which, tmp_path):
    hasher = real if which == "real" else make(tower={"mixers": [{"heads": 2, "shared": True}]}, output="tokens")
    items = pictures(3) if which == "real" else TOKENS
    hasher.save(tmp_path / "model")
    again = CrossModalHasher.load(tmp_path / "model")
    assert again.fingerprint == hasher.fingerprint
    assert again.config == hasher.config and not again.training
    np.testing.assert_array_equal(again.encode_images(items, relaxed=True), hasher.encode_images(items, relaxed=True))
    hasher.save(tmp_path / "model")  # in its own place
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert CrossModalHasher.load(tmp_path / "model").fingerprint == hasher.fingerprint


def test_the_fingerprint_tells_weights_and_configuration(make):
    hasher = make()
    first = hasher.fingerprint
    assert first == make().fingerprint and len(first) == 64
    with torch.no_grad():
        hasher.tower("text").head.linear.bias[0] += 1e-3
    assert hasher.fingerprint != first
    assert make(tower={"head": {"dropout": 0.3}}).fingerprint != first
    hasher = make()
    hasher.tower("image").beta.fill_(3)
    assert hasher.fingerprint != first


def test_a_rounding_is_of_the_model_and_saved_with_it(make, leaks, tmp_path):
    plain, rounding = make(code_lengths=[8]), make(code_lengths=[8], rounding={"weight": 0.8})
    assert plain.fingerprint != rounding.fingerprint
    np.testing.assert_array_equal(rounding.encode_images(IMAGES), plain.encode_images(IMAGES))  # nothing is learned yet
    floats = rounding.encode_floats("image", IMAGES)
    rounding.learn_rounding({"image": floats, "text": floats @ np.linalg.qr(RNG.normal(size=(20, 20)))[0]})
    codes = rounding.encode_images(IMAGES)
    assert (codes != plain.encode_images(IMAGES)).any()
    np.testing.assert_array_equal(rounding.encode_floats("image", IMAGES), floats)
    np.testing.assert_array_equal(pack(rounding.encode_images(IMAGES, relaxed=True)), codes)
    for n_bits in (5, 8, 13):
        np.testing.assert_array_equal(rounding.encode_images(IMAGES, n_bits=n_bits), prefix(codes, n_bits=n_bits))
    first = Rounding(rounding.coupling[:8, :8].numpy(), 0.75, (8,)).apply(
        plain.encode_images(IMAGES, relaxed=True)[:, :8]
    )
    np.testing.assert_array_equal(rounding.encode_images(IMAGES, relaxed=True, n_bits=8), first)  # longer bits follow
    leaks(rounding, "image", IMAGES)
    rounding.save(tmp_path / "model")
    again = CrossModalHasher.load(tmp_path / "model")
    assert again.fingerprint == rounding.fingerprint
    np.testing.assert_array_equal(again.encode_images(IMAGES), codes)
    plain.save(tmp_path / "plain")  # as versions that know no rounding wrote and read it
    facts = [json.loads((tmp_path / name / "model.json").read_text()) for name in ("plain", "model")]
    assert [content["format"] for content in facts] == [1, 2]
    assert ["rounding" in content["config"] for content in facts] == [False, True]


def test_a_rounding_follows_what_it_is_told(make):
    """What is kept of the coupling is renewed when another one is loaded."""
    hasher, other = (make(rounding={"weight": 0.8}) for _ in range(2))
    floats = hasher.encode_floats("image", IMAGES)
    signs = hasher.encode_images(IMAGES)
    coupled = {**hasher.state_dict(), "coupling": torch.from_numpy(coupling_of((floats,), weight=0.8))}
    hasher.load_state_dict(coupled)
    codes = hasher.encode_images(IMAGES)
    assert (codes != signs).any()
    other.encode_images(IMAGES)
    other.load_state_dict(hasher.state_dict())
    np.testing.assert_array_equal(other.encode_images(IMAGES), codes)
    hasher.learn_rounding({"image": np.ones((3, 20), np.float32), "text": np.ones((3, 20), np.float32)})
    np.testing.assert_array_equal(hasher.encode_images(IMAGES), signs)  # there was nothing to learn


def test_a_rounding_that_cannot_be_is_refused(make):
    for wrong in ({"weight": 1.5}, {"weight": -0.1}, {"size": 0}, {"size": float("inf")}):
        with pytest.raises(ConfigError, match="a rounding needs"):
            make(rounding=wrong)


def damage(path, how):
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "gone":
        path.unlink()
    else:
        middle = len(content) - 8
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 64]) + content[middle + 1 :])


@pytest.mark.parametrize(
    ("file", "how"),
    [
        (file, how)
        for file in ("model.json", "model.safetensors", "text/encoder.json", "image/encoder.safetensors")
        for how in ("cut", "empty", "gone", "bit")
        if (file, how) != ("text/encoder.json", "bit")  # a changed digit in a description changes no code
    ],
)
def test_a_damaged_model_is_refused_with_a_sentence(real, tmp_path, file, how):
    real.save(tmp_path / "model")
    damage(tmp_path / "model" / file, how)
    with pytest.raises((CorruptError, StorageError, VersionError)) as caught:
        CrossModalHasher.load(tmp_path / "model")
    assert "model" in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_model_or_a_later_one_is_said(make, tmp_path):
    with pytest.raises(StorageError, match="holds no model"):
        CrossModalHasher.load(tmp_path / "nothing")
    make().save(tmp_path / "model")
    facts = json.loads((tmp_path / "model" / "model.json").read_text())
    (tmp_path / "model" / "model.json").write_text(json.dumps({**facts, "format": 99}))
    with pytest.raises(VersionError, match="format 99"):
        CrossModalHasher.load(tmp_path / "model")


def test_a_model_of_other_weights_is_refused(make, tmp_path):
    make().save(tmp_path / "a")
    make(n_bits=24).save(tmp_path / "b")
    shutil.copy(tmp_path / "b" / "model.safetensors", tmp_path / "a" / "model.safetensors")
    with pytest.raises(CorruptError, match="cannot be rebuilt"):
        CrossModalHasher.load(tmp_path / "a")


def test_saving_does_not_overwrite_what_is_no_model(make, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "dog.jpg").write_bytes(b"x")
    with pytest.raises(StorageError, match="something else"):
        make().save(tmp_path / "photos")
    assert (tmp_path / "photos" / "dog.jpg").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        make().save(tmp_path / "file")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_model_that_cannot_be_put_in_place_leaves_the_one_before(make, tmp_path, monkeypatch, error):
    make().save(tmp_path / "model")
    rename = Path.replace

    def fail(self, target):
        if "part" in self.name:
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StorageError if isinstance(error, OSError) else KeyboardInterrupt):
        make(n_bits=24).save(tmp_path / "model")
    assert CrossModalHasher.load(tmp_path / "model").n_bits == 20
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_saving_again_keeps_an_export_of_the_same_codes(make, tmp_path, caplog):
    hasher, export = make(), tmp_path / "model" / "onnx"
    hasher.save(tmp_path / "model")
    export.mkdir()
    (export / "export.json").write_text(json.dumps({"fingerprint": hasher.fingerprint}))
    (export / "image.onnx").write_bytes(b"graph")
    hasher.save(tmp_path / "model")
    assert (export / "image.onnx").read_bytes() == b"graph" and not caplog.messages
    make(n_bits=24).save(tmp_path / "model")
    assert not export.exists() and "hashret export" in caplog.text


@pytest.mark.parametrize("room", [0, 2000, 20_000])
def test_a_full_disk_leaves_the_model_before(real, tmp_path, room):
    real.save(tmp_path / "model")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))  # no file may grow beyond so many bytes
    try:
        with pytest.raises(StorageError, match=r"cannot be (saved|written)"):
            real.save(tmp_path / "model")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert CrossModalHasher.load(tmp_path / "model").fingerprint == real.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda h: h.encode("images", IMAGES), InputError, "did you mean 'image'"),
        (lambda h: h.encode_texts("a dog"), InputError, "must be a list"),
        (lambda h: h.encode_images(IMAGES, n_bits=21), InputError, "between 1 and the model's 20"),
        (lambda h: h.encode_images(IMAGES, n_bits=0), InputError, "between 1"),
        (lambda h: h.encode_images(IMAGES, batch_size=0), InputError, "batch_size"),
        (lambda h: h.encode_images([np.zeros(11)]), DataError, "shape"),
        (lambda h: h.encode_floats("image", IMAGES, n_bits=99), InputError, "between 1"),
    ],
)
def test_wrong_arguments_are_said(make, call, error, said):
    with pytest.raises(error, match=said):
        call(make())


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"n_bits": 0}, "at least 1 bit"),
        ({"code_lengths": [64]}, r"code_lengths must lie .* --sweep n_bits=20, which cuts"),
        ({"towers": {}}, "image and text"),
        (
            {"tower": {"head": {"kind": "linear", "hidden": 64}}},
            r"image\.head: kind 'linear' does not read hidden, which",
        ),
        ({"tower": {"head": {"kind": "linear", "own": [8]}}}, "does not read own"),
        ({"reranker": {"kind": "graph", "layers": 3}}, "reranker: kind 'graph' does not read layers, which is 3"),
        ({"reranker": {"kind": "fusion", "sharpness": 4.0}}, "kind 'fusion' does not read sharpness"),
    ],
)
def test_wrong_configurations_are_said(make, model, said):
    with pytest.raises(ConfigError, match=said):
        make(**model) if "towers" not in model else build(ModelConfig, {"n_bits": 8, **model})


def test_an_encoder_in_the_wrong_tower_is_refused(make):
    hasher = make()
    image = build_encoder(EncoderConfig(kind="features", name="x", width=12, modality="image"))
    with pytest.raises(InputError, match="encoder of images"):
        CrossModalHasher(hasher.config, {"image": image, "text": image})


def test_a_loaded_model_gives_the_same_codes_in_another_process(make, tmp_path):
    hasher = make(code_lengths=[8])
    hasher.save(tmp_path / "model")
    np.save(tmp_path / "items.npy", np.stack(IMAGES))
    program = (
        "import sys, numpy as np, hashret\n"
        "model = hashret.CrossModalHasher.load(sys.argv[1])\n"
        "print(model.fingerprint, model.encode_images(list(np.load(sys.argv[2]))).tobytes().hex())\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model"), str(tmp_path / "items.npy")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert printed == [hasher.fingerprint, hasher.encode_images(IMAGES).tobytes().hex()]
