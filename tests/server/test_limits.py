"""Limits: what is too large, too many or too slow is refused with a sentence, and the others go on."""

from __future__ import annotations

import asyncio
import json
import re
import threading

import httpx
import numpy as np
import pytest

from hashret.errors import InputError, StorageError
from hashret.server import Settings, create_app
from hashret.server.problems import ApiError
from hashret.server.service import Service
from hashret.server.wire import deadline


def problem(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert content["status"] == status
    assert len(content["detail"]) > 10
    return content["detail"]


def test_a_parameter_that_no_route_reads(api):
    told = problem(api.get("/api/items", params={"kk": 3}), 422)
    assert told == "the address has no parameter 'kk'; did you mean 'k'? Known: k, where."
    told = problem(api.post("/api/search/text", params={"k": 3}, json={"text": "a red circle"}), 422)
    assert told == "the address has no parameter 'k': this route reads its values from the body"
    assert api.get("/", params={"from": "a link"}).status_code == 200


def test_a_body_that_is_too_large(api, serve, plain):
    assert "bytes" in problem(api.post("/api/search/text", content=b"{" + b" " * (1 << 20)), 413)
    with serve(plain.path, Settings(max_upload_bytes=1000)) as client:
        problem(client.post("/api/search/picture", files={"picture": b"x" * 2000}), 413)
        parts = (b"x" * 100 for _ in range(100))  # no Content-Length: it is counted as it comes
        problem(client.post("/api/search/picture", content=parts), 413)


@pytest.mark.parametrize("k", [0, -1, 1001, 10**30, 2.5, "5", True, None])
def test_k_out_of_range(api, k):
    problem(api.post("/api/search/like", json={"id": "s1", "k": k}), 422)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("text", {"text": ""}),
        ("text", {"text": "  \n"}),
        ("text", {"text": "x" * 2001}),
        ("text", {"text": 7}),
        ("text", {"text": "a", "wher": {}}),
        ("text", {"text": "a", "where": {"year": {"gtee": 1}}}),
        ("text", {"text": "a", "where": []}),
        ("text", {"text": "a", "radius": -1}),
        ("like", {}),
        ("like", {"id": [1]}),
        ("codes", {"codes": []}),
        ("codes", {"codes": ["00"]}),
        ("codes", {"codes": ["00000000"] * 65}),
        ("codes", {"codes": ["0000000g"]}),
        ("codes", {"codes": ["00000000"], "encoding": "base64"}),
        ("codes", {"codes": ["00000000"], "encoding": "morse"}),
    ],
)
def test_what_cannot_be_used_is_told(api, path, body):
    problem(api.post(f"/api/search/{path}", json=body), 422)


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "x" * 2000])
def test_json_that_is_called_something_else(api, kind):
    told = problem(
        api.post("/api/search/codes", content=b'{"codes":["00000000"]}', headers={"Content-Type": kind}), 422
    )
    assert "Content-Type: application/json" in told
    assert kind[:100] in told
    problem(api.post("/api/search/codes", content=b"", headers={"Content-Type": kind}), 422)
    called = {"Content-Type": "application/json; charset=utf-8"}
    assert api.post("/api/search/codes", content=b'{"codes":["00000000"]}', headers=called).status_code == 200


def test_a_form_that_is_not_as_described(api, world):
    told = problem(api.post("/api/search/picture", files={"picture": (None, "dog.jpg")}), 422)
    assert told == "picture: must be a file; with curl, @ stands before its name"
    picture = {"picture": (world.folder / "3.png").read_bytes()}
    told = problem(api.post("/api/search/picture", files=picture, data={"radus": "3"}), 422)
    assert told.startswith("the form has no field 'radus'; did you mean 'radius'?")
    told = problem(api.post("/api/search/picture", files=picture, data={"where": " " * 1_100_000}), 400)
    assert "(Part exceeded maximum size of 1024KB.)" in told


