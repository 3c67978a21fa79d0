"""Hostile requests: each is refused with a documented status, shows nothing of the machine, and costs little.

The requests are made by rule from lists of bad values; the default run takes a slice of them, the long form all.
"""

from __future__ import annotations

import http.client
import io
import json
import random
import socket
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import pytest

ALLOWED = {200, 304, 400, 401, 403, 404, 405, 408, 413, 422, 429, 503}
TOKEN = "open-sesame"
JSON = {"Content-Type": "application/json"}
GROWTH = 400 << 20  # bytes: a picture of the largest allowed size, unpacked, and what else comes and goes


class Request(NamedTuple):
    """One hostile request."""

    method: str
    path: str
    content: bytes = b""
    headers: dict[str, str] | None = None


PATHS = (
    "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "....//....//etc/passwd", "/etc/passwd",
    "file:///etc/passwd", "..\\..\\etc\\passwd", "page/../app.py", "page.js/../../app.py", "//etc/passwd",
    "/proc/self/environ", "catalogue.sqlite", "%00", "page.js%00.png", "%c0%ae%c0%ae/etc/passwd", "~/.ssh/id_rsa",
    "api/../../etc/passwd", "static/../../etc/passwd", ".git/config", "photos.hashret/codes-000001.bin",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, [], {}, "", "\0", "\ud800", -1, 0, 1e308, 10**40, "NaN", [[[]]], {"$gt": ""}, "' OR 1=1 --",
    "<script>alert(1)</script>", "x" * 100_000, "{{7*7}}", "\u202e", "../../etc/passwd",
)  # fmt: skip
FILTERS: tuple[Any, ...] = (
    {"year') OR 1=1 --": 1}, {'year") UNION SELECT * FROM about --': 1}, {"year": {"gt": "1; DROP TABLE items"}},
    {"$where": "sleep(1000)"}, {"year": {"regex": "(a+)+$"}}, {"year": {"in": list(range(50_000))}},
    {"or": [{"year": n} for n in range(2000)]}, {"a." * 500 + "a": 1}, {"": 1}, {"\0": 1}, {"\ud800": 1},
    {"year": {"gt": 10**400}}, {"year": {"in": [[1]]}}, {"not": {"not": {"not": {}}}}, {"and": "x"}, {"or": []},
    {"__proto__": {"exists": True}}, {"image": {"gte": "/"}}, {"year": {"contains": {"a": 1}}},
    {"x'": {"exists": True}}, {"json_extract(metadata,'$')": 1}, {"id": {"ne": 1}}, {"year": {"eq": "\ud800"}},
)  # fmt: skip


def nested(depth: int, bracket: str = "[") -> bytes:
    return (bracket * depth).encode() + (("]" if bracket == "[" else "") * depth).encode()


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG of any size whose pixels are zeros, a few bytes a megapixel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    body = pixels or zlib.compress(bytes((width + 1) * height), 1)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@cache
def pictures() -> dict[str, bytes]:
    return dict(_pictures())


def _pictures() -> Iterator[tuple[str, bytes]]:
    from PIL import Image

    whole = io.BytesIO()
    Image.effect_noise((200, 200), 50).convert("RGB").save(whole, "JPEG")
    jpeg = whole.getvalue()
    frames, gif = [Image.new("P", (500, 500), n) for n in range(40)], io.BytesIO()
    frames[0].save(gif, "GIF", save_all=True, append_images=frames[1:])
    yield "100 megapixels", png(10_000, 10_000)
    yield "bomb", png(60_000, 60_000, zlib.compress(b"\0" * (1 << 22)))
    yield "wide", png(1 << 30, 1, b"x")
    yield "no pixels", png(0, 0, b"x")
    yield "text chunk bomb", png(1, 1)[:33] + _text_bomb() + png(1, 1)[33:]
    yield "svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><script>fetch('/')</script></svg>"
    yield (
        "svg with a file",
        b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><svg>&b;</svg>",
    )
    yield "truncated", jpeg[: len(jpeg) // 2]
    yield "half a head", jpeg[:10]
    yield "turned bytes", jpeg[:300] + jpeg[300:][::-1]
    yield "many frames", gif.getvalue()
    yield "empty", b""
    yield "zeros", b"\0" * 100_000
    yield "zip", b"PK\x03\x04" + b"\0" * 100
    yield "html", b"<html><script>alert(1)</script></html>"
    yield "eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\n"
    yield "tiff of claims", b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 500
    yield "ico", b"\0\0\1\0\xff\xff" + b"\xff" * 200
    yield "jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff" * 200
    yield "xbm", b"#define a_width 99999\n#define a_height 99999\nstatic char a_bits[] = {0};"
    yield "ppm of claims", b"P6 100000 100000 255\n"
    yield "fits", b"SIMPLE  =                    T" + b" " * 3000


def _text_bomb() -> bytes:
    content = b"a\0\0" + zlib.compress(b"x" * (1 << 26), 9)
    return struct.pack(">I", len(content)) + b"zTXt" + content + struct.pack(">I", zlib.crc32(b"zTXt" + content))


def form(parts: list[tuple[str, bytes]], boundary: str = "b") -> tuple[bytes, dict[str, str]]:
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        + (b"; filename=x" if name == "picture" else b"") + b"\r\n\r\n" + value + b"\r\n"
        for name, value in parts
    )  # fmt: skip
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def everything() -> Iterator[Request]:
    yield from _addresses()
    yield from _bodies()
    yield from _forms()


