"""What goes over the wire: pydantic models, with examples for the OpenAPI description. No logic but checks of form."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

from hashret._text import is_text
from hashret.errors import InputError
from hashret.server.settings import MAX_CODES, MAX_CONDITIONS, MAX_HITS, MAX_ID, MAX_ITEMS, MAX_K, MAX_TEXT

INT64 = (1 << 63) - 1
EXACT = 1 << 53  # JavaScript, and many a reader of JSON, rounds integers beyond
HIDDEN = "image"  # the metadata field that says where a file lies


def _writable(text: str) -> str:
    if "\0" in text or not is_text(text):
        raise ValueError("holds a NUL character or half a surrogate pair, which is no text")
    return text


def _worded(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; give some words")
    return _writable(text)


Words = Annotated[StrictStr, Field(min_length=1, max_length=MAX_TEXT, pattern=r"\S"), AfterValidator(_worded)]
TextId = Annotated[StrictStr, Field(max_length=MAX_ID), AfterValidator(_writable)]
Id = TextId | Annotated[StrictInt, Field(ge=-INT64 - 1, le=INT64)]
Encoding = Literal["hex", "base64"]


def public_filter(where: dict[str, Any]) -> dict[str, Any]:
    """``where``, if it asks only for what is shown: comparing with ``image`` would spell out where the files lie.

    Raises:
        InputError: it names ``image``, or has too many conditions.
    """
    left: list[Any] = [where]
    conditions = 0
    while left:
        part = left.pop()
        if not isinstance(part, dict):
            continue  # the collection says what is wrong with it
        for name, value in part.items():
            if name in ("and", "or"):
                left += value if isinstance(value, list) else []
            elif name == "not":
                left.append(value)
            elif name.partition(".")[0] == HIDDEN:
                raise InputError(f"a filter cannot name {HIDDEN!r}: where files lie is not shown; leave it out")
            else:
                conditions += _conditions(value)
    if conditions > MAX_CONDITIONS:
        raise InputError(
            f"the filter has {conditions} conditions, and the server takes {MAX_CONDITIONS}; use 'in' for many values"
        )
    return where


def _conditions(value: Any) -> int:
    """How many comparisons an item of one field costs."""
    count, left = 0, [value]
    while left:
        part = left.pop()
        if not isinstance(part, dict):
            count += 1
            continue
        for name, operand in part.items():
            if name == "not":
                left.append(operand)
            elif name == "in" and isinstance(operand, list):  # one for all, but for null and texts that look like JSON
                count += 1 + sum(entry is None or str(entry)[:1] in ("[", "{") for entry in operand)
            else:
                count += 1
    return count


Where = Annotated[dict[str, Any], AfterValidator(public_filter)]
WHERE = (
    'A filter on metadata, such as `{"year": {"gte": 2019}}`. Operators: eq, ne, gt, gte, lt, lte, in, contains, '
    "exists, not; between filters: and, or, not; a dot walks into an object. "
    f"At most {MAX_CONDITIONS} conditions."
)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Query(_Body):
    k: StrictInt = Field(default=10, ge=1, le=MAX_K, description="How many hits.")
    radius: Annotated[StrictInt, Field(ge=0, le=1 << 16)] | None = Field(
        default=None, description="Only items at this many differing bits or fewer."
    )
    where: Where | None = Field(default=None, description=WHERE, examples=[{"year": {"gte": 2019}}])


class TextQuery(_Query):
    """Words to look for."""

    text: Words = Field(description="Words to look for.", examples=["a dog on a beach"])


class LikeQuery(_Query):
    """More like an item of the collection."""

    id: Id = Field(description='An item of the collection; 1 and "1" are different ids.', examples=["photo-17"])
    number: StrictBool = Field(default=False, description="Read an id that is given as text as a number.")


class CodesQuery(_Query):
    """Packed codes to look for, one result each."""

    codes: list[StrictStr] = Field(
        min_length=1,
        max_length=MAX_CODES,
        description=f"Their number times k is at most {MAX_HITS:,}.",
        examples=[["0f1e2d3c4b5a6978"]],
    )
    encoding: Encoding = Field(default="hex", description="How the codes are written.")

    @model_validator(mode="after")
    def _few_hits(self) -> CodesQuery:
        if len(self.codes) * self.k > MAX_HITS:
            raise InputError(
                f"{len(self.codes)} codes of k = {self.k} hits are more than the {MAX_HITS:,} hits of one request; "
                "send fewer codes at a time, or a smaller k"
            )
        return self


class _Named(BaseModel):
    id: str | int = Field(examples=["photo-17"])
    id_text: str = Field(
        default="",
        description="The id in digits, given only where it is a number beyond 2^53, which many readers of JSON round.",
    )


class Hit(_Named):
    """An item that was found."""

    distance: int = Field(description="Number of differing bits.", examples=[12])
    metadata: dict[str, Any] = Field(examples=[{"captions": ["a dog on a beach"], "year": 2020}])
    thumbnail: str | None = Field(
        description="Where its small picture is, if it has one, from the server's root; add `&side=640` for a larger."
    )


class Hits(BaseModel):
    """The hits of a query, ordered by (distance, insertion)."""

    hits: list[Hit]


class Results(BaseModel):
    """The hits of each code, in the order of the codes."""

    results: list[Hits]


class ListedItem(_Named):
    """An item, without its code."""

    metadata: dict[str, Any]
    thumbnail: str | None


class ListedItems(BaseModel):
    """Some items, in no order that means anything."""

    items: list[ListedItem]


class Item(_Named):
    """A stored item."""

    code: str = Field(description="The packed code in hexadecimal.", examples=["0f1e2d3c4b5a6978"])
    metadata: dict[str, Any]
    thumbnail: str | None


class NewItem(_Body):
    """An item to store: its code, or words that are encoded."""

    id: Id = Field(examples=["photo-18"])
    code: StrictStr | None = Field(default=None, description="A packed code.", examples=["0f1e2d3c4b5a6978"])
    text: Words | None = Field(default=None, description="Words to encode instead of a code.", examples=[None])
    metadata: dict[str, Any] = Field(
        default_factory=dict,
        description="One JSON object, without `image`: only `hashret index` lists files; replaced items keep theirs.",
        examples=[{"year": 2021}],
    )


class NewItems(_Body):
    """Items to store; all of them are stored or, where anything is wrong, none."""

    items: list[NewItem] = Field(min_length=1, max_length=MAX_ITEMS)
    encoding: Encoding = Field(default="hex", description="How the codes are written.")


class Ids(_Body):
    """Ids of items."""

    ids: list[Id] = Field(min_length=1, max_length=MAX_ITEMS * 4, examples=[["photo-17", "photo-18"]])


class Stored(BaseModel):
    """What was stored or removed, durably."""

    ids: list[str | int]
    count: int = Field(description="Items in the collection now.", examples=[8091])


class FieldFacts(BaseModel):
    """A metadata field, as a sample of the items has it."""

    name: str = Field(examples=["year"])
    kind: Literal["text", "number", "flag", "list", "date"]
    values: list[str | int | float | bool] = Field(
        description="The most frequent values, if they are few; of dates the first and the last."
    )
    low: float | None = Field(description="Of numbers.")
    high: float | None = Field(description="Of numbers.")


class Limits(BaseModel):
    """What a request may ask for."""

    k: int
    codes: int
    hits: int
    items: int
    text_characters: int
    upload_bytes: int
    pixels: int


class Facts(BaseModel):
    """What is served."""

    name: str = Field(examples=["photos"])
    n_bits: int = Field(examples=[64])
    count: int = Field(examples=[8091])
    encoder: Literal["ready", "starting", "absent", "failed"] = Field(
        description="Whether words and pictures can be looked for."
    )
    writable: bool
    credits: str = Field(description="Whom to thank for the pictures; show it beside them.")
    fields: list[FieldFacts]
    limits: Limits


class State(BaseModel):
    """Whether the server lives, or is ready."""

    status: Literal["ok"]
