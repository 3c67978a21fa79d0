"""HTTP over a collection: search, pictures, writes behind a token, and one page for people.

    run        uvicorn, the socket, signals, slow connections
    app        the application: what lives as long as the server does, and which routes it has
    guard      what every request passes: host, size, time, how many at once; headers, metrics
    routes_*   one file a group of routes: parse, call the service, answer
    service    the collection, its model and the threads; knows nothing of HTTP
    batching   encoder calls of several requests, made together
    pictures   files that the collection lists, as thumbnails; pictures that arrive
    schemas    what goes over the wire, as pydantic models
    problems   every error as application/problem+json

A path from a request never reaches the file system: a picture is named by its item's id, and its file is the one that
the collection lists. Must not know how codes are searched or made.
"""

from __future__ import annotations

from hashret._lazy import require

for _package in ("fastapi", "pydantic", "prometheus_client", "python_multipart", "uvicorn", "httptools", "PIL"):
    require(_package, extra="server")

from hashret.server.app import create_app  # noqa: E402
from hashret.server.run import serve  # noqa: E402
from hashret.server.settings import Settings  # noqa: E402

__all__ = ["Settings", "create_app", "serve"]