def _addresses() -> Iterator[Request]:
    for path in PATHS:
        yield Request("GET", f"/{path.lstrip('/')}")
        yield Request("GET", f"/api/thumbnail?id={quote(path, safe='%')}&side=320")
    for path in PATHS[:6]:
        yield Request("GET", f"/api/item?id={path}")
        yield Request("GET", f"/{path.lstrip('/')}", headers={"X-Original-URL": "/etc/passwd"})
    for value in ("-1", "99999999999", "NaN", "1e9", "", "320&side=161", "%ff", "٣"):
        yield Request("GET", f"/api/thumbnail?id=s1&side={value}")
        yield Request("GET", f"/api/items?k={value}")
    for method in ("TRACE", "PATCH", "DELETE", "PROPFIND", "OPTIONS", "HEAD"):
        yield Request(method, "/api/search/text")
    yield Request("GET", "/api/item?" + "id=a&" * 2000)
    yield Request("GET", "/api/item?id=" + "a" * 60_000)
    yield Request("GET", "/api/items?where=" + quote(json.dumps({"a": "x" * 3000})))
    yield Request("GET", "/api/collection", headers={"Host": "evil.example"})
    yield Request("GET", "/api/collection", headers={"X-A": "a" * 60_000})
    yield Request("POST", "/api/items", b"{}", {**JSON, "Authorization": "Bearer " + "\xe9" * 10})
    yield Request("POST", "/api/items", b"{}", {**JSON, "Authorization": "Bearer " + "a" * 30_000})
    yield Request("POST", "/api/items/delete", b'{"ids": ["s1"]}', JSON)


def _bodies() -> Iterator[Request]:
    for value in VALUES:
        text = json.dumps(value).encode()
        for route, key in (("text", b"text"), ("like", b"id"), ("codes", b"codes")):
            yield Request("POST", f"/api/search/{route}", b'{"%s": %s}' % (key, text), JSON)
        yield Request("POST", "/api/search/like", b'{"id": "s1", "k": %s}' % text, JSON)
    for where in FILTERS:
        text = json.dumps(where).encode()
        yield Request("POST", "/api/search/like", b'{"id": "s1", "where": %s}' % text, JSON)
    for token in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000, b'"\\ud800"', b"'a'", b"tru", b"\xff\xfe"):
        yield Request("POST", "/api/search/like", b'{"id": "s1", "k": %s}' % token, JSON)
        yield Request("POST", "/api/search/like", b'{"id": "s1", "where": {"year": %s}}' % token, JSON)
    for body in (
        nested(100_000), nested(400_000, "["), b'{"a":' * 100_000, b'{"text": "a", "where": ' + nested(5000) + b"}",
        b"", b"null", b"[]", b'"text"', b"\xef\xbb\xbf{}", b"\xff" * 1000, b'{"text": "a"' * 1000,
        b"[" + b"0," * 400_000, b'{"id": "s1", "id": "s2"}', b'{"text": "\xff\xfe"}',
        json.dumps({"text": "a"}).encode("utf-16"),
        b'{"codes": [' + b'"00000000",' * 50_000 + b'"00"]}', b" " * (1 << 20) + b"{}",
    ):  # fmt: skip
        yield Request("POST", "/api/search/text", body, JSON)
    for kind in (
        "text/plain",
        "application/xml",
        "application/json; charset=evil",
        "multipart/form-data",
        "",
        "a" * 5000,
    ):
        yield Request("POST", "/api/search/text", b'{"text": "a"}', {"Content-Type": kind})
        yield Request("POST", "/api/search/picture", b'{"text": "a"}', {"Content-Type": kind})


