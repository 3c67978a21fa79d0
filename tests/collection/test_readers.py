"""Readers in other processes beside a writer: every answer is that of one committed state."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hashret.collection import Collection

N_BITS, COUNT, LAST = 64, 200, 10**9

# In version v every item's code is made of its id and v, and its metadata are {"v": v}; a deletion then takes a
# quarter of the ids. So whoever sees an answer can tell whether it is one state, and which.
CODES = """
import numpy as np

def codes_of(ids, version):
    words = (np.asarray(ids, np.uint64) + np.uint64(version * 1009)) * np.uint64(0x9E3779B97F4A7C15)
    return words.byteswap().view(np.uint8).reshape(-1, 8)
"""
READER = (
    CODES
    + """
import json, sys
from hashret.collection import Collection, CollectionHits

COUNT, LAST = 200, 10**9
query = codes_of([0], 0)

def check(hits):
    found = hits.distances[0] >= 0
    ids = hits.ids[0][found].tolist()
    versions = {metadata["v"] for metadata in hits.metadata[0] if metadata is not None}
    assert len(versions) == 1, versions
    version = versions.pop()
    if len(ids) < COUNT:
        assert sorted(ids) == [id for id in range(COUNT) if id % 4 != version % 4], (version, len(ids))
    else:
        assert sorted(ids) == list(range(COUNT)), (version, len(ids))
    truth = np.bitwise_count(codes_of(ids, version) ^ query).sum(axis=1)
    assert truth.tolist() == hits.distances[0][found].tolist() and sorted(truth) == truth.tolist()
    return version, sorted(ids)

def nearest():
    return collection.search(query, k=COUNT + 10)

def within():
    hits = collection.range_search(query, 64)
    return CollectionHits(hits.ids[None], hits.distances[None], [hits.metadata])

def relaxed():
    hits = collection.search_asymmetric(np.unpackbits(query, axis=1) * 2.0 - 1, COUNT + 10)
    assert (hits.scores == np.where(hits.distances < 0, -np.inf, 64 - 2 * hits.distances)).all()
    return CollectionHits(*hits[:3])

answers = states = last = 0
collection = Collection.open(sys.argv[1])
print("ready", flush=True)
while last < LAST:
    for ask in (nearest, within, relaxed):
        version, ids = check(ask())
        assert version >= last, (version, last)
        states += version > last
        last = version
    with collection.snapshot() as fixed:
        version, ids = check(fixed.search(query, k=COUNT + 10))
        items = fixed.get(ids)
        assert (items.codes == codes_of(ids, version)).all() and list(fixed) == ids and len(fixed) == len(ids)
        assert check(fixed.search(query, k=COUNT + 10, where={"v": {"gte": version}})) == (version, ids)
    answers += 6
print(json.dumps({"answers": answers, "states": states}))
"""
)


def codes_of(ids: range, version: int) -> np.ndarray:
    words = (np.asarray(ids, np.uint64) + np.uint64(version * 1009)) * np.uint64(0x9E3779B97F4A7C15)
    return words.byteswap().view(np.uint8).reshape(-1, 8)


def read_beside_a_writer(path: Path, *, readers: int, versions: int, seconds: float = 0.0) -> list[dict[str, int]]:
    """Write versions, and compact now and then, while readers check what they see."""
    ids, stop = range(COUNT), time.monotonic() + seconds
    with Collection.create(path, N_BITS) as collection:

        def write(version: int) -> None:
            collection.upsert(codes_of(ids, version), ids, [{"v": version}] * COUNT)

        write(0)
        command = [sys.executable, "-c", READER, str(path)]
        running = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(readers)
        ]
        for reader in running:
            assert reader.stdout is not None and reader.stdout.readline() == "ready\n", reader.communicate()[1]
        version = 0
        while version < versions or time.monotonic() < stop:
            version += 1
            write(version)
            collection.delete([id for id in ids if id % 4 == version % 4])
            if version % 5 == 0:
                collection.compact()
        write(LAST)
        results = []
        for reader in running:
            out, problem = reader.communicate()
            assert reader.returncode == 0, problem
            results.append(json.loads(out))
        collection.verify()
        assert collection.info().catalogue_bytes < 100e6  # readers without a pause do not let the log grow
    return results


def test_every_answer_is_one_state(path):
    results = read_beside_a_writer(path, readers=3, versions=60)
    assert len(results) == 3 and all(result["states"] > 3 for result in results)


@pytest.mark.slow
def test_every_answer_is_one_state_for_ten_minutes(path):
    results = read_beside_a_writer(path, readers=8, versions=60, seconds=600)
    assert all(result["states"] > 100 for result in results)
