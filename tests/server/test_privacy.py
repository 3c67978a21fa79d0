"""What the world is not told: where files, collection and model lie on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hashret import Collection

TOKEN = "open-sesame"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    "where",
    [
        {"image": {"gte": "/"}},
        {"image.name": {"exists": True}},
        {"and": [{"year": 2001}, {"or": [{"not": {"image": "/etc/passwd"}}]}]},
    ],
)
def test_a_filter_cannot_feel_its_way_to_the_place_of_a_file(api, where):
    asked = (
        api.post("/api/search/like", json={"id": "s1", "where": where}),
        api.post("/api/search/text", json={"text": "a", "where": where}),
        api.post("/api/search/codes", json={"codes": ["00000000"], "where": where}),
        api.get("/api/items", params={"where": json.dumps(where)}),
    )
    for answer in asked:
        assert answer.status_code == 422
        assert "'image'" in answer.json()["detail"]
    assert api.get("/api/items", params={"where": '{"images": 1, "an\\\\.image": 2}'}).status_code == 200


@pytest.mark.parametrize("relative", [False, True])
def test_errors_do_not_say_where_things_lie(tmp_path, serve, monkeypatch, relative):
    monkeypatch.chdir(tmp_path)
    path = Path("c.hashret") if relative else tmp_path / "c.hashret"
    with Collection.create(path, n_bits=16, model=tmp_path / "no-model") as collection:
        collection.add(np.zeros((1, 2), np.uint8), ids=["a"])
    with serve(path) as client:
        unknown = client.get("/api/item", params={"id": "nobody"})
        words = client.post("/api/search/text", json={"text": "words"})
        with Collection.open(path, mode="w"):
            locked = client.post("/api/items/delete", json={"ids": ["a"]}, headers=BEARER)
        (path / "catalogue.sqlite").write_bytes(b"no database" * 1000)
        damaged = client.get("/api/item", params={"id": "a"})
    assert [answer.status_code for answer in (unknown, words, locked, damaged)] == [404, 503, 409, 503]
    for answer in (unknown, words, locked, damaged):
        assert str(tmp_path) not in answer.text
        assert len(answer.json()["detail"]) > 20
    assert "c.hashret does not hold the id" in unknown.json()["detail"]
