"""An interrupt, as by Ctrl-C, at any place of a call: all of the change or nothing, and the next call works."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from hashret.collection import Collection, _database, _session

FILES = (_session.__file__, _database.__file__)


def interrupted(work: Callable[[], object], at: int) -> bool:
    """Do ``work`` and interrupt it at the call of this number, after which Python looks for signals; whether it was."""
    calls = 0

    def look(frame: FrameType, event: str, _: Any) -> None:
        nonlocal calls
        if frame.f_code.co_filename in FILES and event in ("call", "c_return"):
            calls += 1
            if calls == at:
                raise KeyboardInterrupt

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.setprofile(before)
    return False


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
