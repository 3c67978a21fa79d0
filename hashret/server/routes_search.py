"""Routes that look for items: by words, by a picture, by an item, by codes."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, File, Form, Request, UploadFile
from fastapi.responses import Response

from hashret.errors import InputError
from hashret.registry import nearest
from hashret.server.parts import only_known, parts
from hashret.server.pictures import query_picture
from hashret.server.problems import documented
from hashret.server.schemas import WHERE, CodesQuery, Hits, LikeQuery, Results, TextQuery
from hashret.server.settings import MAX_FILTER, MAX_K
from hashret.server.wire import codes_from, deadline, hits_of_each, hits_of_one, numbered, sent, where_from

router = APIRouter(prefix="/api/search", tags=["search"], dependencies=[Depends(only_known)])


@router.post("/text", response_model=Hits, responses=documented(422), summary="Look for words")
async def by_text(request: Request, query: TextQuery) -> Response:
    """The items nearest to some words."""
    state = parts(request)
    async with deadline(state.settings.timeout_s):
        code = await state.service.encode("text", query.text)
        return await _found(request, code, query.k, query.radius, query.where)


@router.post("/picture", response_model=Hits, responses=documented(422), summary="Look for a picture")
async def by_picture(
    request: Request,
    picture: Annotated[UploadFile, File(description="JPEG, PNG, WebP, GIF, TIFF, …")],
    k: Annotated[int, Form(ge=1, le=MAX_K, description="How many hits.")] = 10,
    radius: Annotated[
        int | None, Form(ge=0, le=1 << 16, description="Only items at this many differing bits or fewer.")
    ] = None,
    where: Annotated[
        str | None, Form(max_length=MAX_FILTER, description=WHERE + " As JSON.", examples=['{"year": 2020}'])
    ] = None,
) -> Response:
    """The items nearest to a picture that is sent along."""
    state = parts(request)
    condition = where_from(where)
    async with deadline(state.settings.timeout_s):
        image = await decoded(request, picture, fields=("picture", "k", "radius", "where"))
        code = await state.service.encode("image", image)
        return await _found(request, code, k, radius, condition)


@router.post("/like", response_model=Hits, responses=documented(404, 422), summary="Look for more like an item")
async def by_item(request: Request, query: LikeQuery) -> Response:
    """The items nearest to one of the collection, which is among them."""
    state = parts(request)
    id = numbered(query.id) if query.number and isinstance(query.id, str) else query.id
    async with deadline(state.settings.timeout_s):
        found = await state.service.like(id, k=query.k, radius=query.radius, where=query.where, form=hits_of_one)
    return sent(found)


@router.post("/codes", response_model=Results, responses=documented(422), summary="Look for codes")
async def by_codes(request: Request, query: CodesQuery) -> Response:
    """The items nearest to each of some packed codes."""
    state = parts(request)
    codes = codes_from(query.codes, encoding=query.encoding, n_bits=state.service.n_bits)
    async with deadline(state.settings.timeout_s):
        found = await state.service.search(codes, k=query.k, radius=query.radius, where=query.where, form=hits_of_each)
    return sent(found)


async def decoded(request: Request, upload: UploadFile, *, fields: tuple[str, ...]) -> Any:
    """An uploaded picture, decoded in the thread for pictures; its form has no other ``fields``."""
    for name in await request.form():
        if name not in fields:
            raise InputError(f"the form has no field {name!r}{nearest(name, fields)}")
    state = parts(request)
    content = await upload.read()
    return await state.drawing.run(lambda: query_picture(content, max_pixels=state.settings.max_pixels))


async def _found(
    request: Request, code: np.ndarray, k: int, radius: int | None, where: dict[str, Any] | None
) -> Response:
    service = parts(request).service
    return sent(await service.search(code[None], k=k, radius=radius, where=where, form=hits_of_one))
