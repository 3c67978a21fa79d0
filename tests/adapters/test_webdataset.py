"""Tar shards out and in, and through the real package."""

from __future__ import annotations

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from hashret import Collection
from hashret.adapters import write_shards
from hashret.data import open_dataset
from hashret.encoders import EncoderConfig, build_encoder, cached_prefix
from hashret.errors import DataError, InputError, StorageError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HASHRET_CACHE", str(tmp_path / "cache"))


def test_a_data_set_survives_the_way_there_and_back(world, tmp_path):
    dataset = open_dataset(world.captions)
    shards = write_shards(dataset, tmp_path / "shards", per_shard=20)
    assert [shard.name for shard in shards] == ["000000.tar", "000001.tar", "000002.tar"]
    again = open_dataset(tmp_path / "shards")
    for before, after in zip(dataset, again, strict=True):
        assert (before.id, before.captions, before.labels, before.split) == (
            after.id,
            after.captions,
            after.labels,
            after.split,
        )
        assert before.metadata == after.metadata
        assert before.image.read_bytes() == after.image.read_bytes()
    assert open_dataset(tmp_path / "shards").fingerprint == again.fingerprint
    assert len(open_dataset(shards[2])) == 8


def test_a_picture_of_any_name_and_a_split_of_any_kind_come_back(tmp_path):
    Image.new("RGB", (8, 8), "red").save(tmp_path / "1.jpg_large", format="JPEG")
    with Collection.create(tmp_path / "c.hashret", n_bits=8) as collection:
        about = {"image": str(tmp_path / "1.jpg_large"), "captions": ["a red square"], "split": 3}
        collection.add(np.zeros((1, 1), np.uint8), ["one"], [about])
        write_shards(collection, tmp_path / "shards")
    (record,) = open_dataset(tmp_path / "shards")
    assert (record.split, record.image.read_bytes()) == ("3", (tmp_path / "1.jpg_large").read_bytes())


