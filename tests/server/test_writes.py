"""Adding, replacing and removing items over HTTP: who may, and what is there afterwards."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from hashret import Collection
from hashret.indexing import FolderIndex
from hashret.server import Settings

TOKEN = "open-sesame"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ITEM = {"id": "new", "code": "00ff", "metadata": {"year": 2021}}


def test_an_added_item_is_found_and_durable(plain):
    client, path = plain
    answer = client.post("/api/items", json={"items": [ITEM, {"id": 17, "code": "0f0f"}]}, headers=BEARER)
    assert (answer.status_code, answer.json()) == (201, {"ids": ["new", 17], "count": 6})
    hits = client.post("/api/search/codes", json={"codes": ["00ff"], "k": 1}).json()["results"][0]["hits"]
    assert hits[0] == {"id": "new", "distance": 0, "metadata": {"year": 2021}, "thumbnail": None}
    with Collection.open(path) as collection:
        assert collection.codes([17]).tolist() == [[15, 15]]


def test_replacing_and_removing(plain):
    client, _ = plain
    assert client.put("/api/items", json={"items": [ITEM]}, headers=BEARER).status_code == 200
    again = {"items": [{**ITEM, "code": "ffff", "metadata": {}}]}
    assert client.put("/api/items", json=again, headers=BEARER).json()["count"] == 5
    assert client.get("/api/item", params={"id": "new"}).json()["code"] == "ffff"
    gone = client.post("/api/items/delete", json={"ids": ["new", 0]}, headers=BEARER)
    assert (gone.status_code, gone.json()["count"]) == (200, 3)
    assert client.get("/api/item", params={"id": "new"}).status_code == 404


@pytest.fixture
def three(world, tmp_path):
    """The collection of a folder of three pictures, and the folder."""
    path, folder = tmp_path / "photos.hashret", tmp_path / "photos"
    folder.mkdir()
    for name in ("1.png", "2.png", "3.png"):
        shutil.copy(world.folder / name, folder)
    with FolderIndex.open(folder, path, model=world.model) as index:
        assert index.update().added == 3
    return path, folder


def test_a_replaced_item_keeps_its_file_and_the_index_of_the_folder_leaves_it(three, serve):
    """A client that JavaScript runs sends the time of the file rounded, and one may send nothing but its own fields."""
    path, folder = three
    picture = {"picture": ("p.png", (folder / "3.png").read_bytes())}
    with serve(path) as client:
        rated, short = (client.get("/api/item", params={"id": name}).json() for name in ("1.png", "2.png"))
        rated["metadata"] |= {"rating": 5, "mtime_ns": float(rated["metadata"]["mtime_ns"])}
        short["metadata"] = {"rating": 4}
        items = [{name: item[name] for name in ("id", "code", "metadata")} for item in (rated, short, ITEM)]
        items[2]["code"] = rated["code"]
        assert client.put("/api/items", json={"items": items}, headers=BEARER).status_code == 200
        for name in ("1.png", "2.png"):
            item = client.get("/api/item", params={"id": name}).json()
            assert "image" not in item["metadata"]
            assert client.get(item["thumbnail"]).status_code == 200
        assert client.get("/api/item", params={"id": "new"}).json()["thumbnail"] is None
        form = {"id": "3.png", "replace": "true"}
        assert client.post("/api/items/picture", files=picture, data=form, headers=BEARER).status_code == 201
        assert client.get("/api/item", params={"id": "3.png"}).json()["thumbnail"] is None  # it was another picture's
    with FolderIndex.open(folder, path) as index:
        changes = index.update()
        assert (changes.unchanged, changes.touched, changes.added) == (2, 0, 1)
        assert [about.get("rating") for about in index.collection.get(["1.png", "2.png"]).metadata] == [5, 4]


def test_a_code_that_a_client_wrote_is_not_given_to_other_pictures(three, serve):
    path, folder = three
    with Collection.open(path) as collection:
        code = collection.codes(["1.png"])[0]
    with serve(path) as client:
        items = [{"id": name, "code": bytes(~code).hex()} for name in ("1.png", "2.png")]
        assert client.put("/api/items", json={"items": items}, headers=BEARER).status_code == 200
    shutil.copy(folder / "1.png", folder / "copy.png")
    (folder / "2.png").rename(folder / "renamed.png")
    with FolderIndex.open(folder, path) as index:
        changes = index.update()
        assert (changes.unchanged, changes.added, changes.encoded) == (2, 2, 2)
        assert index.collection.codes(["copy.png", "1.png"]).tolist() == [code.tolist(), (~code).tolist()]


def test_the_writer_goes_on_where_the_collection_comes_back_from_a_backup(plain, tmp_path):
    client, path = plain
    shutil.copytree(path, tmp_path / "backup")
    for remove in (lambda: shutil.rmtree(path), lambda: path.rename(tmp_path / "old")):
        assert client.put("/api/items", json={"items": [ITEM]}, headers=BEARER).json()["count"] == 5
        remove()
        shutil.copytree(tmp_path / "backup", path)
        assert client.post("/api/items", json={"items": [ITEM]}, headers=BEARER).status_code == 503
        assert client.post("/api/items", json={"items": [ITEM]}, headers=BEARER).json()["count"] == 5
    (path / "lock").unlink()
    answers = [client.post("/api/items/delete", json={"ids": [0]}, headers=BEARER).status_code for _ in range(2)]
    assert answers == [503, 200]
    with Collection.open(path) as collection:
        assert len(collection) == collection.verify().count == 4


def test_nothing_is_written_to_another_collection_in_the_place_of_the_one_that_is_served(plain):
    client, path = plain
    assert client.post("/api/items", json={"items": [ITEM]}, headers=BEARER).status_code == 201
    shutil.rmtree(path)
    Collection.create(path, n_bits=16).close()
    again = [client.post("/api/items", json={"items": [ITEM]}, headers=BEARER).status_code for _ in range(3)]
    assert again == [503, 503, 503]
    with Collection.open(path, mode="w") as other:  # and the server does not keep it locked
        assert len(other) == 0


def test_what_a_collection_of_no_folder_lists_is_kept_and_its_other_fields_are_not(tmp_path, serve):
    path = tmp_path / "c.hashret"
    with Collection.create(path, n_bits=16) as collection:
        collection.add(np.zeros((1, 2), np.uint8), ids=["a"], metadata=[{"image": "/pictures/a.png", "bytes": 7}])
    with serve(path) as client:
        item = {"id": "a", "code": "00ff", "metadata": {"year": 2021}}
        assert client.put("/api/items", json={"items": [item]}, headers=BEARER).status_code == 200
    with Collection.open(path) as collection:
        assert collection.get(["a"]).metadata == [{"year": 2021, "image": "/pictures/a.png"}]


def test_nothing_is_stored_where_anything_is_wrong(plain):
    client, path = plain
    for items in (
        [ITEM, {"id": 0, "code": "0000"}],  # 0 is there already
        [ITEM, ITEM],
        [ITEM, {"id": "x", "code": "00"}],
        [ITEM, {"id": "x", "code": "zz00"}],
        [ITEM, {"id": "x"}],
        [ITEM, {"id": "x", "code": "0000", "metadata": {"image": "/etc/passwd"}}],
        [ITEM, {"id": "x\0", "code": "0000"}],
        [ITEM, {"id": True, "code": "0000"}],
        [ITEM, {"id": 1 << 63, "code": "0000"}],
    ):
        assert client.post("/api/items", json={"items": items}, headers=BEARER).status_code == 422, items
    assert client.post("/api/items/delete", json={"ids": [1, "nobody"]}, headers=BEARER).status_code == 404
    with Collection.open(path) as collection:
        assert list(collection) == [0, 1, 2, 3]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}])
def test_a_wrong_token_is_refused(plain, headers):
    client, path = plain
    answer = client.post("/api/items", json={"items": [ITEM]}, headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert client.put("/api/items", json={"items": [ITEM]}, headers=headers).status_code == 401
    assert client.post("/api/items/delete", json={"ids": [1]}, headers=headers).status_code == 401
    with Collection.open(path) as collection:
        assert len(collection) == 4


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_token_of_a_file_that_ends_with_a_line(plain, serve, end):
    with serve(plain.path, Settings(token=TOKEN + end)) as client:
        assert client.post("/api/items", json={"items": [ITEM]}, headers=BEARER).status_code == 201


@pytest.mark.parametrize("settings", [Settings(), Settings(token=TOKEN, read_only=True)])
def test_writing_that_is_off_is_refused_with_the_remedy(plain, serve, settings):
    with serve(plain.path, settings) as client:
        answer = client.post("/api/items", json={"items": [ITEM]}, headers=BEARER)
    assert answer.status_code == 403
    assert "--" in answer.json()["detail"]


def test_another_writer_is_told_and_waited_for(plain):
    client, path = plain
    with Collection.open(path, mode="w"):
        answer = client.post("/api/items", json={"items": [ITEM]}, headers=BEARER)
        assert answer.status_code == 409
        assert "another process writes" in answer.json()["detail"]
    assert client.post("/api/items", json={"items": [ITEM]}, headers=BEARER).status_code == 201


def test_words_and_a_picture_are_encoded_and_stored(own, world):
    client, path = own
    answer = client.post("/api/items", json={"items": [{"id": "t", "text": "a red circle"}]}, headers=BEARER)
    assert answer.status_code == 201
    picture = {"picture": ("p.png", (world.folder / "3.png").read_bytes())}
    form = {"id": "p", "metadata": '{"year": 1999}'}
    assert client.post("/api/items/picture", files=picture, data=form, headers=BEARER).status_code == 201
    assert client.post("/api/items/picture", files=picture, data=form, headers=BEARER).status_code == 422
    replaced = client.post("/api/items/picture", files=picture, data={**form, "replace": "true"}, headers=BEARER)
    assert (replaced.status_code, replaced.json()["count"]) == (201, 50)
    with Collection.open(path) as collection:
        assert np.array_equal(collection.codes(["p"]), collection.codes(["s3"]))
        assert collection.get(["p"]).metadata == [{"year": 1999}]
    hits = client.post("/api/search/text", json={"text": "a red circle", "k": 50, "radius": 0}).json()["hits"]
    assert "t" in {hit["id"] for hit in hits}


def test_dead_rows_do_not_pile_up(plain, monkeypatch):
    client, path = plain
    monkeypatch.setattr("hashret.collection.results._MANY", 4)
    for turn in range(3):
        items = [{"id": number, "code": f"000{turn}"} for number in range(4)]
        assert client.put("/api/items", json={"items": items}, headers=BEARER).json()["count"] == 4
    client.post("/api/items", json={"items": [ITEM]}, headers=BEARER)  # waits for a compaction that is under way
    with Collection.open(path) as collection:
        assert (collection.info().dead, collection.info().generation) == (4, 2)
        assert collection.codes([0, 1, 2, 3]).tolist() == [[0, 2]] * 4
    hits = client.post("/api/search/codes", json={"codes": ["0002"], "k": 4}).json()["results"][0]["hits"]
    assert [(hit["id"], hit["distance"]) for hit in hits] == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_many_texts_are_encoded_together(own):
    """In batches of 16, between codes that are sent as they are."""
    client, path = own

    def encoded():
        lines = client.get("/metrics").text.splitlines()
        return {
            name: float(line.split()[1])
            for line in lines
            for name in ("sum", "count")
            if line.startswith(f"hashret_encode_batch_items_{name}")
        }

    texts = [f"a {colour} circle {number}" for number in range(20) for colour in ("red", "blue")]
    alone = client.post("/api/items", json={"items": [{"id": "alone", "text": texts[7]}]}, headers=BEARER)
    assert alone.status_code == 201
    before = encoded()
    items = [{"id": f"t{n}", "text": text} for n, text in enumerate(texts)]
    items.insert(7, {"id": "code", "code": "01234567"})
    assert client.put("/api/items", json={"items": items}, headers=BEARER).json()["count"] == 48 + 42
    after = encoded()
    assert (after["sum"] - before["sum"], after["count"] - before["count"]) == (40, 3)
    with Collection.open(path) as collection:
        assert collection.codes(["code"]).tobytes().hex() == "01234567"
        assert np.array_equal(collection.codes(["t7"]), collection.codes(["alone"]))
        assert len(np.unique(collection.codes([f"t{n}" for n in range(40)]), axis=0)) > 1