def _forms() -> Iterator[Request]:
    for content in pictures().values():
        body, headers = form([("picture", content)])
        yield Request("POST", "/api/search/picture", body, headers)
    good = png(8, 8)
    for where in (b"{", b"[]", b"\xff", b'{"a":' * 600, b'{"year": NaN}', b'{"year": {"in": [1e999]}}', b"x" * 5000):
        body, headers = form([("picture", good), ("where", where)])
        yield Request("POST", "/api/search/picture", body, headers)
    for parts in (
        [("picture", good)] * 1500, [("k", b"5")] * 1500, [("picture", good), ("k", b"1e9")],
        [("picture", good), ("k", b"\xff")], [("k", b"5")],
        [("picture\r\nX-A: b", good)], [("picture", b"x" * (17 << 20))],
        [("where", b"x" * (2 << 20))],
        [("../../etc/passwd", good)],
    ):  # fmt: skip
        yield Request("POST", "/api/search/picture", *form(parts))
    body, headers = form([("picture", good)])
    yield Request("POST", "/api/search/picture", body[: len(body) // 2], headers)
    yield Request("POST", "/api/search/picture", body, {"Content-Type": "multipart/form-data; boundary="})
    yield Request("POST", "/api/search/picture", body, {"Content-Type": "multipart/form-data; boundary=" + "b" * 5000})
    yield Request("POST", "/api/search/picture", body, {**headers, "Content-Encoding": "gzip"})
    yield Request("POST", "/api/items/picture", body, headers)


@pytest.fixture(scope="module")
def target(world, start):
    with start(world.collection) as served, httpx.Client(base_url=served.address, timeout=60) as client:
        yield served.ready(), client


def memory(served) -> int:
    pages = Path(f"/proc/{served.process.pid}/statm")
    if not pages.exists():
        pytest.skip("this system does not tell how much memory a process has")
    return int(pages.read_text().split()[1]) * 4096


def attack(target, requests: list[Request]) -> None:
    served, client = target
    before = memory(served)
    for request in requests:
        sent = {name: value.encode("latin-1") for name, value in (request.headers or {}).items()}
        answer = client.request(request.method, request.path, content=request.content, headers=sent)
        told = (
            f"{request.method} {request.path[:80]} {request.content[:80]!r}: {answer.status_code} {answer.text[:300]}"
        )
        assert answer.status_code in ALLOWED, told
        assert "root:" not in answer.text, told
        assert "Traceback" not in answer.text, told
        if answer.status_code >= 400 and request.method != "HEAD":
            assert answer.headers["content-type"] == "application/problem+json", told
            assert answer.json()["detail"], told
        assert memory(served) - before < GROWTH, told
    assert client.get("/health").status_code == 200
    assert client.post("/api/search/like", json={"id": "s1", "k": 1}).status_code == 200


def test_a_slice_of_the_hostile_requests(target):
    requests = list(everything())
    random.Random(0).shuffle(requests)  # they are made by rule, and every fourth as made would be of one kind
    rare = [request for request in requests[1:] if request.method not in ("GET", "POST")]
    slice_ = [*requests[::4], *rare]
    assert len(slice_) >= 60
    assert {f"/api/search/{route}" for route in ("text", "like", "codes", "picture")} <= {one.path for one in slice_}
    assert sum(one.path.startswith("/api/thumbnail?") for one in slice_) >= 7
    attack(target, slice_)


def test_paths_that_leave_their_folder_as_they_are_typed(target):
    """Clients such as httpx tidy them up before they send them."""
    served, _ = target
    connection = http.client.HTTPConnection("127.0.0.1", httpx.URL(served.address).port, timeout=60)
    for path in (*PATHS, "../" * 20 + "etc/passwd", "page.js/../page.js", "./page.js", "health/../../app.py"):
        for sent in (f"/{path}", path, f"/api/thumbnail/{path}", f"http://127.0.0.1/{path}"):
            connection.request("GET", sent)
            with connection.getresponse() as answer:
                told = answer.read().decode(errors="replace")
            assert answer.status in (400, 404), f"{sent}: {answer.status} {told[:300]}"
            assert answer.headers["content-type"] == "application/problem+json"
            assert "root:" not in told and "Traceback" not in told
    connection.close()


@pytest.mark.slow
def test_all_hostile_requests(target):
    requests = list(everything())
    assert len(requests) >= 200
    attack(target, requests)


def test_100_megapixels_and_bombs_cost_no_memory(target):
    requests = [
        Request("POST", "/api/search/picture", *form([("picture", content)]))
        for name, content in pictures().items()
        if "bomb" in name or "claims" in name or name in ("100 megapixels", "wide", "svg")
    ]
    attack(target, requests)


def test_clients_that_break_off_or_say_nothing_hinder_nobody(target):
    """Half a head, half a body, a wrong length, two lengths: the server answers the others meanwhile."""
    served, client = target
    port = int(served.address.rsplit(":", 1)[1].strip("/"))
    head = b"POST /api/search/text HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    pieces = (
        b"", b"GET / HT", head, head + b"Content-Length: 100\r\n\r\n{", head + b"Content-Length: -5\r\n\r\n{}",
        head + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\n{}",
        head + b"Content-Length: 99999999999999999999\r\n\r\n{",
        head + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        head + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /etc/passwd HTTP/1.1\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"\0" * 1000, b"GET / HTTP/9.9\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n",
    )  # fmt: skip
    open_ones = []
    for piece in pieces * 3:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(piece)
        open_ones.append(connection)
    for _ in range(5):
        assert client.post("/api/search/like", json={"id": "s1", "k": 1}).status_code == 200
    for connection in open_ones:
        connection.close()
    assert client.get("/health").status_code == 200
