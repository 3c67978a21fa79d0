"""Routes about the server itself: what it serves, whether it lives and is ready, metrics, the page."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from hashret.server.parts import parts
from hashret.server.problems import busy, documented
from hashret.server.schemas import Facts, State
from hashret.server.settings import MAX_CODES, MAX_HITS, MAX_ITEMS, MAX_K, MAX_TEXT
from hashret.server.wire import answer, deadline

router = APIRouter()
_PAGE = Path(__file__).with_name("page")
_FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "filters.js": "text/javascript; charset=utf-8",
    "grid.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@router.get("/health", response_model=State, responses=documented(), tags=["state"], summary="Whether the server lives")
async def health() -> Response:
    """Answers as long as the server does."""
    return answer({"status": "ok"})


@router.get("/ready", response_model=State, responses=documented(), tags=["state"], summary="Whether it can search")
async def ready(request: Request) -> Response:
    """503 while the model loads or where it cannot be loaded, and where the collection cannot be read."""
    state = parts(request)
    if state.service.encoder in ("starting", "failed"):
        raise busy(f"the encoder is {state.service.encoder}; queries by id and by code are answered")
    async with deadline(state.settings.timeout_s):
        await state.service.count()
    return answer({"status": "ok"})


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Text format.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **documented(),
    },
    tags=["state"],
    summary="Metrics for Prometheus",
)
async def metrics(request: Request) -> Response:
    """Counts, times and queues in Prometheus' text format."""
    return Response(parts(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/api/collection", response_model=Facts, responses=documented(), tags=["search"], summary="What is served")
async def collection(request: Request) -> Response:
    """The collection, its metadata fields, the limits of requests."""
    state = parts(request)
    service, settings = state.service, state.settings
    async with deadline(settings.timeout_s):
        count, fields = await service.facts()
    return answer(
        {
            "name": service.path.resolve().name.removesuffix(".hashret"),
            "n_bits": service.n_bits,
            "count": count,
            "encoder": service.encoder,
            "writable": settings.token is not None and not settings.read_only,
            "credits": settings.credits or service.credits,
            "fields": [field._asdict() for field in fields],
            "limits": {
                "k": MAX_K,
                "codes": MAX_CODES,
                "hits": MAX_HITS,
                "items": MAX_ITEMS,
                "text_characters": MAX_TEXT,
                "upload_bytes": settings.max_upload_bytes,
                "pixels": settings.max_pixels,
            },
        }
    )


def _page_file(name: str) -> Response:
    return Response((_PAGE / name).read_bytes(), media_type=_FILES[name], headers={"Cache-Control": "no-cache"})


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """The page."""
    return _page_file("index.html")


def _add_file(name: str) -> None:
    @router.get(f"/{name}", include_in_schema=False)
    async def file() -> Response:
        return _page_file(name)


for _name in _FILES:
    _add_file(_name)
