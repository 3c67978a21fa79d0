"""An interrupt, as by Ctrl-C, at any place of a call: all of the change or nothing, and the next call works."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import pytest

from hashret.collection import Collection, _database, _session
from hashret.errors import StorageError

FILES = (_session.__file__, _database.__file__)


def stop() -> None:
    raise KeyboardInterrupt


def interrupted(work: Callable[[], object], at: int, handler: Callable[[], object] = stop) -> bool:
    """Do ``work`` with a signal at the call of this number, where Python looks for them; whether it came to that."""
    calls = 0

    def look(frame: FrameType, event: str, _: Any) -> None:
        nonlocal calls
        if frame.f_code.co_filename in FILES and event in ("call", "c_return"):
            calls += 1
            if calls == at:
                sys.setprofile(before)
                handler()

    before = sys.getprofile()
    sys.setprofile(look)
    with suppress(KeyboardInterrupt):
        try:
            work()
        finally:
            sys.setprofile(before)
    return calls >= at


@pytest.mark.parametrize("kind", ["add", "search", "refresh"])
def test_the_next_call_works_whatever_was_interrupted(path, codes, kind):
    with Collection.create(path, n_bits=16) as collection, Collection.open(path) as reader:
        at = 0
        while True:
            at += 1
            before, ids = list(collection), [f"a{at}", f"b{at}"]
            work = {
                "add": partial(collection.add, codes(2), ids),
                "search": lambda: reader.search(codes(1), k=1),
                "refresh": reader.refresh,
            }[kind]
            if not interrupted(work, at):
                break
            new = list(collection)[len(before) :]
            assert list(collection)[: len(before)] == before and new in ([], ids)
            collection.add(codes(1), [f"next{at}"])
            assert list(reader)[-1] == f"next{at}" and len(reader) == len(collection)
        assert at > 10
        collection.verify()


@pytest.mark.parametrize("kind", ["search", "add", "refresh"])
@pytest.mark.parametrize("work", ["add", "search", "compact"])
def test_a_handler_within_a_call_leaves_it_whole(path, codes, work, kind):
    with Collection.create(path, n_bits=16) as collection, Collection.open(path) as reader:
        refused = []

        def handler() -> None:
            try:
                {"search": lambda: collection.search(codes(1)), "add": added, "refresh": collection.refresh}[kind]()
            except StorageError as error:
                refused.append(str(error))

        def added() -> None:
            expected.extend(collection.add(codes(1)))

        at, expected = 1, ["first", "second"]
        collection.add(codes(2), expected)
        calls = {
            "add": lambda: collection.add(codes(2), [f"a{at}", f"b{at}"]),
            "search": lambda: collection.search(codes(1), k=2),
            "compact": collection.compact,
        }
        while interrupted(calls[work], at, handler):
            if work == "compact":
                collection.upsert(codes(1), ["second"])
            expected += [f"a{at}", f"b{at}"] if work == "add" else []
            assert set(reader) == set(expected)
            at += 1
        assert at > 10 and bool(refused) == (kind != "search")
        assert all("is being read or changed, and nothing was done" in said for said in refused)
        collection.verify()


@pytest.mark.parametrize("stops", [False, True])
def test_a_handler_that_closes_lets_the_call_end_first(path, codes, stops):
    Collection.create(path, n_bits=16).close()
    at, done, before = 0, True, []
    while done:
        at += 1
        collection = Collection.open(path, mode="w")

        def handler(closed: Collection = collection) -> None:
            closed.close()
            if stops:
                stop()

        with suppress(StorageError):
            if not (done := interrupted(partial(collection.add, codes(2), [f"a{at}", f"b{at}"]), at, handler)):
                collection.close()
        with Collection.open(path, mode="w") as again:
            assert list(again)[: len(before)] == before and list(again)[len(before) :] in ([], [f"a{at}", f"b{at}"])
            before = list(again)
    assert at > 10 and before


def test_what_an_interrupt_kept_from_being_closed_is_closed_by_the_next_call(path):
    at = 0
    while True:
        at += 1
        collection = Collection.create(path) if at == 1 else Collection.open(path, mode="w")
        done = not interrupted(collection.close, at)
        collection.close()
        Collection.open(path, mode="w").close()
        if done:
            break
    assert at > 3
