"""What died is read when it is first needed, and is that of the state that is seen."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

from hashret.collection import Collection
from hashret.collection._check import checksum, hex_checksum
from hashret.errors import CorruptError


@pytest.mark.parametrize(
    "change", ["UPDATE tombstones SET rows = zeroblob(8) WHERE seq = 2", "DELETE FROM tombstones WHERE seq = 2"]
)
def test_damage_in_what_died_is_refused_by_what_needs_it_and_by_nothing_else(path, codes, tmp_path, change):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(200))
        collection.add(codes(3, seed=1), ["a", "b", "c"], [{"n": 1}] * 3)
        collection.delete([5, "a"])
        collection.delete(6)
    with sqlite3.connect(path / "catalogue.sqlite") as connection:
        connection.execute(change)
    connection.close()
    for mode in ("r", "w"):
        with Collection.open(path, mode=mode) as collection:
            assert len(collection) == 200 and collection.get("b").metadata == [{"n": 1}]
            needing = [
                lambda: collection.search(codes(1), k=3),
                lambda: collection.search(codes(1), k=3, where={"n": {"exists": False}}),
                lambda: 6 in collection,
                lambda: list(collection),
                lambda: collection.get([7]),
                lambda: collection.export_to(tmp_path / "items.npz"),
                collection.verify,
            ]
            if mode == "w":
                needing += [
                    collection.compact,
                    lambda: collection.delete([8]),
                    lambda: collection.upsert(codes(1), [6]),
                    lambda: collection.add(codes(1), [6]),
                ]
            for use in needing * 2:
                with pytest.raises(CorruptError, match="dead rows"):
                    use()


def test_who_needs_it_late_sees_what_was_dead_in_his_state(path, codes):
    with Collection.create(path, n_bits=16) as writer, Collection.open(path) as reader:
        writer.add(codes(300))
        writer.delete(range(0, 100, 2))
        writer.add(codes(1), ["x"])
        state = list(writer)
        early, late, unread = writer.snapshot(), writer.snapshot(), Collection.open(path)
        assert list(early) == state
        writer.delete(["x", *range(100, 200)])
        writer.add(codes(100), range(1000, 1100))
        writer.compact()
        writer.delete(1000)
        now = list(writer)
        for snapshot in (early, late):
            assert set(snapshot.search(codes(1), k=len(state)).ids[0]) == set(state)
            assert list(snapshot) == state and 0 not in snapshot and 100 in snapshot
        assert list(reader) == now == list(unread) and 1000 not in reader and 1001 in unread
        assert late.refresh() and list(late) == now
        for opened in (early, late, unread):
            opened.close()
        writer.verify()


def test_a_failed_change_leaves_nothing_dead(path, codes):
    with Collection.create(path, n_bits=16) as collection:
        collection.add(codes(100))
        collection.add(codes(2), ["a", "b"])
        collection.delete(0)
    with Collection.open(path, mode="w") as collection:
        with pytest.raises(RuntimeError), collection._session.writing() as view:
            view.catalogue.bury(np.array([1, 2]), np.zeros(0, np.int64))
            raise RuntimeError
        assert 1 in collection and len(list(collection)) == 101 and collection.verify().count == 101


@pytest.mark.parametrize("size", [0, 8, (1 << 20) + 8])
def test_the_checksum_of_what_died_is_that_of_its_text(size):
    data = np.random.default_rng(0).bytes(size)
    assert hex_checksum(data) == checksum(data.hex())
