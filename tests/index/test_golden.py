"""Index files that earlier versions wrote (golden/make.py) open, and answer as they did then."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hashret.index import IVFIndex, MIHIndex, mih, open_index
from hashret.kernels import native

GOLDEN = Path(__file__).with_name("golden")
FILES = sorted(file for file in GOLDEN.glob("v*") if file.suffix != ".json")


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_index_files_of_every_version_answer(file, mmap, tmp_path, monkeypatch):
    for cost in ("PROBE_NS", "CANDIDATE_NS"):
        monkeypatch.setattr(mih, cost, 0.0)  # or the few codes are scanned
    known = json.loads(file.with_suffix(".json").read_text())
    codes, queries = (np.array(known[name], np.uint8) for name in ("codes", "queries"))
    index = open_index(file, mmap=mmap)
    assert (index.kind, index.n_bits, len(index)) == (file.suffix[1:], 20, 80)
    hits, answers = index.search(queries, 8), known[index.kind]
    assert hits.rows.tolist() == answers["rows"] and hits.distances.tolist() == answers["distances"]
    assert index.range_search(queries, 5).rows.tolist() == answers["within 5"]
    np.testing.assert_array_equal(index.codes, codes)
    if isinstance(index, MIHIndex):
        index.verify()
        assert index.info()["in_tables"] == len(codes)
        assert index.last.scanned == 0 or not native.available()
        index.save(tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == file.read_bytes()
    else:
        assert index._faiss.ntotal == len(codes)  # the structure that was saved, and no scan
        assert (index.lists, index.probes) == (4, 3) if isinstance(index, IVFIndex) else index.ef_search == 70
    index.add(queries)
    assert index.search(queries[0], 1).distances[0, 0] == 0
