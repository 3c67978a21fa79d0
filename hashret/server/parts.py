"""What lives as long as the application, and how a route gets at it."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from hashret.server.metrics import Metrics
from hashret.server.pictures import Thumbnails
from hashret.server.service import Pool, Service
from hashret.server.settings import Settings


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


def parts(request: Request) -> Parts:
    """The parts of the application that got the request."""
    found: Parts = request.app.state.parts
    return found
