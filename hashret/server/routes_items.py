"""Routes of stored items: one item, its picture; and, behind the token, adding, replacing and removing."""

from __future__ import annotations

import hmac
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, File, Form, Query, Request, UploadFile
from fastapi.responses import Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from hashret._text import integer_id
from hashret.codes import bytes_for
from hashret.collection import Collection, Items
from hashret.errors import InputError
from hashret.server.parts import only_known, parts
from hashret.server.pictures import SIDES, listed_file, listing_of
from hashret.server.problems import ApiError, documented
from hashret.server.routes_search import decoded
from hashret.server.schemas import WHERE, Ids, Item, ListedItems, NewItems, Stored
from hashret.server.settings import MAX_FILTER, MAX_ID, MAX_K
from hashret.server.wire import (
    answer,
    codes_from,
    deadline,
    id_of,
    items_of,
    json_from,
    numbered,
    sent,
    shown,
    thumbnail_of,
    where_from,
)

router = APIRouter(prefix="/api", tags=["items"], dependencies=[Depends(only_known)])
_BEARER = HTTPBearer(auto_error=False, description="The token that the server was started with.")

AskedId = Annotated[
    str,
    Query(
        alias="id", max_length=MAX_ID,
        description="The item's id. Read as text first and then, where there is none, as a number.",
        examples=["photo-17"],
    ),
]  # fmt: skip
AsNumber = Annotated[bool, Query(description="Read the id as a number only.")]


