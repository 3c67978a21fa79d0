"""A served copy of the small world, in this process."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from hashret import Collection
from hashret.server import Settings, create_app

TOKEN = "open-sesame"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SETTINGS = Settings(token=TOKEN, hosts=("127.0.0.1",), credits="Shapes: drawn by the tests, CC0")


class Served(NamedTuple):
    """A client, and where its collection is."""

    client: TestClient
    path: Path


def served(path: Path, settings: Settings = SETTINGS) -> TestClient:
    """A client of an application of its own; a context manager."""
    return TestClient(create_app(path, settings=settings), base_url="http://127.0.0.1")


@pytest.fixture(scope="session")
def api(world) -> Iterator[TestClient]:
    """The world's collection, once its model is loaded; tests that share it do not write."""
    with served(world.collection) as client:
        assert client.post("/api/search/text", json={"text": "a red circle"}).status_code == 200  # waits for the model
        yield client


class Process:
    """A server in a process of its own; a context manager."""

    def __init__(self, path: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hashret", "serve", str(path), "--port", "0", *options],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "HASHRET_TOKEN": TOKEN},
        )
        line = self.process.stdout.readline()
        assert "is served at" in line, line
        self.address = line.split("served at ")[1].split()[0]

    def ready(self) -> Process:
        """The server, once its model is there; each question waits for it as long as an answer may take."""
        question = {"text": "a picture", "k": 1}
        while httpx.post(f"{self.address}api/search/text", json=question, timeout=60).status_code == 503:
            pass
        return self

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="session")
def start() -> type[Process]:
    """``Process``: start a server on a collection."""
    return Process


@pytest.fixture
def own(world, tmp_path) -> Iterator[Served]:
    """A copy of the world's collection that a test may write to."""
    path = tmp_path / "own.hashret"
    shutil.copytree(world.collection, path)
    with served(path) as client:
        yield Served(client, path)


@pytest.fixture
def plain(tmp_path) -> Iterator[Served]:
    """A collection of four codes of 16 bits under the ids 0 to 3, without a model."""
    path = tmp_path / "plain.hashret"
    with Collection.create(path, n_bits=16) as collection:
        collection.add(np.arange(8, dtype=np.uint8).reshape(4, 2))
    with served(path) as client:
        yield Served(client, path)


@pytest.fixture
def serve() -> Callable[..., TestClient]:
    """``served``, for tests that need settings of their own."""
    return served


@pytest.fixture(scope="session")
def settled():
    """``await settled()`` lets every task go as far as it can."""

    async def settle() -> None:
        for _ in range(30):
            await asyncio.sleep(0)

    return settle
