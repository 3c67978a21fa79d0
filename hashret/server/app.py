"""The application: what lives as long as the server does, and which routes it has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI

import hashret
from hashret.server import problems, routes_items, routes_search, routes_state
from hashret.server.guard import Guard
from hashret.server.metrics import Metrics
from hashret.server.parts import Parts
from hashret.server.pictures import Thumbnails
from hashret.server.service import Pool, Service
from hashret.server.settings import Settings

DESCRIPTION = (
    "Search a collection of pictures (or texts) by words, by a picture, by one of its items or by packed codes. "
    "Distances are numbers of differing bits; hits come in order of (distance, insertion). Every error is "
    "application/problem+json with a sentence in `detail`."
)


def create_app(path: str | Path, *, model: str | Path | None = None, settings: Settings | None = None) -> FastAPI:
    """The application that serves the collection at ``path``.

    Args:
        path: the collection's directory.
        model: the model's directory, if not where the collection says.
        settings: limits and the token.

    Raises:
        StorageError: there is no readable collection, or no directory ``model``.
    """
    settings = settings or Settings()
    metrics = Metrics()
    service = Service(path, model=model, settings=settings, batched=metrics.batched)
    drawing = Pool("draw pictures", 1, settings.max_queue * 4)  # one at a time: a large picture takes much memory
    metrics.watch(lambda: {**service.waiting(), "draw": drawing.count})

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        drawing.close()
        await service.stop()

    app = FastAPI(
        title="hashret",
        version=hashret.__version__,
        description=DESCRIPTION,
        lifespan=life,
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.state.parts = Parts(
        settings,
        service,
        metrics,
        Thumbnails(max_bytes=settings.thumbnail_bytes, max_pixels=settings.max_pixels),
        drawing,
    )
    problems.install(app, path=service.path)
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    for routes in (routes_search, routes_items, routes_state):  # the busiest first: they are tried in turn
        app.include_router(routes.router)
    _describe_problem(app)
    return app


def _describe_problem(app: FastAPI) -> None:
    """Have the description hold the model of a problem, which no route returns as a value."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        content = describe()
        schema = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        content.setdefault("components", {}).setdefault("schemas", {}).setdefault("Problem", schema)
        return content

    app.openapi = openapi  # type: ignore[method-assign]
