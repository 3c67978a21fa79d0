"""Searching over HTTP gives what the engine gives."""

from __future__ import annotations

import base64
import threading

import numpy as np
import pytest
from fastapi.testclient import TestClient

from hashret import Collection, CrossModalHasher, Engine
from hashret.server import Settings, create_app
from hashret.server.fields import fields_of


@pytest.fixture(scope="module")
def engine(world):
    with Engine.open(world.collection) as engine:
        yield engine


def ids_and_distances(hits):
    return [(hit["id"], hit["distance"]) for hit in hits["hits"]]


def expected(hits):
    pairs = zip(hits.ids[0].tolist(), hits.distances[0].tolist())
    return [(id, distance) for id, distance in pairs if id is not None]


@pytest.mark.parametrize(
    "options", [{"k": 5}, {"k": 48, "radius": 9}, {"k": 48, "where": {"year": {"gte": 2040}}}, {"k": 100}]
)
def test_words_find_what_the_engine_finds(api, engine, options):
    answer = api.post("/api/search/text", json={"text": "a red circle", **options})
    assert answer.status_code == 200
    assert ids_and_distances(answer.json()) == expected(engine.search("a red circle", **options))


def test_a_picture_finds_what_the_engine_finds(api, engine, world):
    content = (world.folder / "3.png").read_bytes()
    form = {"k": "7", "radius": "30", "where": '{"split": "train"}'}
    answer = api.post("/api/search/picture", files={"picture": ("x.png", content)}, data=form)
    assert answer.status_code == 200
    wanted = engine.search(image=content, k=7, radius=30, where={"split": "train"})
    assert ids_and_distances(answer.json()) == expected(wanted)


def test_an_item_finds_itself_and_its_like(api, engine):
    answer = api.post("/api/search/like", json={"id": "s7", "k": 9})
    assert ids_and_distances(answer.json()) == expected(engine.search(id="s7", k=9))


def test_codes_in_hexadecimal_and_base64_find_the_same(api, engine):
    codes = engine.collection.codes(["s1", "s2"])
    as_hex = [code.tobytes().hex() for code in codes]
    as_base64 = [base64.b64encode(code.tobytes()).decode() for code in codes]
    by_hex = api.post("/api/search/codes", json={"codes": as_hex, "k": 4}).json()
    assert by_hex == api.post("/api/search/codes", json={"codes": as_base64, "encoding": "base64", "k": 4}).json()
    assert [ids_and_distances(hits) for hits in by_hex["results"]] == [
        expected(engine.search(code=code, k=4)) for code in codes
    ]


def test_hits_carry_metadata_and_a_thumbnail_but_no_path(api, world):
    hit = api.post("/api/search/like", json={"id": "s7", "k": 1, "where": {"year": 2007}}).json()["hits"][0]
    assert hit["metadata"]["year"] == 2007
    assert "image" not in hit["metadata"]
    assert str(world.folder) not in str(hit)
    assert api.get(hit["thumbnail"]).headers["content-type"] == "image/jpeg"


