"""Every error of the server as application/problem+json (RFC 9457): a status, a title and a sentence.

An error about what was asked keeps its sentence. One about files, models or packages may name places of this machine,
so its sentence goes to the log, as anything unforeseen does, which is answered 500.
"""

from __future__ import annotations

import json
import logging
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from hashret.errors import (
    HashretError,
    InputError,
    LockedError,
    UnknownIdError,
)

MEDIA_TYPE = "application/problem+json"
_LOG = logging.getLogger(__name__)
_LONGEST = 600  # characters of a sentence: it may quote what was sent


class Problem(BaseModel):
    """What went wrong, and what to do (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"type": "about:blank", "title": "Unprocessable Content", "status": 422, "detail": "k must be positive"}
            ]
        }
    )
    type: str = Field(default="about:blank", description="Always about:blank: the status says what kind it is.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="A sentence: what was given, what was expected, what to do.")


class ApiError(Exception):
    """An answer that is no success.

    Args:
        status: of HTTP.
        detail: the sentence.
        headers: to send along.
    """

    def __init__(self, status: int, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def busy(detail: str) -> ApiError:
    """503, with the advice to try again soon."""
    return ApiError(503, detail, headers={"Retry-After": "1"})


def problem_response(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    """The answer; ASCII only, as a sentence may quote text that UTF-8 cannot hold."""
    detail = detail if len(detail) <= _LONGEST else detail[:_LONGEST] + "…"
    content = {"type": "about:blank", "title": _title(status), "status": status, "detail": detail}
    return Response(json.dumps(content), status, {**(headers or {}), "Cache-Control": "no-store"}, MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a route: these, and those that every route may give."""
    everywhere = (400, 408, 413, 429, 503)
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": _MEANINGS[status], "content": {MEDIA_TYPE: schema}}
        for status in sorted({*everywhere, *statuses})
    }


def install(app: FastAPI, *, path: Path) -> None:
    """Answer every error with a problem; where the collection lies (``path``) is no part of it."""

    @app.exception_handler(ApiError)
    async def _api(request: Request, error: ApiError) -> Response:
        return problem_response(error.status, error.detail, error.headers)

    @app.exception_handler(HashretError)
    async def _known(request: Request, error: HashretError) -> Response:
        status = status_of(error)
        if not isinstance(error, InputError | UnknownIdError):
            _LOG.warning("%s %s: %s", request.method, request.url.path, error)
            return problem_response(status, _PRIVATE[status], {"Retry-After": "10"} if status == 503 else None)
        return problem_response(status, str(error).replace(str(path), path.name))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        if isinstance(error.body, bytes):  # JSON is parsed by now, and forms are
            kind = request.headers.get("content-type") or "missing"
            told = f"send JSON with the header Content-Type: application/json; that of this request is {kind}"
            return problem_response(422, told)
        return problem_response(422, "; ".join(_sentence(entry) for entry in error.errors()[:5]))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        detail = _HTTP.get(error.status_code, "{}").format(error.detail)
        headers = dict(error.headers or {})
        if error.status_code == 405:  # the framework lists the methods of the first route with this path only
            headers["Allow"] = ", ".join(_methods(app, request.url.path))
        return problem_response(error.status_code, detail, headers)

    @app.exception_handler(Exception)
    async def _unforeseen(request: Request, error: Exception) -> Response:
        _LOG.exception("%s %s", request.method, request.url.path, exc_info=error)
        return problem_response(500, "this is a defect of the server; its log says more")


def status_of(error: HashretError) -> int:
    """The HTTP status of an error of hashret."""
    if isinstance(error, UnknownIdError):
        return 404
    if isinstance(error, LockedError):
        return 409
    return 422 if isinstance(error, InputError) else 503


def _methods(app: FastAPI, path: str) -> list[str]:
    paths = app.openapi()["paths"]
    known = {method.upper() for method in paths.get(path, ("get",))}
    return sorted(known | {"HEAD"} if "GET" in known else known)


def _sentence(entry: Any) -> str:
    if entry["type"] == "json_invalid":
        return f"the body is no JSON: {entry['ctx']['error']} at character {entry['loc'][-1]}"
    parts = [str(part) for part in entry["loc"] if part not in ("body", "query")]
    place = ".".join(part for part in parts if re.fullmatch(r"\w+", part))  # the others name types of Python
    told = "must be a file; with curl, @ stands before its name" if "UploadFile" in entry["msg"] else entry["msg"]
    return f"{place or 'the request'}: {told}"


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


_HTTP = {
    400: "the body cannot be read ({}); send what the description at /openapi.json says",
    404: "there is nothing here; the routes are described at /openapi.json",
    405: "this route knows other methods only; they are in the header Allow",
}
_PRIVATE = {
    409: "another process writes to the collection; end it, or wait for it (the server's log says which)",
    503: "the collection or its model cannot be used now; the server's log says why",
}
_MEANINGS = {
    400: "The body or a header cannot be read.",
    401: "The token is missing or wrong.",
    403: "Writing is off.",
    404: "There is no such item, or it has no picture.",
    408: "The body took too long to arrive.",
    409: "Another process writes to the collection.",
    413: "The body is too large.",
    422: "The request cannot be used as it is; the sentence says why.",
    429: "This client has too many requests under way.",
    503: "The server is too busy, is starting, or cannot reach what it needs; try again.",
}
