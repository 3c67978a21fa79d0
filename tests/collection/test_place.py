"""A collection's directory under its user's hands: moved, replaced, copied, and a program that changes directory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hashret.collection import Collection
from hashret.errors import StorageError


def compacted(path, codes, count):
    """A collection in its second generation, closed."""
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(count + 1), ids=range(count + 1))
        collection.delete(count)
        collection.compact()


def test_a_writer_leaves_the_collection_alone_that_came_in_the_place_of_its_own(path, codes, tmp_path):
    with Collection.create(path, n_bits=16) as old:
        old.add(codes(9), ids=range(9))
        old.delete(8)
        path.rename(tmp_path / "moved")
        compacted(path, codes, 99)
        for work in (
            lambda: old.add(codes(1), ids=[3]),
            lambda: old.delete(3),
            old.compact,
            lambda: old.create_index("year"),
        ):
            with pytest.raises(StorageError, match="moved or replaced"):
                work()
        with pytest.raises(StorageError, match="another collection"):
            old.snapshot()
    with Collection.open(path) as new:
        assert new.verify().rows == len(new) == 99
    with Collection.open(tmp_path / "moved", mode="w") as moved:
        moved.compact()
        assert len(moved) == 8 and moved.verify().rows == 8


def test_a_writer_whose_place_was_taken_closes_without_the_log_of_the_other(path, codes, tmp_path):
    old = Collection.create(path, n_bits=16)
    old.add(codes(9))
    path.rename(tmp_path / "moved")
    with Collection.create(path, n_bits=16) as new:
        new.add(codes(5))
        old.close()
        shutil.copytree(path, tmp_path / "as after a crash", ignore=shutil.ignore_patterns("*-shm"))
    with Collection.open(tmp_path / "as after a crash", mode="w") as found:
        assert found.verify().rows == 5


def test_a_reader_is_told_of_the_collection_that_came_in_the_place_of_its_own(path, codes):
    compacted(path, codes, 9)
    reader = Collection.open(path)
    uses = (lambda: len(reader), lambda: list(reader), lambda: reader.search(codes(1)), reader.refresh, reader.snapshot)
    shutil.rmtree(path)
    for use in uses:
        with pytest.raises(StorageError, match="there is no collection at"):
            use()
    compacted(path, codes, 99)
    for use in uses:
        with pytest.raises(StorageError, match="another collection since it was opened; close it and open it again"):
            use()
    reader.close()
    with Collection.open(path) as again:
        assert len(again) == 99


def test_a_reader_goes_on_where_its_collection_comes_back_from_a_backup(path, codes, tmp_path):
    compacted(path, codes, 9)
    shutil.copytree(path, tmp_path / "backup")
    with Collection.open(path, mode="w") as writer:
        writer.add(codes(3))
        with Collection.open(path) as reader, reader.snapshot() as fixed:
            assert len(reader) == 12
            shutil.rmtree(path)
            shutil.copytree(tmp_path / "backup", path)
            assert len(reader) == len(list(reader)) == reader.verify().rows == 9
            assert len(fixed) == 12 and fixed.refresh() and len(fixed) == 9
        with pytest.raises(StorageError, match="moved or replaced"):
            len(writer)


def test_a_writer_leaves_a_catalogue_alone_that_came_back_beside_its_lock(path, codes, tmp_path):
    """As rsync restores: each file by itself, and not the lock, which is equal."""
    compacted(path, codes, 9)
    shutil.copytree(path, tmp_path / "backup")
    with Collection.open(path, mode="w") as writer:
        writer.add(codes(3))
        writer.delete(0)
        for name in ("catalogue.sqlite", "codes-000002.bin"):
            shutil.copy(tmp_path / "backup" / name, tmp_path / "new").rename(path / name)
        for tail in ("-wal", "-shm"):
            (path / f"catalogue.sqlite{tail}").unlink()
        before = {file.name: file.read_bytes() for file in path.iterdir()}
        for work in (lambda: writer.add(codes(1)), lambda: writer.delete(1), writer.compact, writer.refresh):
            with pytest.raises(StorageError, match="moved or replaced"):
                work()
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    with Collection.open(path) as found:
        assert len(found) == found.verify().rows == 9


def test_a_link_to_an_empty_directory_is_taken(path, codes, tmp_path):
    (tmp_path / "disk").mkdir()
    path.symlink_to("disk")
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(3))
    assert path.is_symlink() and (tmp_path / "disk" / "catalogue.sqlite").is_file()
    with Collection.open(tmp_path / "disk") as found:
        assert len(found) == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["disk", path.name]


def test_a_removed_collection_is_not_written(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        shutil.rmtree(path)
        with pytest.raises(StorageError, match="moved or replaced"):
            collection.add(codes(1))


def test_a_program_may_change_its_directory(tmp_path, codes, monkeypatch):
    for name, count in (("here", 9), ("there", 99)):
        (tmp_path / name).mkdir()
        compacted(tmp_path / name / "photos", codes, count)
    monkeypatch.chdir(tmp_path / "here")
    with Collection.open("photos", mode="w") as collection:
        monkeypatch.chdir(tmp_path / "there")
        assert list(collection) == list(range(9))
        assert len(collection.snapshot()) == 9
        collection.delete(0)
        collection.compact()
        assert collection.info().catalogue_bytes > 0
        assert collection.verify().rows == 8
    with Collection.open("photos") as other:
        assert other.verify().rows == 99


def test_copies_of_the_codes_that_a_user_keeps_stay(path, codes, tmp_path):
    compacted(path, codes, 9)
    compacted(tmp_path / "other", codes, 5)
    kept = {"codes-000002.backup.bin": path, "codes-backup.bin": path, "codes-000007.bin": tmp_path / "other"}
    for name, origin in kept.items():
        shutil.copy(origin / "codes-000002.bin", path / name)
    (path / "codes-000008.bin").mkdir()
    for name, content in (("codes-000001.bin", None), ("codes-000003.bin", b"half a header")):
        if content is None:
            shutil.copy(path / "codes-000002.bin", path / name)  # what a killed compaction leaves
        else:
            (path / name).write_bytes(content)
    with Collection.open(path, mode="w") as collection:
        collection.delete(0)
        collection.compact()
        assert collection.verify().rows == 8
    assert {file.name for file in path.glob("codes-*")} == {*kept, "codes-000003.bin", "codes-000008.bin"}


def test_a_codes_file_in_the_way_of_a_compaction_is_not_overwritten(path, codes, tmp_path):
    compacted(path, codes, 9)
    compacted(tmp_path / "other", codes, 5)
    with Collection.open(path, mode="w") as collection:
        shutil.copy(tmp_path / "other" / "codes-000002.bin", path / "codes-000003.bin")
        before = (path / "codes-000003.bin").read_bytes()
        collection.delete(0)
        with pytest.raises(StorageError, match=r"codes-000003\.bin is there already .* move it away"):
            collection.compact()
        assert (path / "codes-000003.bin").read_bytes() == before
        assert collection.verify().rows == 9 and len(collection) == 8
        np.testing.assert_array_equal(collection.codes([5]), codes(10)[5:6])


def elsewhere(path, work):
    """What another process does with a collection, and closes."""
    begin = "import sys; from hashret.collection import Collection"
    script = f"{begin}\nwith Collection.open(sys.argv[1], mode='w') as c: {work}"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)


def test_a_salvage_leaves_readers_of_the_same_process_their_locks(path, codes, tmp_path):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100), [f"a{i}" for i in range(100)])
    with Collection.open(path) as reader, reader.snapshot() as fixed:
        assert Collection.salvage(path, tmp_path / "out").count == 100
        elsewhere(path, "c.add(c.codes('a1'), ['b'])")
        assert len(reader) == 101 and len(fixed) == 100
        elsewhere(path, "c.delete([f'a{i}' for i in range(50)])")
        assert len(reader) == 51 and "b" in reader and "a1" not in reader and "a1" in fixed
        reader.verify()
        fixed.verify()


def test_a_copy_made_by_the_same_process_ends_its_locks_and_that_is_said(path, codes, tmp_path):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100), [f"a{i}" for i in range(100)])
    reader = Collection.open(path)
    fixed = reader.snapshot()
    shutil.copytree(path, tmp_path / "copy")
    with Collection.open(tmp_path / "copy") as copy:
        assert len(copy) == len(reader) == 100
    elsewhere(path, "c.delete([f'a{i}' for i in range(50)])")
    for use in (lambda: len(reader), lambda: "a1" in fixed, reader.refresh, lambda: Collection.open(path)):
        with pytest.raises(StorageError, match="ended its locks"):
            use()
    reader.close()
    fixed.close()
    with Collection.open(path) as reader:
        assert len(reader) == 50
        reader.verify()


def test_threads_open_and_close_beside_a_writer(path, codes):
    """The last one to close removes the shared file, which is no reason for an alarm to who opens or reads."""
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100))

    def read():
        for _ in range(60):
            with Collection.open(path) as reader, reader.snapshot() as fixed:
                assert len(reader) >= len(fixed) >= 100

    def write():
        for _ in range(60):
            with Collection.open(path, mode="w") as writer:
                writer.add(codes(1))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda work: work(), [read, read, read, write]))
    finally:
        sys.setswitchinterval(before)
    with Collection.open(path) as reader:
        assert len(reader) == 160


def test_what_a_salvage_keeps_open_is_closed_with_the_collection(path, codes, tmp_path):
    def count():
        return len(list(Path("/proc/self/fd").iterdir()))

    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100))
    before = count()
    reader = Collection.open(path)
    for number in range(3):
        Collection.salvage(path, tmp_path / str(number))
    ids = iter(reader)
    assert next(ids) == 0
    reader.close()
    assert count() > before  # what goes on has a state of its own
    assert list(ids) == list(range(1, 100))
    assert count() == before