def test_queries_of_many_threads_are_encoded_together(api, engine):
    """Every answer is its own, although the encoder works on several at a time."""
    texts = [f"{word} {number}" for number in range(6) for word in ("a red circle", "a blue bar", "square in green")]
    answers: dict[str, list] = {}

    def ask(text):
        answers[text] = ids_and_distances(api.post("/api/search/text", json={"text": text, "k": 6}).json())

    threads = [threading.Thread(target=ask, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {text: expected(engine.search(text, k=6)) for text in texts}
    metrics = api.get("/metrics").text
    assert "hashret_encode_batch_items_count" in metrics


def test_one_item_with_metadata_and_code(api, engine):
    item = api.get("/api/item", params={"id": "s5"}).json()
    assert bytes.fromhex(item["code"]) == engine.collection.codes(["s5"]).tobytes()
    assert item["metadata"]["captions"] == ["a green square", "square in green"]


def test_the_facts_of_the_collection(api):
    facts = api.get("/api/collection").json()
    assert (facts["name"], facts["n_bits"], facts["count"], facts["encoder"]) == ("shapes", 32, 48, "ready")
    assert facts["credits"].startswith("Shapes")
    fields = {field["name"]: field for field in facts["fields"]}
    assert set(fields["labels"]["values"]) == {"red", "green", "blue", "black"}
    assert (fields["year"]["kind"], fields["year"]["low"], fields["year"]["high"]) == ("number", 2000, 2047)
    assert not {"image", "captions"} & set(fields)


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/", "/page.js", "/page.css"])
def test_what_is_always_there(api, path):
    answer = api.get(path)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_metrics_count_by_route_and_status(api):
    api.post("/api/search/text", json={"text": "x", "k": 0})
    api.get("/nothing/here")
    text = api.get("/metrics").text
    assert 'hashret_requests_total{method="POST",route="/api/search/text",status="422"}' in text
    assert 'route="none",status="404"' in text
    assert "/nothing/here" not in text  # an address of the client must not become a label
    assert 'hashret_waiting{kind="search"} 0.0' in text


def test_the_description_names_every_route_and_its_errors(api):
    content = api.get("/openapi.json").json()
    assert {"/api/search/text", "/api/search/picture", "/api/search/like", "/api/search/codes", "/api/items"} <= set(
        content["paths"]
    )
    for methods in content["paths"].values():
        for operation in methods.values():
            assert "503" in operation["responses"]
            assert operation["summary"]
    assert "application/problem+json" in content["paths"]["/api/item"]["get"]["responses"]["404"]["content"]
    assert {"title", "status", "detail"} <= set(content["components"]["schemas"]["Problem"]["properties"])


def test_a_collection_without_a_model_is_asked_by_id_and_code(plain):
    client = plain.client
    assert client.get("/ready").status_code == 200
    assert client.get("/api/collection").json()["encoder"] == "absent"
    hits = client.post("/api/search/like", json={"id": 2, "k": 2}).json()["hits"]
    assert hits[0] == {"id": 2, "distance": 0, "metadata": {}, "thumbnail": None}
    answer = client.post("/api/search/text", json={"text": "words"})
    assert answer.status_code == 422
    assert "no model" in answer.json()["detail"]


def test_a_number_and_its_text_are_different_ids(plain):
    client, path = plain
    with Collection.open(path, mode="w") as collection:
        collection.add(np.full((1, 2), 255, np.uint8), ids=["1"])
    assert client.get("/api/item", params={"id": "1"}).json()["id"] == "1"
    assert client.get("/api/item", params={"id": "1", "number": "true"}).json()["id"] == 1
    assert client.get("/api/item", params={"id": "2"}).json()["id"] == 2
    assert client.get("/api/item", params={"id": "7"}).status_code == 404
    assert client.get("/api/item", params={"id": "x", "number": "true"}).status_code == 404


def test_ids_that_readers_of_json_round_come_and_go_as_text(plain):
    client, path = plain
    large = 1 << 53
    with Collection.open(path, mode="w") as collection:
        codes = np.array([[255, 255], [255, 0], [0, 255]], np.uint8)
        collection.add(codes, ids=[large, large + 1, -large - 1])
    for number, code in ((large + 1, "ff00"), (-large - 1, "00ff")):
        query = {"id": str(number), "number": True, "k": 1}
        hit = client.post("/api/search/like", json=query).json()["hits"][0]
        assert (hit["id"], hit["id_text"], hit["distance"]) == (number, str(number), 0)
        item = client.get("/api/item", params={"id": hit["id_text"], "number": "true"}).json()
        assert (item["id_text"], item["code"]) == (hit["id_text"], code)
    listed = client.get("/api/items").json()["items"]
    assert {item["id"]: item.get("id_text") for item in listed} == {
        **dict.fromkeys((0, 1, 2, 3, large)), large + 1: str(large + 1), -large - 1: str(-large - 1),
    }  # fmt: skip
    assert client.post("/api/search/like", json={"id": "2"}).status_code == 404  # a text, as it says nothing else
    assert client.post("/api/search/like", json={"id": 2, "number": True}).status_code == 200
    told = client.post("/api/search/like", json={"id": "x", "number": True})
    assert (told.status_code, "no number" in told.json()["detail"]) == (404, True)


def test_an_id_may_be_the_longest_path(plain):
    client, path = plain
    deep = "é" * 250 + "/" + "folder/" * 548 + "7.png"  # 4,092 characters; Linux opens paths of 4,095 bytes
    with Collection.open(path, mode="w") as collection:
        collection.add(np.full((1, 2), 255, np.uint8), ids=[deep])
    assert client.get("/api/item", params={"id": deep}).json()["id"] == deep
    assert client.get("/api/thumbnail", params={"id": deep}).status_code == 404  # it has no picture
    assert client.post("/api/search/like", json={"id": deep, "k": 1}).json()["hits"][0]["id"] == deep
    assert client.get("/api/item", params={"id": "x" * 4097}).status_code == 422
    unknown = [f"{n:04096}" for n in range(1024)]  # as many as may be removed at a time
    answer = client.post("/api/items/delete", json={"ids": unknown}, headers={"Authorization": "Bearer open-sesame"})
    assert answer.status_code == 404


def test_what_another_process_commits_is_found(plain):
    client, path = plain
    with Collection.open(path, mode="w") as collection:
        collection.add(np.full((1, 2), 255, np.uint8), ids=["new"])
    hits = client.post("/api/search/codes", json={"codes": ["ffff"], "k": 1}).json()["results"][0]["hits"]
    assert hits[0]["id"] == "new"


def test_a_model_that_is_gone_is_told_and_codes_still_work(tmp_path, serve):
    path = tmp_path / "c.hashret"
    with Collection.create(path, n_bits=16, model=tmp_path / "gone") as collection:
        collection.add(np.zeros((1, 2), np.uint8), ids=["a"])
    with serve(path) as client:
        assert client.post("/api/search/like", json={"id": "a"}).status_code == 200
        answer = client.post("/api/search/text", json={"text": "words"})
        assert (answer.status_code, client.get("/ready").status_code) == (503, 503)
        assert "model cannot be loaded" in answer.json()["detail"]


def test_a_picture_tower_that_cannot_be_used_is_told_before_somebody_asks(world, tmp_path):
    """The export's files have their sizes, so that it is taken; the words alone would be encoded."""
    pytest.importorskip("onnxruntime")
    from hashret.onnx import samples
    from hashret.onnx.export import export_model

    exported = export_model(
        CrossModalHasher.load(world.model), tmp_path / "onnx", images=samples.pictures(2), texts=samples.texts()[:2]
    )
    graph = exported.directory / "image.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with TestClient(create_app(world.collection, model=exported.directory)) as client:
        assert "cannot be loaded" in client.post("/api/search/text", json={"text": "words"}).json()["detail"]
        assert client.get("/ready").status_code == 503


def test_credits_of_the_collection_reach_the_page(tmp_path, serve):
    path = tmp_path / "c.hashret"
    with Collection.create(path, n_bits=16, credits="Drawings: somebody, CC BY-SA 4.0") as collection:
        collection.add(np.zeros((1, 2), np.uint8), ids=["a"])
    with serve(path, Settings()) as client:
        assert client.get("/api/collection").json()["credits"] == "Drawings: somebody, CC BY-SA 4.0"
    Collection.salvage(path, tmp_path / "saved.hashret")
    with Collection.open(tmp_path / "saved.hashret") as saved:
        assert saved.credits == "Drawings: somebody, CC BY-SA 4.0"


def test_fields_of_photos_are_ranges_of_days_and_numbers_and_words_that_recur(tmp_path):
    metadata = [
        {
            "taken": f"2024-05-{day:02}T10:00:00", "camera": ("A", "B")[day % 2], "width": 100 + day,
            "mtime_ns": day << 60, "title": f"photo {day}", "huge": 10**400, "same": 1,
            "flag": day > 3, "and": "x", 'quo"te': day,
        }
        for day in range(1, 31)
    ]  # fmt: skip
    with Collection.create(tmp_path / "c.hashret", n_bits=8) as collection:
        collection.add(np.zeros((30, 1), np.uint8), ids=[str(n) for n in range(30)], metadata=metadata)
        fields = {field.name: field for field in fields_of(collection)}
    assert set(fields) == {"taken", "camera", "width", "flag"}
    assert fields["taken"].values == ("2024-05-01", "2024-05-30")
    assert set(fields["camera"].values) == {"A", "B"}
    assert (fields["width"].low, fields["width"].high, fields["width"].values) == (101, 130, ())


def test_fields_that_no_filter_can_name_are_not_offered(tmp_path):
    names = ("", "a\tb", "a\\b", 'a"b', "a.b", "it's")
    with Collection.create(tmp_path / "c.hashret", n_bits=16) as collection:
        metadata = [dict.fromkeys(names, "uv"[row % 2]) for row in range(30)]
        collection.add(np.zeros((30, 2), np.uint8), metadata=metadata)
        assert [field.name for field in fields_of(collection)] == ["a.b", "it's"]


def test_the_fields_are_those_of_now(tmp_path, serve, monkeypatch):
    looked = []
    monkeypatch.setattr("hashret.server.service.fields_of", lambda reader: looked.append(1) or fields_of(reader))
    path = tmp_path / "c.hashret"
    Collection.create(path, n_bits=16).close()
    with serve(path) as client:
        assert client.get("/api/collection").json()["fields"] == []
        with Collection.open(path, mode="w") as collection:
            collection.add(np.zeros((30, 2), np.uint8), metadata=[{"year": 2000 + row % 3} for row in range(30)])
        for _ in range(3):
            (field,) = client.get("/api/collection").json()["fields"]
            assert (field["name"], field["values"]) == ("year", [2000, 2001, 2002])
        with Collection.open(path, mode="w") as collection:
            collection.upsert(np.zeros((1, 2), np.uint8), ids=[0], metadata=[{"year": 1999}])
        assert client.get("/api/collection").json()["fields"][0]["low"] == 1999
    assert len(looked) == 3
