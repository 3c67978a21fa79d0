"""An export as it is read: without torch, one item at a time, and not when it is damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from hashret.errors import CorruptError, DataError, InputError, StorageError, VersionError
from hashret.onnx import OnnxHasher, samples
from hashret.onnx.export import export_model
from hashret.onnx.inputs import Pictures

HEAVY = ("torch", "transformers", "timm", "torchvision", "scipy", "yaml", "matplotlib")
WITHOUT_TORCH = """
import sys
for name in sys.argv[3].split():
    sys.modules[name] = None      # importing it now fails
from hashret.onnx import OnnxHasher
hasher = OnnxHasher.load(sys.argv[1])
print(hasher.encode_texts(["a dog on the beach"]).tobytes().hex())
print("PIL" in sys.modules)       # words alone leave the picture tower closed
print(hasher.encode_images([sys.argv[2]]).tobytes().hex())
"""


@pytest.fixture(scope="module")
def both(make, tmp_path_factory):
    """A model and its export."""
    folder = tmp_path_factory.mktemp("model")
    cnn = {"kind": "image", "name": "test_efficientnet", "weights": "none"}
    hasher = make(cnn, {"kind": "text", "pool": "mean"})
    exported = export_model(hasher, folder / "onnx", images=samples.pictures(3), texts=samples.texts()[:5])
    return hasher, exported.directory


@pytest.fixture
def copy(both, tmp_path):
    """The export, to be damaged."""
    return shutil.copytree(both[1], tmp_path / "copy")


def test_a_fresh_interpreter_needs_no_torch(both, tmp_path):
    hasher, directory = both
    Image.fromarray(samples.pictures(1)[0]).save(tmp_path / "1.png")
    command = [sys.executable, "-c", WITHOUT_TORCH, str(directory), str(tmp_path / "1.png"), " ".join(HEAVY)]
    words, pillow, picture = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert pillow == "False"
    for found, codes in (
        (words, hasher.encode_texts(["a dog on the beach"])),
        (picture, hasher.encode_images([tmp_path / "1.png"])),
    ):
        assert np.bitwise_count(np.frombuffer(bytes.fromhex(found), np.uint8) ^ codes[0]).sum() <= 1


@pytest.fixture(scope="module")
def small(make, tmp_path_factory):
    """An export whose graphs have 8-bit weights, both of them."""
    vit = {"kind": "image", "name": "test_vit", "weights": "none", "train_blocks": 2}
    hasher = make(vit, {"kind": "text", "pool": "mean"})
    return export_model(hasher, tmp_path_factory.mktemp("small"), int8=True).directory


def test_the_code_of_an_8_bit_graph_does_not_depend_on_the_batch(small, tmp_path):
    earlier = shutil.copytree(small, tmp_path / "earlier")  # its export.json says "int8" of the whole alone
    facts = json.loads((earlier / "export.json").read_text())
    assert [tower.pop("precision") for tower in facts["towers"].values()] == ["int8", "int8"]
    (earlier / "export.json").write_text(json.dumps(facts))
    for directory in (small, earlier):
        loaded = OnnxHasher.load(directory)
        for modality, items in (("text", samples.texts()[:40]), ("image", samples.pictures(9))):
            alone = np.concatenate([loaded.encode(modality, [item], relaxed=True) for item in items])
            assert np.array_equal(alone, loaded.encode(modality, items, relaxed=True))
            for batch_size in (2, 64):
                assert np.array_equal(
                    alone[::-1], loaded.encode(modality, items[::-1], relaxed=True, batch_size=batch_size)
                )
        assert loaded.encode_texts([]).shape == (0, 13)


def test_an_items_code_does_not_depend_on_its_batch(both):
    loaded = OnnxHasher.load(both[1])
    for modality, items in (("text", samples.texts()[:40]), ("image", samples.pictures(9))):
        alone = np.concatenate([loaded.encode(modality, [item], relaxed=True) for item in items])
        together = loaded.encode(modality, items, relaxed=True)
        np.testing.assert_allclose(alone, together, atol=2e-6)
        assert np.array_equal(together[::-1], loaded.encode(modality, items[::-1], relaxed=True))


def test_nothing_gives_no_codes(both):
    loaded = OnnxHasher.load(both[1])
    assert loaded.encode_texts([]).shape == loaded.encode_images([]).shape == (0, 13)


def test_threads_may_encode_at_once(both):
    loaded, texts = OnnxHasher.load(both[1], threads=1), samples.texts()[:24]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: loaded.encode_texts([text]), texts))
    one_by_one = [loaded.encode_texts([text]) for text in texts]
    assert np.array_equal(np.concatenate(found), np.concatenate(one_by_one))


@pytest.mark.parametrize("crop_mode", ["center", "squash"])
@pytest.mark.parametrize(("image_size", "crop_pct"), [(64, 0.875), (57, 1.0), (48, 0.9), (40, 1.3)])
def test_pixels_are_those_of_the_encoder(image_size, crop_pct, crop_mode):
    from hashret.encoders.image import Preprocessing

    for interpolation in ("bicubic", "bilinear", "lanczos"):
        theirs = Preprocessing(image_size, interpolation, (0.5,) * 3, (0.5,) * 3, crop_pct, crop_mode).transform()
        ours = Pictures(
            {"image_size": image_size, "interpolation": interpolation, "crop_pct": crop_pct, "crop_mode": crop_mode}
        )
        for picture in samples.pictures(8):
            assert np.array_equal(ours.pixels(picture), theirs(Image.fromarray(picture)).numpy())


@pytest.mark.parametrize("crop_mode", ["center", "squash"])
def test_a_long_and_thin_picture_costs_little_and_has_the_pixels_of_the_encoder(crop_mode):
    """Resized whole, one of 1 x 1,024 would take 154 MB before all but a square of it is cut off."""
    from hashret.encoders.image import Preprocessing

    theirs = Preprocessing(224, "bicubic", (0.5,) * 3, (0.5,) * 3, 0.9, crop_mode).transform()
    ours = Pictures({"image_size": 224, "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": crop_mode})
    sizes = []
    resize = Image.Image.resize

    def seen(picture, size, *arguments, **options):
        sizes.append(size)
        return resize(picture, size, *arguments, **options)

    noise = np.random.default_rng(0).integers(0, 256, (1024, 1, 3), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "resize", seen)
        for picture in (noise, noise.transpose(1, 0, 2), np.repeat(noise, 3, axis=1), noise[:17]):
            assert np.array_equal(ours.pixels(picture), theirs(Image.fromarray(picture)).numpy())
    assert max(width * height for width, height in sizes) <= 250 * 250 * 17


def test_the_middle_of_a_long_picture_stays_in_the_middle():
    """Whole, it would give the same pixels."""
    ours = Pictures({"image_size": 32, "interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "center"})
    noise = np.random.default_rng(0).integers(0, 256, (8, 8 * 20, 3), dtype=np.uint8)
    whole = ours._centre(ours._scale(Image.fromarray(noise)))
    assert np.array_equal(ours.pixels(noise), np.asarray(whole).transpose(2, 0, 1))


def test_arguments_are_refused_as_by_the_model(both, tmp_path):
    loaded = OnnxHasher.load(both[1])
    for call in (
        lambda model: model.encode("sound", ["a"]),
        lambda model: model.encode_texts("a dog"),
        lambda model: model.encode_texts(["a"], n_bits=101),
        lambda model: model.encode_texts(["a"], batch_size=0),
        lambda model: model.encode_texts([3]),
        lambda model: model.encode_images([tmp_path / "none.jpg"]),
    ):
        messages = []
        for model in (both[0], loaded):
            with pytest.raises((InputError, DataError)) as caught:
                call(model)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


def test_no_export_is_told(tmp_path):
    with pytest.raises(StorageError, match="hashret export MODEL --onnx"):
        OnnxHasher.load(tmp_path)


@pytest.mark.parametrize("name", ["text.onnx", "text.weights", "tokenizer.json", "image.onnx", "image.weights"])
@pytest.mark.parametrize("damage", ["missing", "short", "changed"])
def test_a_damaged_file_is_told_at_the_latest_when_it_is_needed(copy, name, damage):
    path = copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "short" else content)
    with pytest.raises(CorruptError, match=f"{name}.*export the model again"):
        loaded = OnnxHasher.load(copy)
        assert damage == "changed"  # anything else is seen without reading the file
        loaded.encode_images(samples.pictures(1)) if "image" in name else loaded.encode_texts(["a"])


def test_damaged_and_later_facts_are_told(copy):
    path = copy / "export.json"
    facts = json.loads(path.read_text())
    for content in (b"{", b"[]", b"\xff", json.dumps({**facts, "towers": {}}).encode()):
        path.write_bytes(content)
        with pytest.raises(CorruptError, match="damaged"):
            OnnxHasher.load(copy)
    path.write_text(json.dumps({**facts, "format": 3}))
    with pytest.raises(VersionError, match="install a newer hashret"):
        OnnxHasher.load(copy)
    facts["towers"]["image"]["preprocessing"]["crop_mode"] = "spiral"
    path.write_text(json.dumps(facts))
    with pytest.raises(CorruptError, match="spiral"):
        OnnxHasher.load(copy).encode_images(samples.pictures(1))


def test_a_graph_that_is_none_is_told(tmp_path):
    from hashret.onnx.hasher import session

    (tmp_path / "image.onnx").write_bytes(b"a graph")
    with pytest.raises(CorruptError, match="onnxruntime cannot read"):
        session(tmp_path / "image.onnx")
