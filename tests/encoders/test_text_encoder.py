"""Words: the cut into prefix and suffix, pooling, masks, saving, other architectures, messages."""

from __future__ import annotations

import shutil

import pytest
import torch

from hashret.encoders import EncoderConfig, build_encoder, load_encoder, save_encoder
from hashret.errors import ConfigError, DataError, WeightsError


@pytest.fixture
def bert(bert_folder):
    def build(**settings):
        return build_encoder(EncoderConfig(**{"kind": "text", "name": str(bert_folder), **settings}))

    return build


@pytest.mark.parametrize("train_blocks", [1, 3, -1])
@pytest.mark.parametrize("pool", ["mean", "first", "first+mean"])
def test_prefix_and_suffix_make_the_whole_model(bert, captions, train_blocks, pool):
    frozen, trained = bert(pool=pool), bert(pool=pool, train_blocks=train_blocks)
    inputs = frozen.prepare(captions)
    border = trained.prefix(inputs)
    assert border.pooled is None and not border.tokens.requires_grad
    torch.testing.assert_close(trained.suffix(border).pooled, frozen(inputs).pooled, rtol=1e-4, atol=1e-5)
    assert frozen(inputs).pooled.shape == (len(captions), frozen.width)


def test_tokens_are_what_transformers_gives(bert, captions):
    encoder = bert(output="tokens")
    inputs = encoder.prepare(captions)
    encoded = encoder(inputs)
    with torch.no_grad():
        hidden = encoder.model(**inputs).last_hidden_state
    assert torch.equal(encoded.tokens, hidden) and torch.equal(encoded.mask, inputs["attention_mask"].bool())
    words = encoded.mask[3].sum()
    torch.testing.assert_close(encoded.pooled[3], hidden[3, :words].mean(0))


def test_an_item_does_not_depend_on_its_batch(bert, captions):
    for settings in ({}, {"train_blocks": 2}):
        encoder = bert(**settings).eval()
        together = encoder(encoder.prepare(captions)).pooled
        alone = torch.cat([encoder(encoder.prepare([caption])).pooled for caption in captions])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_only_the_last_layers_learn(bert, captions):
    encoder = bert(train_blocks=1)
    encoder.train()
    encoder(encoder.prepare(captions)).pooled.sum().backward()
    learned = {name for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert learned and all(name.startswith("model.encoder.layer.3.") for name in learned)
    assert encoder.model.encoder.layer[3].training and not encoder.model.encoder.layer[2].training
    assert not any(parameter.requires_grad for parameter in bert().parameters())


def test_long_texts_are_cut_and_the_position_table_is_never_overrun(bert):
    assert bert(max_length=8).prepare(["dog " * 100])["input_ids"].shape == (1, 8)
    encoder = bert(max_length=500)
    assert encoder(encoder.prepare(["dog " * 100])).pooled.isfinite().all()
    assert encoder.prepare([])["input_ids"].shape[0] == 0


def test_fingerprint_knows_weights_tokenizer_and_length(bert, captions):
    variants = [bert(), bert(pool="first"), bert(max_length=8), bert(train_blocks=1), bert(weights="none")]
    assert len({encoder.prefix_fingerprint for encoder in variants}) == len(variants)
    encoder = bert()
    before = encoder.prefix_fingerprint
    encoder.prepare(captions)  # leaves its padding in the tokenizer
    assert encoder.prefix_fingerprint == before == bert().prefix_fingerprint
    encoder.tokenizer.add_tokens(["surfboard"])
    assert encoder.prefix_fingerprint != before


def test_saved_and_loaded_gives_the_same_without_its_source(bert, bert_folder, captions, tmp_path, monkeypatch):
    encoder = bert(train_blocks=2, output="tokens").eval()
    with torch.no_grad():
        encoder.model.encoder.layer[3].output.dense.weight.add_(0.1)
    save_encoder(encoder, tmp_path / "saved")
    expected = encoder(encoder.prepare(captions))
    hidden = bert_folder.rename(bert_folder.with_name("hidden"))
    try:
        loaded = load_encoder(tmp_path / "saved")
    finally:
        hidden.rename(bert_folder)
    found = loaded(loaded.prepare(captions))
    assert torch.equal(found.tokens, expected.tokens) and torch.equal(found.pooled, expected.pooled)
    assert loaded.prefix_fingerprint == encoder.prefix_fingerprint
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in encoder.parameters()]


def test_text_half_of_clip(tmp_path, bert_folder, captions):
    from transformers import AutoTokenizer, CLIPConfig, CLIPModel

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 60, "max_position_embeddings": 20, "eos_token_id": 3, "bos_token_id": 2}
    config = CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 32, "patch_size": 16}, projection_dim=8)
    torch.manual_seed(0)
    clip = CLIPModel(config).eval()
    clip.save_pretrained(tmp_path / "clip")
    AutoTokenizer.from_pretrained(bert_folder).save_pretrained(tmp_path / "clip")
    encoder = build_encoder(EncoderConfig(kind="text", name=str(tmp_path / "clip")))
    inputs = encoder.prepare(captions)
    with torch.no_grad():
        expected = clip.text_model(**inputs).pooler_output
    torch.testing.assert_close(encoder(inputs).pooled, expected)
    save_encoder(encoder, tmp_path / "saved")
    assert torch.equal(load_encoder(tmp_path / "saved")(inputs).pooled, encoder(inputs).pooled)
    with pytest.raises(ConfigError, match=r"BERT's layout.*train_blocks=0"):
        build_encoder(EncoderConfig(kind="text", name=str(tmp_path / "clip"), train_blocks=1))
    assert not encoder.has_class_token  # each token sees those before it alone
    for pool in ("first", "first+mean"):
        with pytest.raises(ConfigError, match='knows nothing of the others; its pool can be "model" or "mean"'):
            build_encoder(EncoderConfig(kind="text", name=str(tmp_path / "clip"), pool=pool))


