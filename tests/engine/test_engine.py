"""The engine: a collection and its model, asked with words, pictures, codes and ids."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from hashret import Collection, CrossModalHasher, Engine
from hashret.data import open_dataset
from hashret.errors import DataError, InputError, MismatchError, StorageError, UnknownIdError
from hashret.indexing import index_dataset


@pytest.fixture(scope="module")
def engine(world):
    with Engine.open(world.collection) as engine:
        yield engine


def test_every_kind_of_query_gives_one_row(world, engine):
    picture = world.folder / "3.png"
    code = engine.collection.codes(["s3"])
    for query in ({"text": "a bar"}, {"image": picture}, {"code": code}, {"code": code[0]}, {"id": "s3"}):
        hits = engine.search(**query, k=5)
        assert hits.ids.shape == hits.distances.shape == (1, 5)
        assert (np.diff(hits.distances[0]) >= 0).all()


def test_a_picture_may_be_a_path_bytes_or_pixels(world, engine):
    from PIL import Image

    path = world.folder / "3.png"
    pixels = np.asarray(Image.open(path).convert("RGB"))
    found = [engine.search(image=image, k=3).ids.tolist() for image in (path, str(path), path.read_bytes(), pixels)]
    assert found.count(found[0]) == 4


def test_words_and_the_models_code_of_them_find_the_same(engine):
    code = engine.model.encode_texts(["a red square"])
    by_words = engine.search("a red square", k=10)
    by_code = engine.search(code=code, k=10)
    assert by_words.ids.tolist() == by_code.ids.tolist()
    assert by_words.distances.tolist() == by_code.distances.tolist()


def test_radius_and_filter_hold_for_words(engine):
    hits = engine.search("a red square", k=48, radius=12, where={"split": "test"})
    found = [metadata for metadata in hits.metadata[0] if metadata is not None]
    assert all(metadata["split"] == "test" for metadata in found)
    assert hits.distances.max() <= 12


def test_a_relaxed_search_finds_what_the_collection_does_with_the_models_floats(world, engine):
    picture = world.folder / "3.png"
    for query, floats in (
        ({"text": "a red square"}, engine.model.encode_texts(["a red square"], relaxed=True)),
        ({"image": picture}, engine.model.encode_images([picture], relaxed=True)),
    ):
        for where in (None, {"split": "test"}):
            hits = engine.search(**query, k=6, where=where, relaxed=True)
            scored = engine.collection.search_asymmetric(floats, 6, where=where)
            assert type(hits) is type(engine.search(**query))
            assert hits.ids.tolist() == scored.ids.tolist() and hits.metadata == scored.metadata
            assert hits.distances.tolist() == scored.distances.tolist()
            assert (np.diff(scored.scores) <= 0).all() and (hits.distances >= 0).all()


def test_a_relaxed_search_by_the_first_bits(world, tmp_path):
    with Collection.open(world.collection) as collection, Collection.create(tmp_path / "c", n_bits=16) as short:
        short.add(np.ascontiguousarray(collection.codes(list(collection))[:, :2]))
    with Engine.open(tmp_path / "c", model=world.model) as engine:
        floats = engine.model.encode_texts(["a bar"], relaxed=True, n_bits=16)
        scored = engine.collection.search_asymmetric(floats, 10)
        assert engine.search("a bar", relaxed=True).ids.tolist() == scored.ids.tolist()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"id": "s1"}, "needs words or a picture"),
        ({"code": np.zeros(4, np.uint8)}, "needs words or a picture"),
        ({"text": "red", "radius": 3}, "takes no radius"),
    ],
    ids=["id", "code", "radius"],
)
def test_a_relaxed_search_refuses_what_has_no_floats(engine, query, words):
    with pytest.raises(InputError, match=words):
        engine.search(**query, relaxed=True)


@pytest.mark.parametrize("query", [{}, {"text": "a", "id": "s1"}, {"text": " \n"}, {"text": 5}])
def test_a_query_that_is_none_or_two_is_refused(engine, query):
    with pytest.raises(InputError):
        engine.search(**query)


def test_an_unknown_id_and_an_unreadable_picture_are_told(world, engine):
    with pytest.raises(UnknownIdError, match="nobody"):
        engine.search(id="nobody")
    with pytest.raises(DataError, match=r"captions\.jsonl"):
        engine.search(image=world.captions)


def test_a_model_that_did_not_make_the_codes_is_refused(world, tmp_path):
    import torch

    other = CrossModalHasher.load(world.model)
    with torch.no_grad():
        next(other.tower("text").head.parameters()).mul_(2)
    with Collection.open(world.collection) as collection, pytest.raises(MismatchError):
        Engine(collection, model=other)
    other.save(tmp_path / "other")
    with Engine.open(world.collection, model=tmp_path / "other") as engine, pytest.raises(MismatchError):
        engine.search("red")


def test_a_collection_and_its_model_can_move_together(world, tmp_path):
    shutil.copytree(world.model, tmp_path / "old" / "model")
    made = index_dataset(
        CrossModalHasher.load(world.model),
        open_dataset(world.captions).split("test"),
        tmp_path / "old" / "shapes.hashret",
        model_path=tmp_path / "old" / "model",
    )
    made.close()
    (tmp_path / "old").rename(tmp_path / "new")
    with Engine.open(tmp_path / "new" / "shapes.hashret") as engine:
        assert engine.search("a bar", k=1).distances[0, 0] >= 0


def test_a_collection_without_a_model_can_be_asked_by_code_only(tmp_path):
    codes = np.arange(8, dtype=np.uint8).reshape(4, 2)
    with Collection.create(tmp_path / "c.hashret", n_bits=16) as collection:
        collection.add(codes, ids=["a", "b", "c", "d"])
    with Engine.open(tmp_path / "c.hashret") as engine:
        assert engine.search(code=codes[2], k=1).ids[0, 0] == "c"
        with pytest.raises(MismatchError, match="model="):
            engine.search("words")


def test_a_model_that_is_gone_is_told(world, tmp_path):
    with Collection.create(tmp_path / "c.hashret", n_bits=32, model=tmp_path / "gone") as collection:
        collection.add(np.zeros((1, 4), np.uint8), ids=["a"])
    with (
        Engine.open(tmp_path / "c.hashret") as engine,
        pytest.raises(StorageError, match=r"gone' any more; .* --model"),
    ):
        engine.search("words")


def test_items_carry_what_their_record_said(world):
    with Collection.open(world.collection) as collection:
        items = collection.get(["s5"])
    assert items.metadata[0]["captions"] == ["a green square", "square in green"]
    assert items.metadata[0]["labels"] == ["green"]
    assert items.metadata[0]["split"] == "train"
    assert items.metadata[0]["year"] == 2005
    assert items.metadata[0]["image"] == str(world.folder / "5.png")


def test_nothing_to_index_is_told(world, tmp_path):
    from hashret.data import Dataset, Record

    model = CrossModalHasher.load(world.model)
    with pytest.raises(DataError, match="no pictures"):
        index_dataset(model, Dataset("words", (Record("a", captions=("x",)),)), tmp_path / "c.hashret")
    assert not (tmp_path / "c.hashret").exists()
