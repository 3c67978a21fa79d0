"""Random sequences of operations leave a collection equal to an ordered dict that went through the same."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hashret.collection import Collection
from hashret.errors import InputError, UnknownIdError

N_BITS = 12  # few distinct codes: ties everywhere

seeds = st.integers(0, 2**32 - 1)
texts = st.sampled_from([f"s{i}" for i in range(12)] + ["1", "2", "é"])
numbers = st.integers(-3, 400)
ids_lists = st.lists(st.one_of(texts, numbers), min_size=1, max_size=8, unique_by=lambda id: (type(id), id))
metadatas = st.one_of(
    st.none(), st.fixed_dictionaries({}, optional={"n": st.integers(0, 3), "t": st.sampled_from("ab")})
)


def codes_of(seed: int, count: int) -> np.ndarray:
    codes = np.random.default_rng(seed).integers(0, 256, (count, 2), np.uint8) & np.uint8(0x49)
    codes[:, 1] &= 0xF0
    return codes


class CollectionMachine(RuleBasedStateMachine):
    @initialize()
    def create(self) -> None:
        self.place = Path(tempfile.mkdtemp())
        self.collection = Collection.create(self.place / "c", N_BITS)
        self.reader = Collection.open(self.place / "c")
        self.model: dict[Any, tuple[bytes, dict[str, Any]]] = {}
        self.next_id = 0
        self.snapshots: list[tuple[Collection, list[Any]]] = []

    def teardown(self) -> None:
        if hasattr(self, "collection"):
            self.collection.verify()
            for snapshot, ids in self.snapshots:
                assert list(snapshot) == ids
                snapshot.close()
            self.reader.close()
            self.collection.close()
            shutil.rmtree(self.place)

    def _store(self, ids: Any, codes: np.ndarray, metadata: list[Any] | None) -> None:
        for at, (id, code) in enumerate(zip(ids, codes)):
            self.model.pop(id, None)
            self.model[id] = (code.tobytes(), dict((metadata and metadata[at]) or {}))
        self.next_id = max([self.next_id, *(id + 1 for id in ids if isinstance(id, int))])

    @rule(ids=ids_lists, seed=seeds, data=st.data())
    def add(self, ids: list[Any], seed: int, data: st.DataObject) -> None:
        codes = codes_of(seed, len(ids))
        metadata = data.draw(st.one_of(st.none(), st.lists(metadatas, min_size=len(ids), max_size=len(ids))))
        if any(id in self.model for id in ids):
            with pytest.raises(InputError, match="already"):
                self.collection.add(codes, ids, metadata)
        else:
            self.collection.add(codes, ids, metadata)
            self._store(ids, codes, metadata)

    @rule(count=st.sampled_from([1, 2, 63, 64, 150]), seed=seeds)
    def add_numbered(self, count: int, seed: int) -> None:
        codes = codes_of(seed, count)
        ids = self.collection.add(codes)
        assert ids == range(self.next_id, self.next_id + count)
        self._store(ids, codes, None)

    @rule(first=st.integers(0, 500), count=st.sampled_from([64, 100]), seed=seeds)
    def add_a_stretch(self, first: int, count: int, seed: int) -> None:
        ids, codes = range(first, first + count), codes_of(seed, count)
        if any(id in self.model for id in ids):
            with pytest.raises(InputError, match="already"):
                self.collection.add(codes, ids)
            self.collection.upsert(codes, ids)
        else:
            self.collection.add(codes, ids)
        self._store(ids, codes, None)

    @rule(ids=ids_lists, seed=seeds, data=st.data())
    def upsert(self, ids: list[Any], seed: int, data: st.DataObject) -> None:
        codes = codes_of(seed, len(ids))
        metadata = data.draw(st.lists(metadatas, min_size=len(ids), max_size=len(ids)))
        self.collection.upsert(codes, ids, metadata)
        self._store(ids, codes, metadata)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), unknown=st.booleans())
    def delete(self, data: st.DataObject, unknown: bool) -> None:
        ids = data.draw(st.lists(st.sampled_from(list(self.model)), min_size=1, max_size=60))
        if unknown:
            with pytest.raises(UnknownIdError, match="nobody"):
                self.collection.delete([*ids, "nobody"])
        else:
            self.collection.delete(ids)
            for id in set(ids):
                del self.model[id]

    @rule()
    def compact(self) -> None:
        self.collection.compact()
        assert self.collection.info().dead == 0

    @rule(mode=st.sampled_from(["writer", "reader"]))
    def reopen(self, mode: str) -> None:
        if mode == "writer":
            self.collection.close()
            self.collection = Collection.open(self.place / "c", mode="w")
        else:
            self.reader.close()
            self.reader = Collection.open(self.place / "c")

    @rule()
    def index(self) -> None:
        if self.collection.info().indexes:
            self.collection.drop_index("n")
        else:
            self.collection.create_index("n")

    @precondition(lambda self: len(self.snapshots) < 3)
    @rule()
    def snapshot(self) -> None:
        self.snapshots.append((self.reader.snapshot(), list(self.model)))

    @rule(
        seed=seeds,
        k=st.sampled_from([1, 5, 700]),
        n=st.sampled_from([None, 0, 1, "missing"]),
        radius=st.sampled_from([None, 0, 2]),
        from_reader=st.booleans(),
    )
    def search(self, seed: int, k: int, n: Any, radius: int | None, from_reader: bool) -> None:
        query = codes_of(seed, 1)[0]
        where = None if n is None else {"n": {"exists": False}} if n == "missing" else {"n": n}
        whole = []
        for at, (id, (code, metadata)) in enumerate(self.model.items()):
            distance = int(np.bitwise_count(np.frombuffer(code, np.uint8) ^ query).sum())
            if n is None or ("n" not in metadata if n == "missing" else metadata.get("n") == n):
                whole.append((distance, at, id, metadata))
        whole.sort(key=lambda hit: hit[:2])
        asked = self.reader if from_reader else self.collection
        within = [hit for hit in whole if radius is None or hit[0] <= radius]
        truth, short = within[:k], k - len(within[:k])
        hits = asked.search(query, k=k, where=where, radius=radius)
        assert hits.distances[0].tolist() == [hit[0] for hit in truth] + [-1] * short
        assert hits.ids[0].tolist() == [hit[2] for hit in truth] + [None] * short
        assert hits.metadata[0] == [hit[3] for hit in truth] + [None] * short
        found = asked.range_search(query, N_BITS if radius is None else radius, where=where)
        assert found.limits.tolist() == [0, len(within)]
        assert found.distances.tolist() == [hit[0] for hit in within]
        assert found.ids.tolist() == [hit[2] for hit in within]
        assert found.metadata == [hit[3] for hit in within]
        if radius is None:  # signs as floats: a score that says what the distance does
            signs = np.where(np.unpackbits(query, count=N_BITS), 1.0, -1.0)
            scored = asked.search_asymmetric(signs, k, oversample=1, where=where)
            assert scored.ids.tolist() == hits.ids.tolist() and scored.metadata == hits.metadata
            assert scored.scores[0].tolist() == [N_BITS - 2.0 * hit[0] for hit in truth] + [-np.inf] * short

    @invariant()
    def holds_the_same(self) -> None:
        if not hasattr(self, "collection"):
            return
        for view in (self.collection, self.reader):
            assert len(view) == len(self.model)
            ids = list(view)
            assert ids == list(self.model) and list(map(type, ids)) == list(map(type, self.model))
            items = view.get(ids)
            assert [code.tobytes() for code in items.codes] == [code for code, _ in self.model.values()]
            assert items.metadata == [metadata for _, metadata in self.model.values()]


def check(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        CollectionMachine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_a_collection_is_an_ordered_dict():
    check(15, 20)


@pytest.mark.slow
def test_a_collection_is_an_ordered_dict_for_long():
    check(1000, 60)