def test_a_model_that_reads_from_left_to_right_has_no_class_token(tmp_path, bert_folder):
    from transformers import AutoTokenizer, GPT2Config

    GPT2Config(vocab_size=60, n_positions=24, n_embd=16, n_layer=2, n_head=2).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(bert_folder).save_pretrained(tmp_path)
    of_folder = {"kind": "text", "name": str(tmp_path), "weights": "none"}
    encoder = build_encoder(EncoderConfig(**of_folder))
    assert encoder(encoder.prepare(["a dog", "a cat on a mat"])).pooled.shape == (2, 16)
    assert not encoder.has_class_token
    with pytest.raises(ConfigError, match=r"reads from left to right.*its pool can be"):
        build_encoder(EncoderConfig(**of_folder, pool="first"))


def test_a_model_that_needs_more_than_tokens_is_refused(tmp_path, bert_folder):
    from transformers import AutoTokenizer, T5Config

    T5Config(vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(bert_folder).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="T5Model makes no features of token numbers alone"):
        build_encoder(EncoderConfig(kind="text", name=str(tmp_path), weights="none"))


@pytest.mark.parametrize("place", ["folder", "weights", "random", "hub"])
def test_a_text_half_that_cannot_be_built_is_told(place, tmp_path, bert_folder):
    from transformers import AutoTokenizer, SiglipConfig

    folder = str(tmp_path / "siglip")
    SiglipConfig().save_pretrained(folder)
    AutoTokenizer.from_pretrained(bert_folder).save_pretrained(folder)
    weights = {"folder": "auto", "weights": folder, "random": "none", "hub": "hub"}[place]
    with pytest.raises(ConfigError, match=r"no 'siglip_text_model' on its own; models of BERT's kind .* and CLIP can"):
        build_encoder(EncoderConfig(kind="text", name=folder, weights=weights, stand_in=str(bert_folder)))


def test_roberta_layout_and_its_positions(tmp_path, bert_folder):
    from transformers import AutoTokenizer, RobertaConfig, RobertaModel

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    RobertaModel(RobertaConfig(**sizes, vocab_size=60, max_position_embeddings=22, pad_token_id=0)).save_pretrained(
        tmp_path
    )
    AutoTokenizer.from_pretrained(bert_folder).save_pretrained(tmp_path)
    frozen = build_encoder(EncoderConfig(kind="text", name=str(tmp_path)))
    trained = build_encoder(EncoderConfig(kind="text", name=str(tmp_path), train_blocks=-1)).eval()
    inputs = frozen.prepare(["dog " * 100, "a cat"])
    torch.testing.assert_close(trained(inputs).pooled, frozen(inputs).pooled, rtol=1e-4, atol=1e-5)


def test_messages(bert, bert_folder, tmp_path):
    with pytest.raises(DataError, match="takes strings, and was given int"):
        bert().prepare(["dog", 3])
    with pytest.raises(DataError, match="half a surrogate pair"):
        bert().prepare(["dog", "a torn emoji \ud83d"])
    with pytest.raises(ConfigError, match="has 4 layers; train_blocks cannot be 9"):
        bert(train_blocks=9)
    with pytest.raises(WeightsError, match="there are no weights at"):
        bert(weights=str(tmp_path / "absent"))
    with pytest.raises(WeightsError, match="is no folder"):
        bert(name="bert-base-uncased", weights="none")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="do not fit"):
        bert(weights=str(tmp_path))


def test_incomplete_weights_are_refused(bert_folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(bert_folder, tmp_path / "part")
    state = load_file(tmp_path / "part" / "model.safetensors")
    state = {name: tensor for name, tensor in state.items() if "layer.2" not in name}
    save_file(state, tmp_path / "part" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lack 16 tensors.*layer\.2"):
        build_encoder(EncoderConfig(kind="text", name=str(tmp_path / "part")))


def test_a_model_that_is_more_than_its_layers_is_not_cut(bert_folder, tmp_path):
    from transformers import MegatronBertConfig, MegatronBertModel

    shutil.copytree(bert_folder, tmp_path / "model")
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    MegatronBertModel(MegatronBertConfig(vocab_size=64, **small)).save_pretrained(tmp_path / "model")
    named = {"kind": "text", "name": str(tmp_path / "model")}
    build_encoder(EncoderConfig(**named))
    with pytest.raises(ConfigError, match="MegatronBertModel does more than its embeddings and layers"):
        build_encoder(EncoderConfig(**named, train_blocks=1))  # a norm behind the last layer would be left out
