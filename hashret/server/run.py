"""Running the application under uvicorn: the socket, signals, and connections that are slow to speak."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hashret.errors import InputError

HEAD_S = 15.0  # a connection that has not sent a whole head by then is dropped
HEAD_BYTES = 64 << 10
CONNECTIONS = 1000
CLIENT_CONNECTIONS = 256  # of one address, idle ones too: one client is not to take them all
SHUTDOWN_S = 20
SWITCH_S = 0.001  # a search in its thread keeps the others' answers waiting as long as this, not Python's 5 ms


def serve(
    app: Any,
    *,
    host: str,
    port: int,
    started: Callable[[str], None] | None = None,
    client_connections: int = CLIENT_CONNECTIONS,
) -> None:
    """Serve until a signal says to stop, then finish what was begun.

    Args:
        app: the application.
        host: the address to bind.
        port: the port, 0 for any.
        started: told the server's address once connections are taken.
        client_connections: of one address at a time, idle ones too.

    Raises:
        InputError: the address cannot be bound.
    """
    listener = _listener(host, port)
    bound = listener.getsockname()[1]
    config = uvicorn.Config(
        app,
        http=type("_Patient", (_Patient,), {"most": client_connections}),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(HEAD_S),
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=SHUTDOWN_S,
        backlog=512,
    )
    sys.setswitchinterval(SWITCH_S)
    shown = f"[{host}]" if ":" in host else host
    if started is not None:
        started(f"http://{shown}:{bound}/")
    asyncio.run(_Server(config).serve(sockets=[listener]))


def _listener(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # asyncio turns Nagle's algorithm off only where the protocol is named: a head and a body sent one after the
        # other would else wait 40 ms for the client's delayed acknowledgement
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
    except (OSError, OverflowError, UnicodeError) as error:
        raise InputError(f"{host} port {port} cannot be bound ({error}); choose another --port or --host") from error
    return listener


class _Server(uvicorn.Server):
    """Ends with the exit code of a success when it is told to stop; uvicorn would raise the signal once more."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        stops = (signal.SIGINT, signal.SIGTERM)
        before = {stop: signal.signal(stop, self.handle_exit) for stop in stops}
        try:
            yield
        finally:
            for stop, handler in before.items():
                signal.signal(stop, handler)


class _Patient(HttpToolsProtocol):
    """Patience has an end: a head must come within ``HEAD_S`` seconds and ``HEAD_BYTES`` bytes.

    One address has ``most`` connections at a time.
    """

    most = CLIENT_CONNECTIONS

    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.client is not None and self._of_client(self.client[0]) > self.most:
            told = f"this client has {self.most} connections, which is as many as may; close some of them"
            self._refuse(HTTPStatus.TOO_MANY_REQUESTS, told)
            return
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        if self._head_bytes > HEAD_BYTES + len(data):  # the last piece may have begun with a body's end
            self.send_400_response(f"the head of the request has more than {HEAD_BYTES:,} bytes")
        elif self._timer is None:
            self._start_timer()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _of_client(self, host: str) -> int:
        clients = (getattr(one, "client", None) for one in self.connections)
        return sum(client is not None and client[0] == host for client in clients)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        told = {"type": "about:blank", "title": status.phrase, "status": status.value, "detail": detail}
        content = json.dumps(told).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/problem+json\r\n"
            f"Connection: close\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.close()

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(HEAD_S, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self._start_timer()  # the answer to the last request is on its way
