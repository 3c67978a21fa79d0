"""``hashret search``: words or a picture in, a table, JSON or a page of hits out."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashret._json import json_object
from hashret._text import integer_id
from hashret.cli._common import print_json, printable
from hashret.engine import RUNTIMES, Engine
from hashret.errors import InputError

if TYPE_CHECKING:
    from hashret.collection import CollectionHits

SUMMARY = "Find the pictures of a collection by words, by a picture, or by one of its own items."
EXAMPLES = (
    'hashret search photos.hashret "a dog on a beach"',
    "hashret search photos.hashret --image dog.jpg -k 20",
    'hashret search photos.hashret "a dog" --where \'{"year": {"gte": 2019}}\' --json',
    'hashret search photos.hashret "a dog on a beach" --relaxed',
    'hashret search photos.hashret "a dog" --html hits.html --open',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("collection", help="the directory of a collection")
    parser.add_argument("words", nargs="?", help="words to look for")
    parser.add_argument("--image", help="a picture to look for")
    parser.add_argument("--id", help="an item of the collection, for more like it")
    parser.add_argument("-k", type=int, default=10, help="how many hits (10)")
    parser.add_argument("--radius", type=int, help="only hits at this many differing bits or fewer")
    parser.add_argument("--where", help="a metadata filter in JSON")
    parser.add_argument(
        "--relaxed",
        action="store_true",
        help="order the nearest by how sure each bit of the query is, which finds more (words and pictures)",
    )
    parser.add_argument("--model", help="the model's directory, if not where the collection says")
    parser.add_argument(
        "--runtime", choices=RUNTIMES, default="auto", help="what encodes the query (auto: ONNX where it was exported)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--html", type=Path, help="write the hits as a page of pictures")
    parser.add_argument("--open", action="store_true", help="show that page in the browser")


def run(args: argparse.Namespace) -> None:
    """Search and print."""
    if args.words is None and args.image is None and args.id is None:
        raise InputError("there is nothing to look for; give words, --image FILE or --id ID")
    where = None if args.where is None else json_object(args.where, "--where")
    with Engine.open(args.collection, model=args.model, runtime=args.runtime) as engine:
        k = min(args.k, max(1, len(engine.collection)))  # more than there is would only be padding
        hits = engine.search(
            args.words,
            image=args.image,
            id=_id(engine, args.id),
            k=k,
            where=where,
            radius=args.radius,
            relaxed=args.relaxed,
        )
        credits = engine.collection.credits
    query = args.words or args.image or f"like {args.id}"
    if args.html or args.open:
        page = args.html or Path(f"{Path(args.collection).stem}-hits.html")
        _write_page(page, query, args.image, hits, credits)
        print(f"wrote {page}", file=sys.stderr)
        if args.open:
            webbrowser.open(page.resolve().as_uri())
    rows = _rows(hits)
    if args.json:
        print_json({"query": query, "hits": rows})
    elif not rows:
        print("nothing found")
    else:
        _print_table(rows)


def _id(engine: Engine, text: str | None) -> str | int | None:
    """Ids on the command line are strings; one that only exists as a number is taken as the number."""
    if text is None or text in engine.collection:
        return text
    number = integer_id(text)
    return text if number is None else number


def _rows(hits: CollectionHits) -> list[dict[str, Any]]:
    found = zip(hits.ids[0], hits.distances[0], hits.metadata[0])
    return [
        {"rank": rank, "id": id, "distance": int(distance), "metadata": metadata}
        for rank, (id, distance, metadata) in enumerate(found, start=1)
        if distance >= 0
    ]


def _print_table(rows: list[dict[str, Any]]) -> None:
    ids = [printable(row["id"]) for row in rows]
    width = max(len("id"), *map(len, ids))
    print(f"{'rank':>4}  {'bits':>4}  {'id':<{width}}  caption")
    for row, id in zip(rows, ids):
        print(f"{row['rank']:>4}  {row['distance']:>4}  {id:<{width}}  {printable(_caption(row))}")


def _caption(row: dict[str, Any]) -> str:
    """The first caption; a collection that was not made by ``hashret index`` may have none, or other metadata."""
    captions = (row["metadata"] or {}).get("captions")
    return str(captions[0]) if isinstance(captions, list) and captions else ""


def _write_page(page: Path, query: str, image: str | None, hits: CollectionHits, credits: str | None) -> None:
    from hashret.evaluation.report import Credits, Gallery, Hit, Query, Report, write_report

    found = []
    for row in _rows(hits):
        picture = (row["metadata"] or {}).get("image")
        found.append(Hit(image=picture, caption=_caption(row) or str(row["id"]), distance=row["distance"]))
    gallery = Gallery(title="Hits", rows=((Query(text=query, image=image), tuple(found)),))
    thanks = (Credits((credits,)),) if credits else ()
    write_report(page, Report(title=f"hashret: {query}", sections=(gallery, *thanks)))
