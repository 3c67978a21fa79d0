"""Commits whose fsync fails, or that are killed in it: SQLite has them whole in its log, and would find them again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hashret.collection import Collection

FAULT = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* While the file $FAULT is there, a sync of a $FAULT_OF fails; it "once" goes away by itself, and "kill" is a kill. */
static int failed(int fd) {
    char link[64], path[4096];
    const char *flag = getenv("FAULT"), *how = getenv("FAULT_HOW"), *of = getenv("FAULT_OF");
    ssize_t tail = strlen(of);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < tail || memcmp(path + n - tail, of, tail) || access(flag, F_OK)) return 0;
    if (!strcmp(how, "once")) unlink(flag);
    if (!strcmp(how, "kill")) kill(getpid(), SIGKILL);
    errno = EIO;
    return 1;
}
int fdatasync(int fd) { return failed(fd) ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd); }
int fsync(int fd) { return failed(fd) ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
"""

WRITER = """
import os, signal, sys
from pathlib import Path
import numpy as np
from hashret.collection import Collection
from hashret.errors import StorageError

path, work, then = sys.argv[1:]
flag, codes = Path(os.environ["FAULT"]), np.ones((5, 2), np.uint8)
collection = Collection.open(path, mode="w")
collection.upsert(codes[:1], ["last"])  # begins the log, whose header has a sync of its own
before = list(collection)
fixed = collection.snapshot()  # a reader that stays must not be in the way
change = {
    "add": lambda: collection.add(codes),
    "upsert": lambda: collection.upsert(codes, range(5), [{"n": 1}] * 5),
    "delete": lambda: collection.delete(before[:50]),
    "compact": collection.compact,
}[work]

def fails():
    try:
        change()
    except StorageError as error:
        print(error, flush=True)
    else:
        sys.exit("it did not fail")
    assert list(collection) == list(fixed) == before
    collection.verify()

flag.touch()
fails()
if os.environ["FAULT_HOW"] == "always":
    fails()
if then == "mended":
    flag.unlink(missing_ok=True)
    collection.add(codes[:1], ["mended"])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def fault(tmp_path_factory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("making a sync fail needs Linux and a C compiler")
    place = tmp_path_factory.mktemp("fault")
    (place / "fault.c").write_text(FAULT)
    command = [compiler, "-shared", "-fPIC", "-o", "fault.so", "fault.c", "-ldl"]
    subprocess.run(command, cwd=place, check=True, capture_output=True)
    return place / "fault.so"


@pytest.fixture
def filled(path: Path, codes) -> Path:
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100))
        collection.delete(3)
        collection.add(np.ones((1, 2), np.uint8), ["last"])
    return path


def run(command: list[str], fault: Path, flag: Path, *, of: str, how: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LD_PRELOAD": str(fault), "FAULT": str(flag), "FAULT_OF": of, "FAULT_HOW": how}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def change(path: Path, fault: Path, work: str, *, how: str, then: str = "") -> list[str]:
    """What a writer said before it was killed."""
    flag = fault.with_name(f"flag-{path.parent.name}")
    command = [sys.executable, "-c", WRITER, str(path), work, then]
    done = run(command, fault, flag, of="-wal", how=how)
    flag.unlink(missing_ok=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.splitlines()


def content(path: Path, mode: str = "r") -> tuple[list[object], bytes]:
    with Collection.open(path, mode=mode) as collection:
        assert collection.verify().count == len(collection)
        ids = list(collection)
        return ids, collection.codes(ids).tobytes()


WORK = pytest.mark.parametrize("work", ["add", "upsert", "delete", "compact"])


@WORK
def test_a_commit_that_failed_does_not_come_back(filled, fault, work):
    before = content(filled)
    (said,) = change(filled, fault, work, how="once")
    assert "disk I/O error" in said and "what was stored is unchanged" in said
    assert (filled / "codes-000001.bin").stat().st_size == 64 + 2 * 102 and not (filled / "codes-000002.bin").exists()
    assert content(filled) == content(filled, "w") == before


@WORK
def test_where_the_disk_stays_broken_no_change_is_taken_and_no_code_is_cut_off(filled, fault, work):
    said = change(filled, fault, work, how="always")
    assert len(said) == 2 and all("nothing more is written until the disk works" in line for line in said)
    content(filled)  # as before, or with the change; not half of it
    with Collection.open(filled, mode="w") as collection:
        collection.verify()
        collection.add(np.zeros((1, 2), np.uint8), ["new"])
    assert content(filled)[0][-1] == "new"


@WORK
def test_a_disk_that_works_again_is_written_again(filled, fault, work):
    ids, _ = content(filled)
    assert len(change(filled, fault, work, how="always", then="mended")) == 2
    assert content(filled)[0] == [*ids, "mended"]


@WORK
def test_the_next_writer_beside_a_reader_leaves_no_commit_of_a_killed_one(filled, fault, work, tmp_path):
    with Collection.open(filled) as reader:  # as long as it is there, SQLite does not look for the commit
        before = content(filled)
        assert change(filled, fault, work, how="kill") == []
        with Collection.open(filled, mode="w") as collection:
            assert list(collection) == list(reader) == before[0]
            shutil.copytree(filled, tmp_path / "as after a crash", ignore=shutil.ignore_patterns("*-shm"))
            collection.add(np.zeros((1, 2), np.uint8), ["new"])
    found = content(tmp_path / "as after a crash")
    assert found == before or work == "delete"
    assert content(filled)[0] == [*before[0], "new"]


def test_a_collection_without_a_log_is_not_made(path, fault):
    (flag := fault.with_name("flag")).touch()
    script = f"from hashret.collection import Collection; Collection.create({str(path)!r})"
    said = run([sys.executable, "-c", script], fault, flag, of="-journal", how="once").stderr
    assert not flag.exists() and "cannot be written (disk I/O error)" in said
    assert list(path.parent.iterdir()) == []
