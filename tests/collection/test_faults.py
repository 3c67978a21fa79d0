"""Full disks, read-only disks and limits: a sentence, the collection as before, and usable after."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hashret.collection import Collection, _codes_file
from hashret.errors import InputError, StorageError


def _mount(*arguments: str) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    if subprocess.run(["mount", *arguments], capture_output=True).returncode:
        pytest.skip("this place does not let root mount")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory with 2 MB of space."""
    place = tmp_path / "disk"
    place.mkdir()
    _mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _content(collection: Collection) -> tuple[list[object], bytes, list[dict[str, object]]]:
    ids = list(collection)
    items = collection.get(ids)
    return ids, items.codes.tobytes(), items.metadata


def _fill(place: Path, leave: int) -> Path:
    """Take all space but ``leave`` bytes."""
    free = shutil.disk_usage(place).free
    ballast = place / "ballast"
    ballast.write_bytes(b"x" * max(0, free - leave))
    return ballast


ADD_CODES: Callable[[Collection], object] = lambda c: c.add(np.zeros((200_000, 2), np.uint8))  # noqa: E731
ADD_ITEMS: Callable[[Collection], object] = lambda c: c.add(  # noqa: E731
    np.zeros((5000, 2), np.uint8), [f"more-{i}" for i in range(5000)], [{"text": "x" * 100}] * 5000
)
UPSERT: Callable[[Collection], object] = lambda c: c.upsert(  # noqa: E731
    np.zeros((1000, 2), np.uint8), range(1000), [{"text": "x" * 500}] * 1000
)
DELETE: Callable[[Collection], object] = lambda c: c.delete([*range(50, 1000, 3), *(f"s{i}" for i in range(4, 1500))])  # noqa: E731
COMPACT: Callable[[Collection], object] = lambda c: c.compact()  # noqa: E731
INDEX: Callable[[Collection], object] = lambda c: c.create_index("text")  # noqa: E731


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of more items than the small disk has room for, on a larger one."""
    place = tmp_path_factory.mktemp("exported")
    with Collection.create(place / "source", n_bits=16) as source:
        source.add(np.zeros((20_000, 2), np.uint8), [f"new-{i}" for i in range(20_000)], [{"text": "x" * 100}] * 20_000)
        source.export_to(place / "items.npz")
    return place / "items.npz"


@pytest.mark.parametrize(
    "work",
    [ADD_CODES, ADD_ITEMS, UPSERT, DELETE, COMPACT, INDEX, "import"],
    ids=["codes", "items", "upsert", "delete", "compact", "index", "import"],
)
@pytest.mark.parametrize("leave", [0, 50_000])
def test_a_full_disk(small_disk, codes, exported, work, leave):
    path = small_disk / "c"
    if work == "import":
        work = lambda collection: collection.import_from(exported)  # noqa: E731
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(1000))
        collection.add(
            codes(1500, seed=1), [f"s{i}" for i in range(1500)], [{"text": f"{i}" * 20} for i in range(1500)]
        )
        collection.delete([*range(50), "s3"])
        before = _content(collection)
        ballast = _fill(small_disk, leave)
        try:
            work(collection)
        except StorageError as error:
            assert "cannot be" in str(error)
            assert _content(collection) == before
            collection.verify()
        else:
            assert leave or work is COMPACT or work is INDEX
        ballast.unlink()
        collection.upsert(codes(10, seed=2), range(100, 110))
        assert len(collection) >= 2449 or work is DELETE
        collection.compact()
        collection.verify()
        after = _content(collection)
    with Collection.open(path) as reader:
        assert _content(reader) == after


def test_no_room_to_open_or_create(small_disk, codes):
    path = small_disk / "c"
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(1000))
    _fill(small_disk, 0)
    with Collection.open(path) as reader:  # reading needs no room
        assert len(reader) == 1000 and reader.search(codes(1000)[:1], k=1).distances[0, 0] == 0
    with pytest.raises(StorageError, match="cannot be written"):
        Collection.create(small_disk / "d", n_bits=16)
    assert sorted(file.name for file in small_disk.iterdir()) == ["ballast", "c"]


def test_a_file_size_limit(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(1000))
        before = _content(collection)
    script = f"""
import resource, numpy as np
from hashret.collection import Collection
from hashret.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
collection = Collection.open({str(path)!r}, mode="w")
try:
    collection.add(np.zeros((300_000, 2), np.uint8))
except StorageError as error:
    print(error)
assert len(collection) == 1000
collection.verify()
collection.add(np.zeros((1, 2), np.uint8))
collection.close()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cannot be written (File too large); nothing was changed" in done.stdout
    with Collection.open(path) as reader:
        assert len(reader) == 1001 and _content(reader)[0][:1000] == before[0]


def test_too_many_open_files(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        opened, said = [], ""
        for room in range(6):
            os.close(free := os.dup(0))
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + room, hard))
            try:
                opened.append(collection.snapshot())
            except StorageError as error:
                said += str(error)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert opened and "where too much is open close collections" in said and "a writer that did" not in said
        for snapshot in opened:
            assert len(snapshot) == 100
            snapshot.close()


