"""What lives as long as the application, how a route gets at it, and what all routes of the interface check."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from hashret.registry import nearest
from hashret.server.metrics import Metrics
from hashret.server.pictures import Thumbnails
from hashret.server.problems import ApiError
from hashret.server.service import Pool, Service
from hashret.server.settings import MAX_ID, Settings


@dataclass(frozen=True)
class Parts:
    """The parts of an application.

    Attributes:
        settings: limits and the token.
        service: the collection, its model and their threads.
        metrics: counts and times.
        thumbnails: draws listed files.
        drawing: the thread that decodes pictures.
    """

    settings: Settings
    service: Service
    metrics: Metrics
    thumbnails: Thumbnails
    drawing: Pool


async def only_known(request: Request) -> None:
    """Refuse parameters of the address that the route does not have: one that is misspelt would be passed over.

    Raises:
        ApiError: there is one.
    """
    known = tuple(field.alias for field in request.scope["route"].dependant.query_params)
    for name in request.query_params:
        if name not in known:
            has = nearest(name[:MAX_ID], known) if known else ": this route reads its values from the body"
            raise ApiError(422, f"the address has no parameter {name[:MAX_ID]!r}{has}")


def parts(request: Request) -> Parts:
    """The parts of the application that got the request."""
    found: Parts = request.app.state.parts
    return found
