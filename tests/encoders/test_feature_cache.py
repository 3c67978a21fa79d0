"""The cache of frozen features: equal to computing, keyed by what matters, whole or absent, never half."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from hashret.encoders import CachedFeatures, EncoderConfig, build_encoder, cached_prefix
from hashret.encoders.cache import _digest
from hashret.errors import CorruptError, DataError, InputError, StorageError


def features(**settings):
    return build_encoder(EncoderConfig(**{"kind": "features", "name": "own", "width": 4, **settings}))


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return [random.standard_normal((3 + number % 4, 4)).astype(np.float32) for number in range(23)]


def test_pooled_features_are_what_the_encoder_gives(bert_folder, captions, tmp_path):
    encoder = build_encoder(EncoderConfig(kind="text", name=str(bert_folder)))
    many = [f"{caption} {number}" for number in range(9) for caption in captions]
    cached = cached_prefix(encoder, many, cache_dir=tmp_path, batch_size=7)
    assert len(cached) == len(many) and cached.width == encoder.width and cached.pooled.shape == (45, 32)
    rows = [44, 0, 13, 13]
    found, expected = cached.batch(rows), encoder(encoder.prepare([many[row] for row in rows]))
    torch.testing.assert_close(found.pooled, expected.pooled, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.tokens[:, 0], found.pooled) and found.mask.shape == (4, 1) and found.mask.all()
    assert not (cached.path / "tokens.npy").exists()


def test_ragged_tokens_come_back_in_their_rows(bert_folder, captions, tmp_path):
    for train_blocks in (0, 2):
        config = EncoderConfig(kind="text", name=str(bert_folder), output="tokens", train_blocks=train_blocks)
        encoder = build_encoder(config)
        cached = cached_prefix(encoder, captions, cache_dir=tmp_path, batch_size=2)
        found, inputs = cached.batch(torch.tensor([4, 3, 1])), encoder.prepare([captions[row] for row in (4, 3, 1)])
        expected = encoder.prefix(inputs)
        assert torch.equal(found.mask, expected.mask)
        held = expected.mask
        torch.testing.assert_close(found.tokens[held], expected.tokens[held], rtol=2e-3, atol=2e-3)
        assert found.tokens.dtype == torch.float32 and not found.tokens[~held].any()
        assert (found.pooled is None) == (train_blocks > 0)
        torch.testing.assert_close(encoder.suffix(found).pooled, encoder(inputs).pooled, rtol=1e-2, atol=1e-2)


def test_border_of_a_vit_trains_from_the_cache(pictures, tmp_path):
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(kind="image", name="test_vit", weights="none", train_blocks=1, token_grid=5))
    cached = cached_prefix(encoder, pictures, cache_dir=tmp_path, batch_size=3)
    batch = cached.batch(np.array([9, 2]))
    assert batch.tokens.shape == (2, 26, encoder.width) and batch.mask.all()
    pooled = encoder.train().suffix(batch).pooled
    pooled[:, 0].sum().backward()  # the sum of a normalised vector has no gradient
    assert encoder.model.blocks[-1].mlp.fc1.weight.grad.abs().sum() > 0
    direct = encoder.eval()(encoder.prepare([pictures[9], pictures[2]])).pooled
    torch.testing.assert_close(pooled, direct, rtol=1e-2, atol=1e-2)


def test_second_time_nothing_is_computed(arrays, tmp_path, monkeypatch):
    encoder = features()
    first = cached_prefix(encoder, arrays, cache_dir=tmp_path)
    monkeypatch.setattr(type(encoder), "prefix", lambda self, inputs: pytest.fail("computed again"))
    again = cached_prefix(encoder, arrays, cache_dir=tmp_path)
    assert again.path == first.path and np.array_equal(again.pooled, first.pooled)


def test_key_knows_items_files_and_encoder(arrays, tmp_path):
    encoder = features()

    def entry(items=arrays, encoder=encoder):
        return cached_prefix(encoder, items, cache_dir=tmp_path).path.name

    other = [*arrays[:-1], arrays[-1] + 1]
    names = [entry(), entry(other), entry(arrays[::-1]), entry(encoder=features(output="tokens"))]
    assert len(set(names)) == len(names) and entry() == names[0]
    np.save(tmp_path / "item.npy", arrays[0])
    before = entry([tmp_path / "item.npy"])
    np.save(tmp_path / "item.npy", arrays[1])
    assert entry([str(tmp_path / "item.npy")]) != before


def test_a_line_break_in_a_text_is_no_border_between_two():
    lists = (["a\nb", "c"], ["a", "b\nc"], ["a\nb\nc"], ["a", "b", "c"], ["a", "1 bc"], ["a1 b", "c"])
    assert len({_digest(texts, files=False) for texts in lists}) == len(lists)


def test_pil_images_count_by_what_is_seen():
    def palette(*colour, transparency=None):
        image = Image.new("P", (4, 4))
        image.putpalette(colour)
        if transparency is not None:
            image.info["transparency"] = transparency
        return image

    deep = [Image.fromarray(np.full((4, 4), value, np.uint16)) for value in (1000, 1001)]  # one and the same in 8 bits
    images = [palette(255, 0, 0), palette(0, 0, 255), palette(255, 0, 0, transparency=0), *deep]
    images += [Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)) for _ in range(2)]
    images[-1].getexif()[ExifTags.Base.Orientation] = 3
    assert len({_digest([image], files=True) for image in images}) == len(images)
    assert _digest([palette(255, 0, 0)], files=True) == _digest([images[0]], files=True)


@pytest.mark.parametrize("length", [4, 100_000])
def test_files_of_one_name_size_and_time_are_told_apart_and_may_move(tmp_path, length):
    encoder = features(width=length)

    def entry(folder, value):
        file = tmp_path / folder / "item.npy"
        if not file.exists():
            file.parent.mkdir()
            array = np.zeros(length, np.float32)
            array[length // 2] = value
            np.save(file, array)
            os.utime(file, (1e9, 1e9))
        return cached_prefix(encoder, [file], cache_dir=tmp_path / "cache")

    one, other = entry("a", 1), entry("b", 2)
    assert one.path != other.path
    assert not np.array_equal(one.pooled, other.pooled)
    (tmp_path / "a").rename(tmp_path / "moved")
    assert entry("moved", 1).path == one.path


def test_a_pipe_or_a_missing_file_is_told(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    for name in ("gone.npy", "x" * 300):
        with pytest.raises(DataError, match="no readable"):
            cached_prefix(features(), [tmp_path / name], cache_dir=tmp_path / "cache")
    assert _digest([tmp_path / "pipe.npy"], files=True) != _digest([tmp_path / "gone.npy"], files=True)


def test_default_place(arrays, tmp_path, monkeypatch):
    monkeypatch.setenv("HASHRET_CACHE", str(tmp_path / "here"))
    assert cached_prefix(features(), arrays).path.parent == tmp_path / "here"


def test_no_items(tmp_path, bert_folder):
    for encoder in (features(), features(output="tokens"), build_encoder(EncoderConfig("text", str(bert_folder)))):
        cached = cached_prefix(encoder, [], cache_dir=tmp_path)
        assert len(cached) == 0 and cached.batch([]).pooled.shape == (0, encoder.width)


def test_rows_outside_are_refused(arrays, tmp_path):
    cached = cached_prefix(features(), arrays, cache_dir=tmp_path)
    for rows in ([23], [-1], [0, 99]):
        with pytest.raises(InputError, match=r"0 … 22"):
            cached.batch(rows)


@pytest.mark.parametrize("name", ["cache.json", "tokens.npy", "starts.npy", "lengths.npy", "pooled.npy"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damaged_entry_is_refused_and_computed_again(arrays, tmp_path, name, damage):
    encoder = features(output="tokens")
    whole = cached_prefix(encoder, arrays, cache_dir=tmp_path)
    expected, file = whole.batch(range(23)), whole.path / name
    if damage == "cut":
        os.truncate(file, file.stat().st_size // 2)
    elif damage == "flipped":
        content = bytearray(file.read_bytes())
        content[-5] ^= 1 if name != "cache.json" else 255
        file.write_bytes(content)
    else:
        file.unlink()
    with pytest.raises(CorruptError, match="damaged"):
        CachedFeatures(whole.path)
    again = cached_prefix(encoder, arrays, cache_dir=tmp_path).batch(range(23))
    assert torch.equal(again.tokens, expected.tokens) and torch.equal(again.pooled, expected.pooled)


def test_a_bad_item_leaves_nothing(arrays, tmp_path):
    with pytest.raises(DataError, match="NaN"):
        cached_prefix(features(), [*arrays, np.full(4, np.nan)], cache_dir=tmp_path, batch_size=4)
    assert entries(tmp_path) == []


_WORKER = """
import sys, signal, os
import numpy as np
from hashret.encoders import EncoderConfig, build_encoder, cached_prefix
mode, folder = sys.argv[1:]
encoder = build_encoder(EncoderConfig("features", "own", width=64, output="tokens"))
arrays = [np.full((8, 64), number, dtype=np.float32) for number in range(400)]
if mode == "killed":
    plain, batches = type(encoder).prefix, []
    def prefix(self, inputs):
        batches.append(None)
        if len(batches) == 30:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, inputs)
    type(encoder).prefix = prefix
