"""``hashret serve`` as a process: where it binds, how it ends, and what survives when it is killed."""

from __future__ import annotations

import signal
import socket
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest

from hashret import Collection
from hashret.server import run

TOKEN = "open-sesame"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def path(tmp_path):
    with Collection.create(tmp_path / "c.hashret", n_bits=64) as collection:
        collection.add(np.zeros((10, 8), np.uint8))
    return tmp_path / "c.hashret"


def test_what_was_acknowledged_survives_kill_9(path, start):
    acknowledged: list[str] = []
    enough = threading.Event()

    def write(worker: int, address: str) -> None:
        with httpx.Client(base_url=address, headers=BEARER) as client:
            for number in range(10_000):
                items = [{"id": f"{worker}-{number}-{n}", "code": f"{worker:04x}{number:012x}"} for n in range(3)]
                try:
                    answer = client.post("/api/items", json={"items": items})
                except httpx.HTTPError:
                    return
                assert answer.status_code == 201, answer.text
                acknowledged.extend(item["id"] for item in items)
                if len(acknowledged) >= 150:
                    enough.set()

    with start(path) as served:
        writers = [threading.Thread(target=write, args=(worker, served.address)) for worker in range(3)]
        for writer in writers:
            writer.start()
        assert enough.wait(60)
        served.process.send_signal(signal.SIGKILL)
        for writer in writers:
            writer.join()
    with Collection.open(path, mode="w") as collection:
        collection.verify()
        ids = list(acknowledged)
        assert len(collection) - 10 >= len(ids) >= 150
        codes = collection.codes(ids)
        wanted = [f"{int(id.split('-')[0]):04x}{int(id.split('-')[1]):012x}" for id in ids]
        assert [code.tobytes().hex() for code in codes] == wanted
        assert (len(collection) - 10) % 3 == 0  # a request is stored whole or not at all
    with start(path) as served:
        hits = httpx.post(f"{served.address}api/search/like", json={"id": ids[0], "k": 1, "radius": 0}).json()["hits"]
        assert hits[0]["distance"] == 0


def test_a_signal_ends_it_in_order_and_slow_or_endless_heads_end_alone(path, start):
    with start(path) as served:
        port = int(served.address.rsplit(":", 1)[1].strip("/"))
        slow = socket.create_connection(("127.0.0.1", port))
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        endless = socket.create_connection(("127.0.0.1", port))
        sent = 0
        with pytest.raises(OSError):  # the server hangs up
            while sent < 1 << 24:
                sent += endless.send(b"X-Endless: " + b"x" * 8000 + b"\r\n" if sent else b"GET / HTTP/1.1\r\n")
        garbage = socket.create_connection(("127.0.0.1", port))
        garbage.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert b"400" in garbage.recv(100)
        assert httpx.get(f"{served.address}health").status_code == 200
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(60) == 0
        for connection in (slow, endless, garbage):
            connection.close()


def test_one_address_has_so_many_connections_and_others_are_answered(path, start):
    """Idle ones count too; the socket of another address of this machine is another client's."""
    with start(path, "--host", "0.0.0.0", "--read-only", "--max-per-client", "5") as served:
        port = int(served.address.rsplit(":", 1)[1].strip("/"))
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
        with socket.create_connection(("127.0.0.1", port), timeout=30) as refused:
            told = refused.recv(1000)
        assert told.startswith(b"HTTP/1.1 429 ")
        assert b"as many as may" in told
        with httpx.Client(transport=httpx.HTTPTransport(local_address="127.0.0.3")) as other:
            assert other.get(f"http://127.0.0.1:{port}/health").status_code == 200
        for connection in idle:
            connection.close()
        while httpx.get(f"http://127.0.0.1:{port}/health").status_code == 429:
            pass


def test_the_outside_needs_a_token_or_reading_only(path, run_cli, monkeypatch):
    monkeypatch.delenv("HASHRET_TOKEN", raising=False)
    code, _, err = run_cli("serve", path, "--host", "0.0.0.0", "--port", 0)
    assert code == 2
    assert "--token" in err
    assert "--read-only" in err


def test_a_port_that_is_taken_and_a_collection_that_is_not_there(path, run_cli, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = run_cli("serve", path, "--port", taken.getsockname()[1])
    assert (code, "cannot be bound" in err) == (2, True)
    assert run_cli("serve", tmp_path / "nothing")[0] == 2
    assert run_cli("serve", path, "--port", 99999)[0] == 2
    assert run_cli("serve", path, "--max-queue", 0)[0] == 2
    assert run_cli("serve", path, "--max-upload-mb", "nan")[0] == 2
    assert run_cli("serve", path, "--host", "a..b", "--read-only")[0] == 2
    code, _, err = run_cli("serve", path, "--allow-host", "http://photos.example")
    assert (code, "such as photos.example" in err) == (2, True)


def test_any_loopback_address_and_a_name_in_capitals_are_answered(path, start):
    with start(path, "--host", "127.0.0.2", "--allow-host", "Photos.Example:80", "--allow-host", "fd00::1") as served:
        assert httpx.get(f"{served.address}health").status_code == 200
        with httpx.Client(base_url=served.address) as client:  # one connection: nothing is left of an answer to HEAD
            for host in ("photos.example", "photos.example:8443", "[fd00::1]:8000"):
                for method in ("HEAD", "GET"):
                    assert client.request(method, "/health", headers={"Host": host}).status_code == 200


def test_reading_needs_no_torch(path, start):
    """The server starts, and answers by code, without what learns."""
    with start(path) as served:
        assert httpx.post(f"{served.address}api/search/codes", json={"codes": ["00" * 8]}).status_code == 200
        maps = Path(f"/proc/{served.process.pid}/maps")
        if maps.exists():
            assert "libtorch" not in maps.read_text()


def test_answers_do_not_wait_for_an_acknowledgement() -> None:
    listener = run._listener("127.0.0.1", 0)
    client = socket.create_connection(listener.getsockname())
    accepted, _ = listener.accept()
    assert accepted.proto == socket.IPPROTO_TCP  # what asyncio asks for before it turns Nagle's algorithm off
    for one in (client, accepted, listener):
        one.close()