def test_the_same_items_give_the_same_bytes(world, tmp_path):
    dataset = open_dataset(world.captions).split("test")
    (first,), (second,) = (write_shards(dataset, tmp_path / name) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_the_package_reads_a_collection(world, tmp_path):
    wds = pytest.importorskip("webdataset", reason="pip install webdataset")
    with Collection.open(world.collection) as collection:
        shards = write_shards(collection, tmp_path / "shards", per_shard=30)
        codes = collection.codes(list(collection))
        ids = list(collection)
    read = list(wds.WebDataset([str(shard) for shard in shards], shardshuffle=False).decode("pil"))
    assert [sample["json"]["id"] for sample in read] == ids
    assert (np.stack([sample["code.npy"] for sample in read]) == codes).all()
    assert read[0]["png"].size == (64, 64)
    assert read[0]["txt"].split("\n") == read[0]["json"]["captions"]


@pytest.mark.parametrize("captions, lines", [("two dogs", "two dogs"), (["a", "b  c"], "a\nb c"), (7, None)])
def test_captions_of_a_collection_may_be_one_string(tmp_path, captions, lines):
    with Collection.create(tmp_path / "c.hashret", n_bits=8) as collection:
        collection.add(np.zeros((1, 1), np.uint8), ids=["a"], metadata=[{"captions": captions}])
        (shard,) = write_shards(collection, tmp_path / "shards")
    with tarfile.open(shard) as archive:
        texts = [archive.extractfile(name).read().decode() for name in archive.getnames() if name.endswith(".txt")]
    assert texts == ([] if lines is None else [lines])


def test_shards_of_the_package_are_read(world, tmp_path):
    wds = pytest.importorskip("webdataset", reason="pip install webdataset")
    with wds.TarWriter(str(tmp_path / "theirs.tar")) as sink:
        for number in range(3):
            content = (world.folder / f"{number}.png").read_bytes()
            sink.write({"__key__": f"train/{number}", "png": content, "txt": f"caption {number}", "cls": number})
    records = open_dataset(tmp_path / "theirs.tar").records
    assert [record.captions for record in records] == [(f"caption {n}",) for n in range(3)]
    assert [record.labels for record in records] == [("0",), ("1",), ("2",)]
    assert [record.id for record in records] == ["train/0", "train/1", "train/2"]


def shard_of(path, **members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name.replace("__", "/").replace("_", "."))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def test_features_of_one_shard_are_not_taken_for_those_of_another(tmp_path):
    """Uncompressed pictures of one size have files of one size, and their names are numbers."""
    shards = []
    for colour in ("red", "blue"):
        content = io.BytesIO()
        Image.new("RGB", (32, 32), colour).save(content, "bmp")
        shards.append(shard_of(tmp_path / f"{colour}.tar", a_bmp=content.getvalue()))
    (tmp_path / "else").mkdir()
    shards.append(shutil.copy(shards[0], tmp_path / "else" / "copy.tar"))
    red, blue, copy = (open_dataset(shard) for shard in shards)
    assert red[0].image.stat().st_size == blue[0].image.stat().st_size
    assert red.fingerprint != blue.fingerprint
    encoder = build_encoder(EncoderConfig(kind="image", name="test_vit", weights="none"))
    features = [cached_prefix(encoder, [dataset[0].image], cache_dir=tmp_path) for dataset in (red, blue, copy)]
    assert features[0].path == features[2].path  # the same pictures in another place are not encoded again
    assert not np.array_equal(features[0].pooled, features[1].pooled)


def test_no_name_in_a_shard_leaves_the_cache(world, tmp_path):
    content = (world.folder / "1.png").read_bytes()
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        for name in ("../../up.png", "/tmp/absolute.png"):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    for record in open_dataset(tmp_path / "evil.tar"):
        assert record.image.is_relative_to(tmp_path / "cache")
    assert not (tmp_path / "up.png").exists()


def test_a_folder_of_the_user_is_not_written_to(world, tmp_path):
    (tmp_path / "mine").mkdir()
    (shard,) = write_shards(open_dataset(world.captions).split("test"), tmp_path / "shards")
    assert len(open_dataset(shard, images_root=tmp_path / "mine")) == 16
    assert not list((tmp_path / "mine").iterdir())


def test_what_cannot_be_read_is_told(world, tmp_path):
    (tmp_path / "no.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(DataError, match="no tar file"):
        open_dataset(tmp_path / "no.tar")
    with pytest.raises(DataError, match=r"a\.json"):
        open_dataset(shard_of(tmp_path / "json.tar", a_json=b"{"))
    with pytest.raises(DataError, match="object"):
        open_dataset(shard_of(tmp_path / "list.tar", a_json=json.dumps([1]).encode()))
    whole = write_shards(open_dataset(world.captions), tmp_path / "whole")[0]
    (tmp_path / "half.tar").write_bytes(whole.read_bytes()[:20_000])
    with pytest.raises(DataError, match="damaged"):
        open_dataset(tmp_path / "half.tar")
    assert not any(path.name.startswith("half") for path in (tmp_path / "cache").rglob("*"))


def test_a_picture_that_cannot_be_read_leaves_no_shards(world, tmp_path):
    pictures = shutil.copytree(world.folder, tmp_path / "pictures", ignore=shutil.ignore_patterns("run", "*.hashret"))
    dataset = open_dataset(pictures / "captions.jsonl")
    (pictures / "30.png").rename(pictures / "gone")
    with pytest.raises(DataError, match=r"30\.png"):
        write_shards(dataset, tmp_path / "shards", per_shard=10)
    assert not list((tmp_path / "shards").iterdir())
    (pictures / "gone").rename(pictures / "30.png")
    assert len(write_shards(dataset, tmp_path / "shards", per_shard=10)) == 5


def test_an_item_with_neither_picture_nor_caption_is_left_out_when_it_is_read(tmp_path):
    with Collection.create(tmp_path / "c.hashret", n_bits=8) as collection:
        metadata = [{"captions": ["one"]}, {"year": 2020}, {"captions": ["three"]}]
        collection.add(np.zeros((3, 1), np.uint8), ids=["a", "b", "c"], metadata=metadata)
        write_shards(collection, tmp_path / "shards", per_shard=1)
    dataset = open_dataset(tmp_path / "shards")
    assert dataset.ids == ("a", "c")
    assert dataset.skipped.count == 1
    assert "000001.tar, 000000001: neither a picture nor a caption" in dataset.skipped.summary()
    with pytest.raises(DataError, match=r"000001\.tar, 000000001: neither a picture nor a caption"):
        open_dataset(tmp_path / "shards", strict=True)


def test_ids_that_are_one_text_are_refused_before_anything_is_written(tmp_path):
    with Collection.create(tmp_path / "c.hashret", n_bits=8) as collection:
        collection.add(np.zeros((3, 1), np.uint8), ids=["1", 2, 1], metadata=[{"captions": ["x"]}] * 3)
        with pytest.raises(InputError, match="1 ids occur as a number and as text, such as 1 and '1'"):
            write_shards(collection, tmp_path / "shards")
        assert not (tmp_path / "shards").exists()
        collection.delete([1])
        write_shards(collection, tmp_path / "shards")
    assert open_dataset(tmp_path / "shards").ids == ("1", "2")


def test_shards_are_not_written_over(world, tmp_path):
    dataset = open_dataset(world.captions)
    with pytest.raises(InputError, match="per_shard"):
        write_shards(dataset, tmp_path / "shards", per_shard=0)
    write_shards(dataset, tmp_path / "shards")
    with pytest.raises(StorageError, match="already"):
        write_shards(dataset, tmp_path / "shards")
    assert len(open_dataset(tmp_path / "shards")) == len(dataset)