if mode == "full":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # longer files are refused, as on a full disk
try:
    cached = cached_prefix(encoder, arrays, cache_dir=folder, batch_size=8)
except OSError as error:
    print(type(error).__name__, error)
    sys.exit(3)
assert (cached.batch(range(400)).pooled[:, 0].numpy() == np.arange(400)).all()
"""


def work(mode: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", _WORKER, mode, str(folder)], capture_output=True, text=True)


def test_kill_in_the_middle_leaves_no_half_entry(tmp_path):
    assert work("killed", tmp_path).returncode == -9
    (part,) = entries(tmp_path)
    assert part.endswith(".part") and (tmp_path / part / "tokens.npy").stat().st_size > 0
    done = work("whole", tmp_path)
    assert done.returncode == 0, done.stderr
    assert entries(tmp_path) == [part.removesuffix(".part")]
    assert json.loads((tmp_path / part.removesuffix(".part") / "cache.json").read_text())["items"] == 400


def test_full_disk_is_a_sentence_and_leaves_nothing(tmp_path):
    done = work("full", tmp_path)
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("StorageError") and "make room" in done.stdout and entries(tmp_path) == []


def test_unwritable_place_is_a_sentence(arrays, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="name another place"):
        cached_prefix(features(), arrays, cache_dir=tmp_path / "file" / "cache")


def test_two_at_once_compute_it_once(tmp_path):
    command = [sys.executable, "-c", _WORKER, "whole", str(tmp_path)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.communicate()[1] == "" and process.returncode == 0
    assert len(entries(tmp_path)) == 1