def test_the_hits_of_all_codes_together(api):
    told = problem(api.post("/api/search/codes", json={"codes": ["00000000"] * 64, "k": 257}), 422)
    assert "16,384" in told
    assert "smaller k" in told
    answer = api.post("/api/search/codes", json={"codes": ["00000000"] * 64, "k": 256})
    assert [len(result["hits"]) for result in answer.json()["results"]] == [48] * 64
    assert api.get("/api/collection").json()["limits"]["hits"] == 64 * 256
    described = api.get("/openapi.json").json()["components"]["schemas"]["CodesQuery"]["properties"]
    assert "16,384" in described["codes"]["description"]


def test_answers_are_written_where_they_were_found(plain):
    """Not in the thread of the event loop, where the others' answers would wait."""

    async def main():
        service = Service(plain.path, model=None, settings=Settings(), batched=lambda n, s: None)
        options = {"k": 2, "radius": None, "where": None, "form": lambda hits: threading.current_thread().name}
        code = np.zeros((1, 2), np.uint8)
        names = [await service.search(code, **options), await service.like(1, **options)]
        await service.stop()
        return names

    assert all(name.startswith("hashret-search") for name in asyncio.run(main()))


@pytest.mark.parametrize(
    "where",
    [
        {"or": [{"camera": f"z{n}"} for n in range(65)]},
        {"camera": {"in": ["[a"] * 64}},
        {"camera": {"in": [None] * 64}},
        {"not": {"and": [{"camera": {"not": {"not": {"gt": n, "lt": n}}}} for n in range(33)]}},
    ],
)
def test_a_filter_of_many_conditions(api, where):
    told = problem(api.post("/api/search/like", json={"id": "s1", "where": where}), 422)
    assert "65 conditions" in told or "66 conditions" in told
    assert "64" in told
    problem(api.get("/api/items", params={"where": json.dumps(where)}), 422)
    kept = {"or": [{"camera": f"z{n}"} for n in range(63)] + [{"year": {"in": list(range(2000, 2020))}}]}
    answer = api.post("/api/search/like", json={"id": "s1", "k": 48, "where": kept})
    assert len(answer.json()["hits"]) == 20


def test_work_whose_time_is_over_leaves_its_reader(plain):
    """The only reader is with a statement of minutes; once nobody waits for it, the next request gets the reader."""
    minutes = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 1000000000) SELECT max(x) FROM n"
    raised: list[Exception] = []

    def work(reader):
        try:
            with reader._session.reading():  # what is not within a reading is not stopped
                reader._session.catalogue.query(minutes)
        except StorageError as error:
            raised.append(error)
            raise

    async def main():
        service = Service(plain.path, model=None, settings=Settings(readers=1), batched=lambda n, s: None)
        with pytest.raises(ApiError) as late:
            async with deadline(0.1):
                await service.read(work)
        count = await asyncio.wait_for(service.count(), 30)
        await service.stop()
        return late.value, count

    late, count = asyncio.run(main())
    assert (late.status, count) == (503, 4)
    assert "stopped before its end" in str(raised[0])


def test_other_addresses_and_methods_are_problems_too(api):
    problem(api.get("/nothing"), 404)
    problem(api.get("/api/search/text"), 405)
    problem(api.post("/api/search/like", json={"id": "nobody"}), 404)
    told = problem(api.post("/api/search/like", content=b'{"id"}', headers={"Content-Type": "application/json"}), 422)
    assert told == "the body is no JSON: Expecting ':' delimiter at character 5"


def test_a_foreign_host_is_refused(api):
    """A name that somebody points at this machine must not open the collection to their page."""
    assert "Host" in problem(api.get("/api/collection", headers={"Host": "evil.example"}), 400)
    assert "--allow-host" in problem(api.get("/api/collection", headers={"Host": "evil.example"}), 400)
    assert api.get("/api/collection", headers={"Host": "127.0.0.1:8000"}).status_code == 200