def test_a_read_only_disk(path, codes, tmp_path):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100), [f"s{i}" for i in range(100)], [{"n": i} for i in range(100)])
    place = tmp_path / "fixed"
    place.mkdir()
    _mount("--bind", str(path.parent), str(place))
    try:
        _mount("-o", "remount,ro,bind", str(place))
        with Collection.open(place / path.name) as reader:
            assert len(reader) == 100 and reader.search(codes(1), k=1, where={"n": 7}).ids[0, 0] == "s7"
            reader.verify()
            with reader.snapshot() as fixed:
                assert len(fixed) == 100
            fixed = reader.snapshot()  # of the same files, which are written from another place now
            for ids, count in ((["s0"], 99), (["s1"], 98)):  # changes between two looks, all of them closed
                with Collection.open(path, mode="w") as writer:
                    writer.delete(ids)
                assert len(reader) == len(list(reader)) == count and ids[0] not in reader
                assert ids[0] not in reader.search(codes(1), k=100).ids[0]
            for use in (len, lambda fixed: next(iter(fixed))):
                with pytest.raises(StorageError, match="was changed while it was read"):
                    use(fixed)
            assert fixed.refresh() and len(fixed) == 98
            fixed.close()
            with Collection.open(path, mode="w") as writer:
                writer.add(codes(1), ["late"])
                assert "late" in reader
        with pytest.raises(StorageError, match="mode='r'"):
            Collection.open(place / path.name, mode="w")
        with pytest.raises(StorageError, match="cannot be written"):
            Collection.create(place / "new", n_bits=16)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_directory_without_rights(path, codes):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100))
    path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="mode='r'"):
            Collection.open(path, mode="w")
        with Collection.open(path) as reader:
            assert len(reader) == 100
    finally:
        path.chmod(0o700)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"], ids=["too long", "NUL"])
def test_paths_that_cannot_be_are_refused_by_a_sentence(tmp_path, name):
    for work in (Collection.open, lambda place: Collection.open(place, mode="w"), Collection.create):
        with pytest.raises(StorageError, match=r"cannot be|there is no collection"):
            work(tmp_path / name)
    with pytest.raises(StorageError, match=r"cannot be|there is no collection"):
        Collection.salvage(tmp_path / name, tmp_path / "out")
    with Collection.create(tmp_path / "good") as collection, pytest.raises(InputError, match=r"cannot be|no file"):
        collection.import_from(tmp_path / (name + ".npz"))


def test_damaged_headers_of_arrays_are_refused_by_a_sentence_alone(path, codes, tmp_path):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(9))
        for suffix in (".npz", ".npy"):
            collection.export_to(tmp_path / f"items{suffix}")
        good = (tmp_path / "items.npy").read_bytes()
        with zipfile.ZipFile(tmp_path / "items.npz") as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        for header in (good.replace(b"\x93NUMPY", b"\x93NUMPX"), good.replace(b"(9, 2)", b"(9L,2)")):  # of Python 2
            with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
                for name, content in {**members, "codes.npy": header}.items():
                    archive.writestr(name, content)
            (tmp_path / "bad.npy").write_bytes(header)
            for name in ("bad.npz", "bad.npy"):
                with Collection.create(tmp_path / "copy", n_bits=16) as copy:
                    try:
                        assert copy.import_from(tmp_path / name) == 9 and b"9L" in header
                    except InputError as error:
                        assert "cannot be read" in str(error) and len(copy) == 0
                shutil.rmtree(tmp_path / "copy")


def test_a_place_that_this_user_may_not_see_is_refused_by_a_sentence(path, codes, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(1))
    tmp_path.chmod(0o700)
    child = os.fork()
    if not child:
        done = 1
        try:
            os.setuid(65534)
            for work in (
                lambda: Collection.open(path),
                lambda: Collection.open(path, mode="w"),
                lambda: Collection.create(tmp_path / "new"),
                lambda: Collection.salvage(path, tmp_path / "out"),
            ):
                with pytest.raises(StorageError, match=r"cannot be (opened|written)"):
                    work()
            done = 0
        finally:
            os._exit(done)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_codes_are_on_the_disk_before_the_catalogue_commits(path, codes, monkeypatch):
    """A kill leaves what the system holds in memory, so that only the order of calls shows what a power cut would."""
    events = []
    sync, sync_directory = _codes_file._sync, _codes_file.sync_directory
    monkeypatch.setattr(_codes_file, "_sync", lambda file: events.append("codes") or sync(file))
    monkeypatch.setattr(_codes_file, "sync_directory", lambda place: events.append("name") or sync_directory(place))
    with Collection.create(path, n_bits=16) as collection:
        database = collection._session.catalogue._connection
        assert database.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL: a commit is an fsync of its own
        database.set_trace_callback(lambda sql: events.append(sql) if sql in ("COMMIT", "ROLLBACK") else None)
        for work, wanted in (
            (lambda: collection.add(codes(10)), ["codes", "COMMIT"]),
            (lambda: collection.upsert(codes(5), range(5)), ["codes", "COMMIT"]),
            (lambda: collection.delete([7]), ["COMMIT"]),
            (collection.compact, ["name", "codes", "COMMIT"]),
        ):
            events.clear()
            work()
            assert [event for event in events if event != "ROLLBACK"] == wanted
