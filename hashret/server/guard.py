"""What every request passes: host, size and time of the body, how many of one client, headers, metrics.

Plain ASGI, as nothing may be buffered before it is counted. Must not know of collections.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hashret.server.metrics import Metrics
from hashret.server.problems import problem_response
from hashret.server.settings import Settings, host_name

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
# their bodies may be as large as an upload: the ids of one request to remove some may have 4 MB
_LARGE = ("/api/search/picture", "/api/items", "/api/items/picture", "/api/items/delete")
_BODIES = 16  # as many bodies of the largest size are held at a time, of all clients together, and half of one client
_SMALL = 64 << 10  # bytes: a body is not counted before it has more, so that words are found whoever sends pictures
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")


class _Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class Guard:
    """The outermost layer of the application.

    Args:
        app: what is guarded.
        settings: the limits.
        metrics: told of every answer.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics
        self._hosts = tuple(dict.fromkeys(map(host_name, settings.hosts)))
        self._clients: Counter[str] = Counter()
        self._room = _Room(_BODIES * max(settings.max_upload_bytes, settings.max_json_bytes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        client = (scope.get("client") or ("unknown",))[0]
        head_only = scope["method"] == "HEAD"
        asked = {**scope, "method": "GET"} if head_only else scope  # what GET answers, without its body
        begun = False
        body: list[bytes] = []

        async def answer(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                own = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in _HEADERS if pair[0] not in own)]
            elif head_only and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        self._clients[client] += 1
        try:
            self._admit(scope, client)
            await self._app(asked, await self._body(scope, receive, body, client), answer)
        except _Refused as refused:
            if not begun:
                headers = {"Retry-After": "1"} if refused.status in (429, 503) else {}
                if refused.status in (408, 413, 429, 503):  # what is left of the body is not read
                    headers["Connection"] = "close"
                await problem_response(refused.status, refused.detail, headers)(asked, receive, answer)
        finally:
            self._room.give_back(client, sum(map(len, body)))
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
            route = getattr(asked.get("route"), "path", "none")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.answered(method, route, status, time.perf_counter() - started)

    def _admit(self, scope: Scope, client: str) -> None:
        if self._clients[client] > self._settings.max_per_client:
            raise _Refused(
                429, f"this client has {self._settings.max_per_client} requests under way, which is as many as may"
            )
        if self._hosts and _host(scope) not in self._hosts:
            raise _Refused(
                400, f"the header Host must name one of {', '.join(self._hosts)}; start the server with --allow-host"
            )

    async def _body(self, scope: Scope, receive: Receive, parts: list[bytes], client: str) -> Receive:
        """The body, complete and of an allowed size, as something to receive; ``parts`` are what it came in."""
        most = self._settings.max_upload_bytes if scope["path"] in _LARGE else self._settings.max_json_bytes
        too_large = _Refused(413, f"the body has more than {most:,} bytes, which is as many as this route takes")
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > most:
            raise too_large
        size = 0
        try:
            async with asyncio.timeout(self._settings.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return _Replay(b"", receive, gone=True)
                    parts.append(message.get("body", b""))
                    before, size = size, size + len(parts[-1])
                    self._room.take(client, before, size)
                    if size > most:
                        raise too_large
                    if not message.get("more_body", False):
                        parts[:] = [b"".join(parts)]
                        return _Replay(parts[0], receive)
        except TimeoutError:
            raise _Refused(
                408, f"the body did not arrive within {self._settings.body_timeout_s:g} s; send it faster"
            ) from None


class _Room:
    """Counts what is held of large bodies: of all clients together, and of each, who gets half of it at most."""

    def __init__(self, n_bytes: int) -> None:
        self._most, self._held, self._of = n_bytes, 0, Counter[str]()

    def take(self, client: str, before: int, size: int) -> None:
        """A body of ``before`` bytes has grown to ``size``.

        Raises:
            _Refused: there is no room for it; it is counted all the same, until it is given back.
        """
        more = _counted(size) - _counted(before)
        if not more:
            return
        self._held += more
        self._of[client] += more
        if 2 * self._of[client] > self._most:
            raise _Refused(429, "the bodies of this client's requests take all the room it may have; try again soon")
        if self._held > self._most:
            raise _Refused(503, "the bodies of other requests take all the room there is; try again soon")

    def give_back(self, client: str, size: int) -> None:
        """A body of ``size`` bytes is not needed any more."""
        self._held -= _counted(size)
        self._of[client] -= _counted(size)
        if not self._of[client]:
            del self._of[client]


def _counted(size: int) -> int:
    return max(0, size - _SMALL)


class _Replay:
    """Gives the body once, then whatever comes from the client."""

    def __init__(self, body: bytes, receive: Receive, *, gone: bool = False) -> None:
        self._messages: list[dict[str, Any]] = [
            {"type": "http.disconnect"} if gone else {"type": "http.request", "body": body, "more_body": False}
        ]
        self._receive = receive

    async def __call__(self) -> Message:
        return self._messages.pop() if self._messages else await self._receive()


def _host(scope: Scope) -> str:
    """The name in ``Host``, without the port."""
    for name, value in scope["headers"]:
        if name == b"host":
            return host_name(value.decode("latin-1"))
    return ""
