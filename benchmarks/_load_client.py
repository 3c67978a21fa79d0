"""A lean HTTP client for load: requests as bytes, connections that stay open, one time and status a request.

The load shares the cores with the server, so the client does as little as it can: no library, no parsing beyond the
status and the length.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Call(NamedTuple):
    """A request: what kind it counts as, where it goes, what it carries."""

    kind: str
    path: str
    body: dict[str, Any]


class Done(NamedTuple):
    """An answer: its kind, the status (0 where the connection broke), seconds since it was due, the request."""

    kind: str
    status: int
    seconds: float
    call: Call


class Connection:
    """One connection that stays open."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, call: Call) -> int:
        """The status of the answer; 0 where the connection broke."""
        try:
            if self._streams is not None and self._streams[0].at_eof():
                self.close()  # the server lets go of connections that were idle for long, as every client must expect
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            body = json.dumps(call.body).encode()
            writer.write(
                f"POST {call.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._token}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            return int(head[9:12])
        except (OSError, asyncio.IncompleteReadError, IndexError):
            self.close()
            return 0

    def close(self) -> None:
        """Let go of the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def closed_loop(
    calls: Iterator[Call], *, port: int, token: str, connections: int, stop: Callable[[], bool]
) -> list[Done]:
    """As many requests as ``connections`` get answered until ``stop``, each sent when the last one is answered."""
    done: list[Done] = []

    async def work() -> None:
        connection = Connection(port, token)
        while not stop():
            call, started = next(calls), time.perf_counter()
            status = await connection.send(call)
            done.append(Done(call.kind, status, time.perf_counter() - started, call))
            if status == 0:
                await asyncio.sleep(0.01)
        connection.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    return done


async def open_loop(
    calls: Iterator[Call], *, port: int, token: str, rate: float, stop: Callable[[], bool]
) -> list[Done]:
    """``rate`` requests a second whatever the answers do; seconds count from when a request was due."""
    done: list[Done] = []
    idle: list[Connection] = []
    under_way: set[asyncio.Task[None]] = set()

    async def one(call: Call, due: float) -> None:
        connection = idle.pop() if idle else Connection(port, token)
        status = await connection.send(call)
        done.append(Done(call.kind, status, time.perf_counter() - due, call))
        idle.append(connection)

    due = time.perf_counter()
    while not stop():
        due += 1 / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(next(calls), due))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    for connection in idle:
        connection.close()
    return done
