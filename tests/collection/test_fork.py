"""Collections in programs that fork: a child has no part in what its parent has open, and does it no harm."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from hashret.collection import Collection
from hashret.errors import StorageError

SECONDS = 60  # no child needs as long, but one that hangs


def in_a_child(work):
    """Run ``work`` in a forked child; its exit status, 0 where it returned None."""
    child = os.fork()
    if not child:
        signal.alarm(SECONDS)
        status = 1
        try:
            status = work() or 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_next_writer_does_not_wait_for_a_child_of_the_last(path, codes):
    collection = Collection.create(path, n_bits=16)
    collection.add(codes(3))
    wait, go = os.pipe()
    child = os.fork()
    if not child:
        os.close(go)
        os.read(wait, 1)  # ends when the parent closes the other end
        os._exit(0)
    try:
        collection.close()
        with Collection.open(path, mode="w") as next_one:
            next_one.add(codes(2))
            assert len(next_one) == 5
    finally:
        os.close(go)
        os.waitpid(child, 0)


def test_a_child_leaves_the_log_of_its_parents_collection(path, codes):
    """The whole of it in a program of its own: the child ends as programs do, and lets go of all objects."""
    program = """
import os, subprocess, sys
import numpy as np
from hashret.collection import Collection

path, codes = sys.argv[1], np.zeros((10, 2), np.uint8)
collection = Collection.create(path, n_bits=16)
collection.add(codes)
wait, go = os.pipe()
child = os.fork()
if not child:
    os.close(go)
    collection.close()
    os.read(wait, 1)
    sys.exit(0)
os.close(wait)
collection.close()
killed = "import os, sys, numpy as np; from hashret.collection import Collection; "
killed += "Collection.open(sys.argv[1], mode='w').add(np.zeros((100, 2), np.uint8)); os.kill(os.getpid(), 9)"
subprocess.run([sys.executable, "-c", killed, path])
os.close(go)
assert os.waitpid(child, 0)[1] == 0
print(len(Collection.open(path, mode="w")))
"""
    found = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=SECONDS)
    assert found.stdout == "110\n", found.stderr


def test_a_child_is_told_while_another_thread_of_its_parent_writes(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        stop = threading.Event()

        def write():
            while not stop.is_set():
                collection.add(codes(200))

        def look():
            for use in (lambda: len(collection), lambda: collection.add(codes(1)), collection.refresh):
                with pytest.raises(StorageError, match="and this is its child"):
                    use()
            collection.close()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert [in_a_child(look) for _ in range(5)] == [0] * 5
        finally:
            stop.set()
            writer.join()
        assert collection.verify().rows == len(collection)


def test_what_was_open_cannot_be_opened_in_a_child_and_what_was_closed_can(path, codes, tmp_path):
    """SQLite would take its parent's locks for its own, and write over what others have written meanwhile."""
    with Collection.create(tmp_path / "closed", n_bits=16) as closed:
        closed.add(codes(4))

    def look():
        for mode in ("r", "w"):
            with pytest.raises(StorageError, match=r"was open when this process was forked|is open for writing"):
                Collection.open(path, mode=mode)
        with Collection.open(tmp_path / "closed", mode="w") as again:
            again.add(codes(1))
            assert len(again.snapshot()) == len(again)

    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(3))
        assert in_a_child(look) == 0
        collection.close()
        assert in_a_child(lambda: None if len(Collection.open(path, mode="w")) == 3 else 1) == 0
    with Collection.open(path) as reader:
        assert in_a_child(look) == 0
        assert reader.verify().rows == 3
