"""Kill a writing process with SIGKILL at random moments, and see that a collection loses nothing and adds nothing.

    python tests/collection/kill_writer.py --kills 1000 [--seed 0] [--out DIR]

Each round forks a real process that opens the collection for writing and adds, upserts, deletes, indexes and compacts;
it names every operation before it begins and acknowledges it after the call has returned. The parent kills it at a
random moment, mostly after the kind of operation that it has interrupted least has begun, opens the collection,
verifies it, and compares everything with what must be there: all that was acknowledged, and of the one operation that
was under way either all or nothing. The next round goes on with the same collection, and now and then with a new one.
Prints a summary; exits with 1 at the first difference.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hashret.collection import Collection
from hashret.errors import StorageError

N_BITS = 64
KINDS = ("add", "add strings", "upsert", "delete", "compact", "index")
ROUNDS_OF_A_COLLECTION = 15


@dataclass
class Content:
    """What a collection must hold: code and metadata of each id, in order, and whether there is an index."""

    items: dict[Any, tuple[bytes, dict[str, Any]]] = field(default_factory=dict)
    indexed: bool = False


def code_of(seed: int, count: int) -> np.ndarray:
    """The codes of an operation, from its seed."""
    return np.random.default_rng(seed).integers(0, 256, (count, N_BITS // 8), np.uint8)


def choose(rng: random.Random, content: Content, step: int, wanted: str) -> dict[str, Any]:
    """A random operation that makes sense for ``content``; plain data, so that both processes can apply it."""
    kind = rng.choice((wanted, *KINDS, wanted, wanted))
    count = rng.choice((1, 10, 100, 1000, 3000))
    seed = rng.randrange(1 << 30)
    known = list(content.items)
    if kind in ("upsert", "delete") and not known:
        kind = "add"
    if kind == "add":
        whole = [id for id in known if isinstance(id, int)]
        first = max(whole, default=-1) + 1 + rng.choice((0, 0, 5))
        return {"kind": kind, "ids": [first, count], "seed": seed}
    if kind == "add strings":
        return {"kind": kind, "ids": [f"s{step}-{seed}-{i}" for i in range(count)], "seed": seed}
    if kind == "upsert":
        ids = [*rng.sample(known, min(len(known), count, 2000)), f"u{step}-{seed}"]
        return {"kind": kind, "ids": ids, "seed": seed}
    if kind == "delete":
        return {"kind": kind, "ids": rng.sample(known, min(len(known), count, max(1, len(known) // 3)))}
    return {"kind": kind}


def apply(operation: dict[str, Any], content: Content) -> None:
    """What an operation does to the content."""
    kind, ids = operation["kind"], operation.get("ids", [])
    if kind == "delete":
        for id in ids:
            del content.items[id]
    elif kind in ("add", "add strings", "upsert"):
        ids = range(ids[0], ids[0] + ids[1]) if kind == "add" else ids
        for at, (id, code) in enumerate(zip(ids, code_of(operation["seed"], len(ids)))):
            content.items.pop(id, None)  # a replaced item moves to the end
            content.items[id] = (code.tobytes(), {} if kind == "add" else {"at": at, "seed": operation["seed"]})
    elif kind == "index":
        content.indexed = not content.indexed


def perform(operation: dict[str, Any], collection: Collection) -> None:
    """The operation itself."""
    kind, ids = operation["kind"], operation.get("ids", [])
    if kind == "add":
        collection.add(code_of(operation["seed"], ids[1]), range(ids[0], ids[0] + ids[1]))
    elif kind in ("add strings", "upsert"):
        metadata = [{"at": at, "seed": operation["seed"]} for at in range(len(ids))]
        store = collection.add if kind == "add strings" else collection.upsert
        store(code_of(operation["seed"], len(ids)), ids, metadata)
    elif kind == "delete":
        collection.delete(ids)
    elif kind == "compact":
        collection.compact()
    elif "at" in collection.info().indexes:
        collection.drop_index("at")
    else:
        collection.create_index("at")


def write(path: Path, content: Content, seed: int, pipe: int, wanted: str) -> None:
    """The writing process: operations until it is killed."""
    rng = random.Random(seed)
    try:
        collection = Collection.create(path, N_BITS) if not path.exists() else Collection.open(path, mode="w")
        for step in range(100):
            operation = choose(rng, content, step, wanted)
            _send(pipe, {"begin": operation})
            perform(operation, collection)
            _send(pipe, {"done": True})
            apply(operation, content)
        collection.close()
    except BaseException as error:
        _send(pipe, {"failed": repr(error)})
        raise


def _send(pipe: int, message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(pipe, data) :]


def kill_one(
    path: Path, content: Content, rng: random.Random, kind: str
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """One process from fork to kill, mostly within an operation of a kind: what it acknowledged, what was under way."""
    seed = rng.randrange(1 << 30)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            write(path, content, seed, writing, kind)
        finally:
            os._exit(0)
    os.close(writing)
    begins, received = json.dumps({"begin": {"kind": kind}})[:-2].encode(), b""
    wanted = rng.choice((0, 1, 1, 1, 2, 2, 4))
    with os.fdopen(reading, "rb", buffering=0) as stream:
        while received.count(begins) < wanted and (part := stream.read(1 << 16)):
            received += part
        time.sleep(rng.choice((0.0, rng.uniform(0, 0.002), rng.uniform(0, 0.02), rng.uniform(0, 0.1))))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        while part := stream.read(1 << 16):
            received += part
    messages = [json.loads(line) for line in received.split(b"\n")[:-1]]
    for message in messages:
        if "failed" in message:
            raise AssertionError(f"the writer failed: {message['failed']}")
    begun = [message["begin"] for message in messages if "begin" in message]
    done = sum("done" in message for message in messages)
    return begun[:done], begun[done] if len(begun) > done else None


Held = tuple[list[tuple[Any, bytes, dict[str, Any]]], bool, list[Any]]
QUERY = code_of(0, 1)[0]


def held(path: Path) -> Held:
    """Everything that the collection holds, verified, in order; whether it has an index; what a filter finds."""
    with Collection.open(path) as collection:
        collection.verify()
        ids = list(collection)
        items = collection.get(ids)
        assert len(collection) == len(ids)
        if ids:
            hits = collection.search(items.codes[-1:], k=1)
            assert hits.distances[0, 0] == 0
        indexes = collection.info().indexes
        assert indexes in ((), ("at",)), indexes
        found = collection.search(QUERY, k=20, where={"at": {"lt": 5}}).ids[0].tolist()
        return list(zip(ids, (code.tobytes() for code in items.codes), items.metadata)), bool(indexes), found


def listed(content: Content) -> Held:
    """The content as ``held`` gives it."""
    items = [(id, code, metadata) for id, (code, metadata) in content.items.items()]
    few = [(id, code) for id, code, metadata in items if metadata.get("at", 5) < 5]
    few.sort(key=lambda item: int(np.bitwise_count(np.frombuffer(item[1], np.uint8) ^ QUERY).sum()))
    found = [id for id, _ in few[:20]]
    return items, content.indexed, found + [None] * (20 - len(found))


def run(kills: int, seed: int, out: Path) -> Counter[str]:
    """Kill ``kills`` writers; how many died within each kind of operation.

    Raises:
        AssertionError: something acknowledged was lost, or something else was there.
    """
    rng = random.Random(seed)
    path, content, counts = out / "c0", Content(), Counter[str](dict.fromkeys(KINDS, 0))
    for kill in range(kills):
        if kill % ROUNDS_OF_A_COLLECTION == 0:
            shutil.rmtree(path, ignore_errors=True)
            path, content = out / f"c{kill}", Content()
        acknowledged, under_way = kill_one(path, content, rng, min(KINDS, key=counts.__getitem__))
        for operation in acknowledged:
            apply(operation, content)
        counts[under_way["kind"] if under_way else "between"] += 1
        if not path.exists():
            assert not acknowledged, f"kill {kill}: the collection is gone"
            continue
        found = held(path)
        if found != listed(content) and under_way is not None:
            apply(under_way, content)  # committed, and killed before it could say so
            counts["committed, not yet acknowledged"] += 1
        assert found == listed(content), (
            f"kill {kill} (seed {seed}): {len(found[0])} items, not {len(content.items)}, "
            f"index {found[1]}, not {content.indexed}: {under_way}"
        )
        if rng.random() < 0.2:
            with Collection.open(path, mode="w"):  # the next writer cleans up
                names = sorted(file.name for file in path.iterdir())
                assert sum(name.startswith("codes-") for name in names) == 1, names
            assert held(path) == listed(content)
    assert kills < 30 or all(counts[kind] for kind in KINDS), f"no kill within some kind of operation: {counts}"
    return counts


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where the collections are made; a temporary directory without")
    args = parser.parse_args()
    os.environ["HASHRET_BACKEND"] = "numpy"  # threads of a compiled back end would not survive the forks
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=args.out))
    try:
        counts = run(args.kills, args.seed, place)
    except (AssertionError, StorageError) as error:
        sys.exit(f"{error!r}\nkept in {place}")
    shutil.rmtree(place)
    sys.stdout.write(f"{args.kills} kills, 0 failures; killed during: {dict(sorted(counts.items()))}\n")


if __name__ == "__main__":
    main()