def test_hosts_are_known_as_they_are_given(serve, plain):
    hosts = ("photos.example:8443", "fd00::1", "[::1]:80", "Shapes.Example")
    with serve(plain.path, Settings(hosts=hosts)) as client:
        for host in (*hosts, "photos.example", "[fd00::1]:8000", "[::1]", "shapes.example:8000"):
            assert client.get("/health", headers={"Host": host}).status_code == 200, host
        told = problem(client.get("/health", headers={"Host": "[fd00::2]"}), 400)
        assert "photos.example, [fd00::1], [::1], shapes.example;" in told
    for wrong in ("", "http://photos.example", "photös.example", ":80"):
        with pytest.raises(InputError, match=re.escape(repr(wrong))):
            Settings(hosts=(wrong,))


@pytest.mark.parametrize("path", ["/", "/page.js", "/health", "/api/item?id=s1", "/api/thumbnail?id=s1", "/nothing"])
def test_head_is_get_without_its_body(api, path):
    whole, head = api.get(path), api.head(path)
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert head.headers == whole.headers
    assert int(head.headers["content-length"]) == len(whole.content) > 0


def test_head_is_allowed_where_get_is(api):
    assert (api.head("/api/search/text").status_code, api.head("/api/search/text").headers["allow"]) == (405, "POST")
    assert api.delete("/api/item").headers["allow"] == "GET, HEAD"
    assert api.head("/health").status_code == 200
    assert 'method="HEAD",route="/health",status="200"' in api.get("/metrics").text


def test_settings_are_checked():
    for wrong in ({"max_queue": 0}, {"timeout_s": -1}, {"batch_wait_ms": float("nan")}):
        with pytest.raises(InputError):
            Settings(**wrong)
    for token in ("", "\n", " ", "é", " a", "a ", "a \n", "a\tb", "a\nb", "a\0"):
        with pytest.raises(InputError, match="HASHRET_TOKEN"):
            Settings(token=token)


def test_large_bodies_have_a_limit_together_and_by_client_and_words_are_found_meanwhile(plain, settled):
    """There is room for 16 bodies, and for 8 of one client: its 9th is refused; those of others are not yet."""
    settings = Settings(max_upload_bytes=1_000_000, max_json_bytes=1_000_000, body_timeout_s=0.5)
    app = create_app(plain.path, settings=settings)

    async def slow():
        yield b"{" + b" " * 980_000
        await asyncio.Event().wait()

    async def ask(number, path="search/picture", **body):
        transport = httpx.ASGITransport(app=app, client=(f"10.0.0.{number}", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(f"/api/{path}", **body)

    async def main():
        held = [asyncio.create_task(ask(1, content=slow())) for _ in range(8)]
        await settled()
        greedy = await ask(1, "items", content=slow())
        held += [asyncio.create_task(ask(number, content=slow())) for number in range(2, 11)]
        await settled()
        full = await ask(100, content=slow())
        found = [await ask(number, "search/codes", json={"codes": ["0001"], "k": 1}) for number in (1, 100)]
        for task in held:
            await task
        return greedy, full, found, await ask(1, content=slow())

    greedy, full, found, after = asyncio.run(main())
    assert "this client" in problem(greedy, 429)
    assert "room" in problem(full, 503)
    for refused in (greedy, full):
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
    for answer in found:
        assert answer.json()["results"][0]["hits"][0]["id"] == 0
    assert "did not arrive" in problem(after, 408)  # the others gave their room back


def test_a_client_with_too_many_requests_and_a_body_that_does_not_come(plain, settled):
    """Both over one application, without a network: the requests are under way while their bodies are awaited."""
    app = create_app(plain.path, settings=Settings(max_per_client=2, body_timeout_s=0.2))

    async def never():
        yield b"{"
        await asyncio.Event().wait()

    async def main():
        transport = httpx.ASGITransport(app=app, client=("10.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            slow = [asyncio.create_task(client.post("/api/search/like", content=never())) for _ in range(2)]
            await settled()
            refused = await client.get("/health")
            answers = [await task for task in slow]
            return refused, answers, await client.get("/health")

    refused, answers, after = asyncio.run(main())
    assert "under way" in problem(refused, 429)
    for answer in answers:
        assert "did not arrive" in problem(answer, 408)
    assert after.status_code == 200
