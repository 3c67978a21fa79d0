"""Pictures: the cut into prefix and suffix, pooling, grids, freezing, input of every kind, messages."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hashret.encoders import EncoderConfig, build_encoder, load_encoder, save_encoder
from hashret.errors import ConfigError, DataError, WeightsError


def vit(**settings):
    torch.manual_seed(1)
    return build_encoder(EncoderConfig(kind="image", name="test_vit", weights="none", **settings))


def cnn(**settings):
    torch.manual_seed(1)
    return build_encoder(EncoderConfig(kind="image", name="test_efficientnet", weights="none", **settings))


@pytest.mark.parametrize("train_blocks", [1, 2, -1])
@pytest.mark.parametrize("pool", ["model", "mean", "first", "first+mean"])
def test_prefix_and_suffix_make_the_whole_model(pictures, train_blocks, pool):
    frozen, trained = vit(pool=pool), vit(pool=pool, train_blocks=train_blocks)
    inputs = frozen.prepare(pictures[:3])
    border = trained.prefix(inputs)
    assert border.pooled is None and border.tokens.shape[1] == 101 and not border.tokens.requires_grad
    whole, halves = frozen(inputs), trained.suffix(border)
    torch.testing.assert_close(halves.pooled, whole.pooled)
    torch.testing.assert_close(halves.tokens[:, 0], whole.pooled)
    assert whole.pooled.shape == (3, frozen.width) and whole.mask.all()


@pytest.mark.parametrize("name", ["test_vit2", "test_vit3", "test_vit4"])
def test_vits_with_registers_and_attention_pools_are_cut_alike(pictures, name):
    encoders = []
    for train_blocks in (0, 2):
        torch.manual_seed(1)
        encoders.append(build_encoder(EncoderConfig("image", name, weights="none", train_blocks=train_blocks)))
    frozen, trained = encoders
    inputs = frozen.prepare(pictures[:2])
    pooled = trained(inputs).pooled
    torch.testing.assert_close(pooled, frozen(inputs).pooled)
    pooled[:, 0].sum().backward()
    pool = trained.model.attn_pool
    assert pool is None or pool.kv.weight.grad is not None


def test_pooled_is_what_timm_gives(pictures):
    for encoder in (vit(), cnn()):
        inputs = encoder.prepare(pictures[:2])
        pixels = (inputs["pixels"].float() / 255 - torch.tensor(encoder.preprocessing.mean).view(1, 3, 1, 1)) / (
            torch.tensor(encoder.preprocessing.std).view(1, 3, 1, 1)
        )
        with torch.no_grad():
            expected = encoder.model(pixels)
        torch.testing.assert_close(encoder(inputs).pooled, expected, rtol=1e-4, atol=1e-5)


def test_preprocessing_is_timms_own(pictures):
    from PIL import Image
    from timm.data import create_transform, resolve_model_data_config

    encoder = vit()
    transform = create_transform(**resolve_model_data_config(encoder.model), is_training=False)
    with Image.open(pictures[4]) as picture:
        expected = transform(picture.convert("RGB"))
    ours = (encoder.prepare([pictures[4]])["pixels"].float() - encoder._mean) / encoder._std
    torch.testing.assert_close(ours[0], expected, rtol=1e-5, atol=1e-5)


def test_only_the_last_blocks_and_norms_learn(pictures):
    encoder = vit(train_blocks=2)
    encoder.train()
    encoder(encoder.prepare(pictures[:2])).pooled.sum().backward()
    learned = {name for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    frozen = {name for name, parameter in encoder.named_parameters() if not parameter.requires_grad}
    last = len(encoder.model.blocks) - 2
    assert any(name.startswith(f"model.blocks.{last}.") for name in learned)
    assert not learned & frozen
    assert "model.pos_embed" in frozen and all(f"model.blocks.{block}.norm1.weight" in frozen for block in range(last))
    assert not encoder.model.blocks[0].training and encoder.model.blocks[-1].training


def test_frozen_encoder_stays_in_evaluation_mode(pictures):
    encoder = cnn()
    inputs = encoder.prepare(pictures[:4])
    before = encoder(inputs).pooled
    encoder.train()
    after = encoder(inputs).pooled
    assert not any(module.training for module in encoder.model.modules())
    assert torch.equal(before, after) and not after.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_token_grid_averages_patches_and_keeps_the_class_token(pictures):
    encoder, gridded = vit(output="tokens"), vit(output="tokens", token_grid=5)
    inputs = encoder.prepare(pictures[:2])
    full, small = encoder(inputs), gridded(inputs)
    assert full.tokens.shape[1] == 101 and small.tokens.shape[1] == 26 and small.mask.shape == (2, 26)
    torch.testing.assert_close(small.tokens[:, 0], full.tokens[:, 0])
    patches = full.tokens[:, 1:].reshape(2, 5, 2, 5, 2, -1).mean((2, 4)).flatten(1, 2)
    torch.testing.assert_close(small.tokens[:, 1:], patches)
    torch.testing.assert_close(small.pooled, full.pooled)
    border = vit(train_blocks=2, token_grid=5).prefix(inputs)
    assert border.tokens.shape == (2, 26, encoder.width)
    with pytest.raises(ConfigError, match="grid of 11 x 11"):
        vit(output="tokens", token_grid=11)(inputs)


def test_cnn_tokens_are_the_cells_of_its_map(pictures):
    encoder = cnn(output="tokens", pool="mean")
    encoded = encoder(encoder.prepare(pictures[:2]))
    cells = encoder.model.forward_features(
        (encoder.prepare(pictures[:2])["pixels"].float() - encoder._mean) / encoder._std
    )
    torch.testing.assert_close(encoded.tokens[:, 1], cells[:, :, 0, 1].detach())
    torch.testing.assert_close(encoded.pooled, cells.mean((2, 3)).detach())


def test_items_of_every_kind_give_the_same_pixels(pictures):
    from PIL import Image

    encoder = vit()
    with Image.open(pictures[0]) as opened:
        picture = opened.convert("RGB")
    kinds = [pictures[0], str(pictures[0]), pictures[0].read_bytes(), picture, np.asarray(picture)]
    pixels = encoder.prepare(kinds)["pixels"]
    assert pixels.dtype == torch.uint8 and pixels.shape[0] == 5
    assert all(torch.equal(pixels[0], other) for other in pixels[1:])
    assert encoder.prepare([])["pixels"].shape[0] == 0


def test_an_item_does_not_depend_on_its_batch(pictures):
    encoder = vit()
    together, alone = encoder(encoder.prepare(pictures)).pooled, encoder(encoder.prepare(pictures[3:4])).pooled
    torch.testing.assert_close(together[3:4], alone, rtol=1e-4, atol=1e-5)


def test_image_size_interpolates_positions(pictures):
    encoder = vit(image_size=96, output="tokens")
    assert encoder(encoder.prepare(pictures[:1])).tokens.shape[1] == 37
    assert cnn(image_size=64).prepare(pictures[:1])["pixels"].shape == (1, 3, 64, 64)
    with pytest.raises(ConfigError, match="no multiple; try 96"):
        vit(image_size=100)


def test_fingerprint_knows_weights_and_preprocessing_and_not_what_is_trained():
    prints = [vit(), vit(image_size=96), vit(pool="mean"), vit(train_blocks=1), vit(train_blocks=2), cnn()]
    assert len({encoder.prefix_fingerprint for encoder in prints}) == len(prints)
    assert vit().prefix_fingerprint == vit().prefix_fingerprint
    torch.manual_seed(2)
    other = build_encoder(EncoderConfig(kind="image", name="test_vit", weights="none"))
    assert other.prefix_fingerprint != vit().prefix_fingerprint

    trained = vit(train_blocks=1)
    before = trained.prefix_fingerprint
    with torch.no_grad():
        trained.model.blocks[-1].mlp.fc1.weight.add_(1.0)
    assert trained.prefix_fingerprint == before
    assert vit(train_blocks=1, pool="mean").prefix_fingerprint == before  # pooling comes after the border
    with torch.no_grad():
        trained.model.blocks[0].mlp.fc1.weight.add_(1.0)
    assert trained.prefix_fingerprint != before


def test_saved_and_loaded_gives_the_same(pictures, tmp_path):
    for number, encoder in enumerate([vit(train_blocks=2, pool="first+mean", token_grid=5), vit(image_size=96), cnn()]):
        save_encoder(encoder, tmp_path / str(number))
        loaded = load_encoder(tmp_path / str(number))
        assert loaded.prefix_fingerprint == encoder.prefix_fingerprint
        assert loaded.describe() == encoder.describe() and loaded.config == encoder.config
        inputs = encoder.prepare(pictures[:2])
        assert torch.equal(loaded(loaded.prepare(pictures[:2])).pooled, encoder.eval()(inputs).pooled)


def test_local_weights_of_a_file_and_a_folder(pictures, tmp_path, monkeypatch):
    from safetensors.torch import save_file

    original = vit()
    (tmp_path / "test_vit").mkdir()
    save_file(original.model.state_dict(), tmp_path / "test_vit" / "model.safetensors")
    torch.save({"state_dict": original.model.state_dict()}, tmp_path / "own.pth")
    for weights in (tmp_path / "test_vit", tmp_path / "test_vit" / "model.safetensors", tmp_path / "own.pth"):
        encoder = build_encoder(EncoderConfig(kind="image", name="test_vit", weights=str(weights)))
        assert encoder.prefix_fingerprint == original.prefix_fingerprint
        assert encoder.describe()["place"] == "local"
    monkeypatch.setenv("HASHRET_WEIGHTS", str(tmp_path))
    encoder = build_encoder(EncoderConfig(kind="image", name="test_vit"))
    assert encoder.prefix_fingerprint == original.prefix_fingerprint


def test_messages(tmp_path, pictures):
    def build(**settings):
        return build_encoder(EncoderConfig(**{"kind": "image", "name": "test_vit", "weights": "none", **settings}))

    with pytest.raises(ConfigError, match="did you mean 'vit_base_patch16_224'"):
        build(name="vit_base_patch16_244")
    with pytest.raises(ConfigError, match=r"no weights called 'resnet18.a9'; it has .*resnet18.a1_in1k"):
        build(name="resnet18.a9")
    with pytest.raises(ConfigError, match="did you mean 'image'"):
        build(kind="imagee")
    with pytest.raises(ConfigError, match=r"has \d+ blocks; train_blocks cannot be 99"):
        build(train_blocks=99)
    with pytest.raises(ConfigError, match=r"cannot be trained.*train_blocks=0"):
        build(name="test_efficientnet", train_blocks=1)
    with pytest.raises(ConfigError, match="no class token"):
        build(name="test_efficientnet", pool="first")
    with pytest.raises(ConfigError, match="train_blocks counts"):
        build(train_blocks=-2)
    with pytest.raises(ConfigError, match="token_grid must be at least 1"):
        build(token_grid=0)
    with pytest.raises(ConfigError, match="twice as wide"):
        build(pool="first+mean", output="tokens")
    with pytest.raises(WeightsError, match="there are no weights at"):
        build(weights=str(tmp_path / "absent.pth"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="holds no weights"):
        build(weights=str(tmp_path / "empty"))
    (tmp_path / "text.pth").write_text("no weights at all")
    with pytest.raises(WeightsError, match="no file of weights"):
        build(weights=str(tmp_path / "text.pth"))
    torch.save({"unknown": torch.zeros(3)}, tmp_path / "foreign.pth")
    with pytest.raises(WeightsError, match="do not fit the architecture"):
        build(weights=str(tmp_path / "foreign.pth"))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 this is no picture")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        build().prepare([pictures[0], tmp_path / "broken.jpg", pictures[1]])
