"""A collection does what its verbs say, and refuses with sentences."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import hashret
from hashret.collection import Collection, _compact, _transfer
from hashret.errors import CodeError, CorruptError, InputError, LockedError, MismatchError, StorageError, UnknownIdError


def test_add_get_search_in_the_order_of_insertion(path, codes, nearest):
    data = codes(300)
    with Collection.create(path, n_bits=16) as collection:
        assert collection.add(data[:2], ids=["a", "b"], metadata=[{"year": 2020}, None]) == ["a", "b"]
        assert list(collection.add(data[2:200])) == list(range(198))
        collection.add(data[200:], ids=[1000 - i for i in range(100)])
        assert len(collection) == 300
        assert "a" in collection and 197 in collection and 198 not in collection and "197" not in collection
        assert list(collection)[:4] == ["a", "b", 0, 1]
        items = collection.get([5, "a"])
        assert items.ids == [5, "a"] and items.metadata == [{}, {"year": 2020}]
        np.testing.assert_array_equal(items.codes, data[[7, 0]])
        np.testing.assert_array_equal(collection.codes("a"), data[:1])
        hits = collection.search(data[:20], k=25)
        for row in range(20):
            ids, distances = nearest(collection, data[row], 25)
            assert hits.ids[row].tolist() == ids and hits.distances[row].tolist() == distances
        assert hits.distances.dtype == np.int32 and hits.ids.dtype == object
        assert hits.metadata[0][hits.ids[0].tolist().index("a")] == {"year": 2020}


def test_a_single_query_and_more_hits_than_items(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        empty = collection.search(codes(1)[0], k=3)
        assert empty.ids.tolist() == [[None] * 3] and empty.distances.tolist() == [[-1] * 3]
        assert empty.metadata == [[None] * 3]
        collection.add(codes(2))
        hits = collection.search(codes(1)[0], k=3)
        assert hits.ids.shape == (1, 3) and hits.ids[0, 2] is None and hits.metadata[0][0] == {}


def test_radius_is_inclusive(path):
    with Collection.create(path, n_bits=8) as collection:
        collection.add(np.array([[0b1], [0b11], [0b111]], np.uint8), ids=["one", "two", "three"])
        hits = collection.search(np.zeros((1, 1), np.uint8), k=3, radius=2)
        assert hits.ids.tolist() == [["one", "two", None]] and hits.distances.tolist() == [[1, 2, -1]]


def test_deleted_items_are_gone_and_their_ids_free(path, codes, nearest):
    data = codes(400)
    with Collection.create(path, n_bits=16) as collection:
        collection.add(data[:300])
        collection.add(data[300:], ids=[f"s{i}" for i in range(100)])
        collection.delete([*range(0, 300, 3), "s5", "s5"])
        assert len(collection) == 299 and 3 not in collection and "s5" not in collection
        ids, distances = nearest(collection, data[3], 10)
        hits = collection.search(data[3], k=10)
        assert hits.ids[0].tolist() == ids and hits.distances[0].tolist() == distances
        collection.add(data[:2], ids=[3, "s5"])
        assert list(collection)[-2:] == [3, "s5"]
        assert collection.add(data[:1]) == range(300, 301)
        collection.verify()


def test_upsert_replaces_code_and_metadata_and_moves_to_the_end(path, codes):
    data = codes(200)
    with Collection.create(path, n_bits=16) as collection:
        collection.add(data[:100], metadata=[{"n": i} for i in range(100)])
        collection.upsert(data[100:103], [7, "new", 200], [{"n": -7}, {}, None])
        assert len(collection) == 102 and list(collection)[-3:] == [7, "new", 200]
        items = collection.get([7, "new"])
        assert items.metadata == [{"n": -7}, {}]
        np.testing.assert_array_equal(items.codes, data[100:102])
        collection.upsert(data[:100], range(100))
        assert collection.get(7).metadata == [{}] and len(collection) == 102
        collection.verify()


def test_unknown_ids_are_listed_and_nothing_is_deleted(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(3), ids=["a", "b", "c"])
        with pytest.raises(UnknownIdError, match=r"'x', 1, 2, 3, 4 and 1 more; nothing was changed"):
            collection.delete(["a", "x", 1, 2, 3, 4, 5])
        assert len(collection) == 3
        with pytest.raises(UnknownIdError, match=r"'x'$"):
            collection.get(["a", "x"])


def test_codes_of_another_width_are_refused(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        with pytest.raises(CodeError, match="16 bits"):
            collection.add(codes(2, n_bits=24))
        with pytest.raises(CodeError, match="queries"):
            collection.search(codes(2, n_bits=24))
        with pytest.raises(InputError, match="k, the number of hits"):
            collection.search(codes(1), k=0)


def test_another_model_is_refused(path):
    with Collection.create(path, n_bits=16, fingerprint="f" * 64, model="model/") as collection:
        collection.check_model("f" * 64)
        with pytest.raises(MismatchError, match="were made by the model ffff"):
            collection.check_model("e" * 64)
        assert (collection.fingerprint, collection.model) == ("f" * 64, "model/")
    with Collection.create(path.with_name("any"), n_bits=16) as collection:
        collection.check_model("anything")


def test_one_writer(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        with pytest.raises(LockedError, match="in this process"):
            Collection.open(path, mode="w")
        script = f"from hashret.collection import Collection; Collection.open({str(path)!r}, mode='w')"
        second = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert f"open for writing in process {os.getpid()}" in second.stderr
        with Collection.open(path) as reader:
            collection.add(codes(3))
            assert len(reader) == 3
            with pytest.raises(StorageError, match="mode='w'"):
                reader.add(codes(1))
    with Collection.open(path, mode="w") as collection:
        assert len(collection) == 3


def test_open_and_create_refuse_with_sentences(path, tmp_path, codes):
    with pytest.raises(StorageError, match=r"make one with hashret index, or Collection\.create"):
        Collection.open(path)
    with pytest.raises(InputError, match="no mode 'a'"):
        Collection.open(path, mode="a")
    with pytest.raises(InputError, match="n_bits"):
        Collection.create(path, n_bits=0)
    assert not path.exists()
    path.mkdir()
    Collection.create(path, n_bits=16).close()  # an empty directory is taken
    with pytest.raises(StorageError, match=r"open it with Collection\.open"):
        Collection.create(path, n_bits=16)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="exists"):
        Collection.create(tmp_path / "file", n_bits=16)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "photos.hashret"]


def test_a_closed_collection_says_so(path, codes):
    collection = Collection.create(path, n_bits=16)
    collection.close()
    collection.close()
    for use in (lambda: len(collection), lambda: collection.add(codes(1)), lambda: collection.snapshot()):
        with pytest.raises(StorageError, match="closed"):
            use()


def test_compaction_keeps_content_order_and_readers(path, codes, nearest):
    data = codes(5000)
    with Collection.create(path, n_bits=16) as collection, Collection.open(path) as reader:
        collection.add(data[:3000])
        collection.add(data[3000:4000], [f"s{i}" for i in range(1000)], [{"n": i % 7} for i in range(1000)])
        collection.add(data[4000:])
        collection.create_index("n")
        fixed = reader.snapshot()
        before = list(reader)
        gone = [*range(0, 2000, 2), *range(2000, 2100), *(f"s{i}" for i in range(0, 1000, 3))]
        collection.delete(gone)
        kept = list(collection)
        content = collection.get(kept)
        collection.compact()
        info = collection.info()
        assert (info.generation, info.dead, info.count, info.indexes) == (2, 0, len(kept), ("n",))
        assert [file.name for file in path.glob("codes-*")] == ["codes-000002.bin"]
        for view in (collection, reader):
            assert list(view) == kept
            again = view.get(kept)
            np.testing.assert_array_equal(again.codes, content.codes)
            assert again.metadata == content.metadata
            ids, distances = nearest(view, data[5], 20, lambda metadata: metadata.get("n") == 3)
            hits = view.search(data[5], k=20, where={"n": 3})
            assert hits.ids[0].tolist() == ids and hits.distances[0].tolist() == distances
        assert list(fixed) == before and len(fixed.search(data[:1], k=5000).ids[0]) == 5000
        fixed.verify()
        assert fixed.refresh() and list(fixed) == kept
        fixed.close()
        collection.verify()
        collection.compact()
        assert collection.info().generation == 2  # nothing to do
        collection.add(data[:10])
        assert len(collection) == len(kept) + 10
        collection.verify()


def test_what_is_read_can_be_interrupted_and_what_is_written_not(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(60_000), metadata=[{"n": i} for i in range(60_000)])
        collection.delete(range(0, 60_000, 2))
        done = threading.Event()

        def interrupt():
            while not done.is_set():
                collection.interrupt()

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            collection.add(codes(20_000), [f"s{i}" for i in range(20_000)], [{"n": i} for i in range(20_000)])
            collection.compact()
            slow = {"or": [{"n": {"not": {"gte": i}}} for i in range(50)]}
            with pytest.raises(StorageError, match="stopped before its end"):
                for _ in range(1000):
                    collection.search(codes(1), k=1, where=slow)
        finally:
            done.set()
            thread.join()
        assert collection.verify().rows == len(collection) == 50_000


def test_an_iteration_over_a_closed_snapshot_says_so(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(70_000))
        snapshot = collection.snapshot()
        ids = iter(snapshot)
        next(ids)
        snapshot.close()
        with pytest.raises(StorageError, match="closed"):
            list(ids)


def test_what_is_read_of_a_snapshot_from_end_to_end_is_one_state(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(140_000))
        with collection.snapshot() as snapshot:
            seen = []
            for id in snapshot:
                seen.append(id)
                if len(seen) % 50_000 == 1:
                    assert not snapshot.refresh()  # there is nothing new, and so no harm
            assert seen == list(range(140_000))
            ids = iter(snapshot)
            next(ids)
            collection.delete(range(60_000))
            collection.compact()
            assert snapshot.refresh()
            with pytest.raises(StorageError, match="was refreshed while it was read"):
                list(ids)
            assert list(snapshot) == list(range(60_000, 140_000))


def test_a_snapshot_whose_refresh_failed_does_not_pass_for_an_empty_collection(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100))
        with collection.snapshot() as snapshot:
            collection.delete(range(50))
            collection.compact()
            held = next(path.glob("codes-*.bin"))
            away = held.rename(path / "away")
            with pytest.raises(CorruptError, match="restore it from a backup"):
                snapshot.refresh()
            for read in (lambda: len(snapshot), lambda: list(snapshot), lambda: snapshot.search(codes(1), k=1)):
                with pytest.raises(StorageError, match="could not be refreshed"):
                    read()
            away.rename(held)
            assert snapshot.refresh() and len(snapshot) == 50


def test_an_export_of_a_snapshot_keeps_a_refresh_waiting(path, codes, tmp_path, monkeypatch):
    exporting, refreshed, write = threading.Event(), threading.Event(), _transfer.export_to

    def export_to(*arguments):
        exporting.set()
        assert not refreshed.wait(0.05)
        return write(*arguments)

    monkeypatch.setattr(_transfer, "export_to", export_to)
    with Collection.create(path, n_bits=16) as collection, ThreadPoolExecutor(1) as pool:
        collection.add(codes(100))
        with collection.snapshot() as snapshot:
            collection.delete(range(50))
            collection.compact()
            exported = pool.submit(snapshot.export_to, tmp_path / "codes.npy")
            assert exporting.wait(60) and snapshot.refresh()
            refreshed.set()
            assert exported.result() == 100 and len(snapshot) == 50
        np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), codes(100))


def test_a_compaction_lets_go_of_what_it_counted_with(path, codes, monkeypatch):
    arrays, move = [], _compact._move_items

    def move_items(catalogue, renumbered):
        arrays.append(weakref.ref(renumbered))
        move(catalogue, renumbered)

    monkeypatch.setattr(_compact, "_move_items", move_items)
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100), [f"s{i}" for i in range(100)])
        collection.delete("s3")
        collection.compact()
        gc.collect()
        assert [array() for array in arrays] == [None]


def test_everything_can_be_deleted_and_compacted(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100))
        collection.delete(list(collection))
        collection.compact()
        assert len(collection) == 0 and list(collection) == [] and collection.verify().rows == 0
        assert list(collection.add(codes(1))) == [100]
    with Collection.open(path) as collection:
        assert collection.search(codes(1), k=1).ids[0, 0] == 100


def test_snapshots_stay_and_readers_follow(path, codes):
    with Collection.create(path, n_bits=16) as collection, Collection.open(path) as reader:
        collection.add(codes(100))
        with reader.snapshot() as fixed:
            collection.delete([0])
            collection.add(codes(1), ["x"], [{"a": 1}])
            assert (len(fixed), len(reader), "x" in fixed, "x" in reader) == (100, 100, False, True)
            assert 0 in fixed and 0 not in reader
            assert fixed.search(codes(1), k=200).ids[0].tolist().count(None) == 100
            seen = []
            for id in collection:  # iterating is of one state, even while it changes
                seen.append(id)
                if len(seen) < 50:
                    collection.delete([id])
            assert len(seen) == 100 and len(collection) == 51


def test_threads_may_share_a_collection(path, codes):
    data = codes(300)
    with Collection.create(path, n_bits=16) as collection, ThreadPoolExecutor(4) as pool:
        collection.add(data[:100])
        adding = [pool.submit(collection.add, data[100 + i : 101 + i]) for i in range(50)]
        found = [pool.submit(collection.search, data[:3], 5, where={"n": {"exists": False}}) for _ in range(20)]
        assert sorted(done.result()[0] for done in adding) == list(range(100, 150))
        assert all((done.result().distances[:, 0] == 0).all() for done in found)
        assert len(collection) == 150
        collection.verify()


def test_a_forgotten_collection_lets_go_of_its_lock(path):
    with pytest.warns(ResourceWarning):
        Collection.create(path, n_bits=16)
        gc.collect()
    Collection.open(path, mode="w").close()


def test_opening_loads_no_back_end_and_nothing_of_the_learning_side(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(10))
    script = (
        f"import sys; import hashret; c = hashret.Collection.open({str(path)!r}); len(c); c.get([0]); "
        "print([m for m in ('faiss', 'torch', 'scipy', 'yaml', 'hashret.index') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_name_is_the_same(path):
    assert hashret.Collection is Collection
    with Collection.create(path) as collection:
        assert (collection.n_bits, collection.mode, collection.path) == (128, "w", Path(path))
        assert repr(collection).startswith("Collection(")


def test_more_hits_than_memory_are_refused(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(10))
        for queries, k in ((1, 10**12), (1, 10**30), (20, 10**6)):
            with pytest.raises(InputError, match="the 10 codes that there are"):
                collection.search(codes(queries), k=k)
        assert collection.search(codes(1), k=1000).ids.shape == (1, 1000)


def test_a_collection_is_not_made_under_ones_feet(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for path in (".", "", tmp_path / "here"):
        with pytest.raises(StorageError, match="current directory"):
            Collection.create(path, n_bits=16)
    Collection.create("c", n_bits=16).close()
    assert [path.name for path in tmp_path.rglob("*")][:2] == ["here", "c"]