def may_write(request: Request, sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
    """Refuse who must not write.

    Raises:
        ApiError: writing is off, or the token is missing or wrong.
    """
    settings = parts(request).settings
    if settings.read_only or settings.token is None:
        how = "it was started with --read-only" if settings.read_only else "start it with --token or HASHRET_TOKEN"
        raise ApiError(403, f"nothing can be written through this server: {how}")
    given = "" if sent is None else sent.credentials
    if not hmac.compare_digest(given.encode("utf-8", "replace"), settings.token.encode()):
        raise ApiError(
            401, "the token is missing or wrong; send the header Authorization: Bearer TOKEN",
            headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip


WRITES: Any = [Depends(may_write)]


@router.get("/item", response_model=Item, responses=documented(404, 422), summary="One item")
async def item(request: Request, id: AskedId, number: AsNumber = False) -> Response:
    """Code and metadata of an item."""
    found = await _stored(request, id, number)
    stored, metadata = found.ids[0], found.metadata[0]
    return answer(
        {
            **id_of(stored),
            "code": found.codes[0].tobytes().hex(),
            "metadata": shown(metadata),
            "thumbnail": thumbnail_of(stored, metadata),
        }
    )


@router.get("/items", response_model=ListedItems, responses=documented(422), summary="Some items")
async def some(
    request: Request,
    k: Annotated[int, Query(ge=1, le=MAX_K, description="How many, at most.")] = 24,
    where: Annotated[
        str | None, Query(max_length=MAX_FILTER, description=WHERE + " As JSON.", examples=['{"year": 2020}'])
    ] = None,
) -> Response:
    """Items that match a filter, for looking around; in no order that means anything."""
    own, condition = parts(request), where_from(where)
    nothing = np.zeros((1, bytes_for(own.service.n_bits)), np.uint8)  # as good a place to begin as any
    async with deadline(own.settings.timeout_s):
        return sent(await own.service.search(nothing, k=k, radius=None, where=condition, form=items_of))


@router.get(
    "/thumbnail",
    response_class=Response,
    responses={
        200: {
            "description": "The picture, drawn anew.",
            "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}},
        },
        304: {"description": "The picture is the one that the client has."},
        **documented(404, 422),
    },
    summary="The picture of an item",
)
async def thumbnail(
    request: Request,
    id: AskedId,
    number: AsNumber = False,
    side: Annotated[
        int, Query(description="Pixels of the longer side, at most.", json_schema_extra={"enum": list(SIDES)})
    ] = 320,
) -> Response:
    """The picture that the collection lists for an item, as JPEG of a chosen size."""
    if side not in SIDES:
        raise InputError(f"side must be one of {', '.join(map(str, SIDES))}, not {side}")
    state = parts(request)
    found = await _stored(request, id, number)
    listed = listed_file(found.metadata[0])
    if listed is None:
        raise ApiError(404, "this item has no picture")
    try:
        async with deadline(state.settings.timeout_s):
            drawn = await state.drawing.run(lambda: state.thumbnails.draw(listed, side))
    except InputError as error:
        raise ApiError(404, str(error)) from error
    headers = {"ETag": f'"{drawn.tag}"', "Cache-Control": "private, max-age=300"}
    if drawn.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(drawn.content, media_type="image/jpeg", headers=headers)


@router.post(
    "/items", status_code=201, response_model=Stored, responses=documented(401, 403, 409, 422), dependencies=WRITES,
    summary="Add items",
)  # fmt: skip
async def add(request: Request, new: NewItems) -> Response:
    """Store new items; an id that is there already is refused, and then nothing is stored."""
    return await _store(request, new, replace=False)


@router.put(
    "/items", response_model=Stored, responses=documented(401, 403, 409, 422), dependencies=WRITES,
    summary="Add or replace items",
)  # fmt: skip
async def upsert(request: Request, new: NewItems) -> Response:
    """Store items, in place of those with the same ids; code and metadata are replaced, and their files are kept."""
    return await _store(request, new, replace=True)


@router.post(
    "/items/picture", status_code=201, response_model=Stored, responses=documented(401, 403, 409, 422),
    dependencies=WRITES, summary="Add a picture",
)  # fmt: skip
async def add_picture(
    request: Request,
    picture: Annotated[UploadFile, File(description="JPEG, PNG, WebP, GIF, TIFF, …")],
    id: Annotated[str, Form(min_length=1, max_length=MAX_ID, description="The new item's id.", examples=["photo-19"])],
    metadata: Annotated[str | None, Form(description="One JSON object.", examples=['{"year": 2021}'])] = None,
    replace: Annotated[bool, Form(description="Replace an item with this id.")] = False,
) -> Response:
    """Encode a picture and store its code.

    The picture itself is not kept, and neither is the file of an item that it replaces, which shows another one.
    """
    about = _checked(json_from(metadata, "metadata"))
    image = await decoded(request, picture, fields=("picture", "id", "metadata", "replace"))
    code = await parts(request).service.encode("image", image)
    return await _write(request, [id], code[None], [about], replace=replace)


@router.post(
    "/items/delete", response_model=Stored, responses=documented(401, 403, 404, 409, 422), dependencies=WRITES,
    summary="Remove items",
)  # fmt: skip
async def delete(request: Request, gone: Ids) -> Response:
    """Remove items; where an id is unknown nothing is removed."""

    def work(collection: Collection) -> int:
        collection.delete(gone.ids)
        return len(collection)

    return answer({"ids": gone.ids, "count": await parts(request).service.write(work)})


async def _stored(request: Request, text: str, as_number: bool) -> Items:
    """The item that a text names; 1 and "1" are different ids, and the text comes first."""
    state = parts(request)
    number = integer_id(text)

    def work(reader: Collection) -> Items:
        if as_number:
            return reader.get([numbered(text)])
        return reader.get([text if number is None or text in reader else number])

    async with deadline(state.settings.timeout_s):
        return await state.service.read(work)


async def _store(request: Request, new: NewItems, *, replace: bool) -> Response:
    for item in new.items:
        if (item.code is None) == (item.text is None):
            raise InputError(f"the item {item.id!r} needs either a code or a text")
    metadata = [_checked(item.metadata) for item in new.items]
    ids = [item.id for item in new.items]
    codes = await _codes(request, new)
    status = 200 if replace else 201
    return await _write(request, ids, codes, metadata, replace=replace, keep_files=True, status=status)


async def _codes(request: Request, new: NewItems) -> np.ndarray:
    """(n, n_bytes) uint8: the codes that were sent, and those of the texts."""
    service = parts(request).service
    codes = np.empty((len(new.items), bytes_for(service.n_bits)), np.uint8)
    sent = {row: item.code for row, item in enumerate(new.items) if item.code is not None}
    texts = {row: item.text for row, item in enumerate(new.items) if item.text is not None}
    codes[list(sent)] = codes_from(list(sent.values()), encoding=new.encoding, n_bits=service.n_bits)
    if texts:
        codes[list(texts)] = await service.encode_all("text", list(texts.values()))
    return codes


async def _write(
    request: Request,
    ids: list[Any],
    codes: np.ndarray,
    metadata: list[dict[str, Any]],
    *,
    replace: bool,
    keep_files: bool = False,
    status: int = 201,
) -> Response:
    def work(collection: Collection) -> int:  # nobody else writes between its reading and its writing
        if replace:
            about = _with_files(collection, ids, codes, metadata) if keep_files else metadata
            collection.upsert(codes, ids=ids, metadata=about)
        else:
            collection.add(codes, ids=ids, metadata=metadata)
        return len(collection)

    count = await parts(request).service.write(work)
    return answer({"ids": ids, "count": count}, status)


def _with_files(
    collection: Collection, ids: list[Any], codes: np.ndarray, metadata: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """New metadata with the files that the collection lists for these ids.

    A client is not told the file's place, and may round its time: ``mtime_ns`` is more than JavaScript holds exactly.
    """
    new = dict(zip(ids, codes))
    old = collection.get([id for id in ids if id in collection])
    files = {
        id: listing_of(about, same_code=np.array_equal(new[id], code))
        for id, code, about in zip(old.ids, old.codes, old.metadata)
    }
    return [{**about, **files.get(id, {})} for id, about in zip(ids, metadata)]


def _checked(metadata: dict[str, Any]) -> dict[str, Any]:
    if "image" in metadata:
        raise InputError(
            "metadata must not have 'image': it names a file of the server, and only hashret index may list files"
        )
    return metadata
