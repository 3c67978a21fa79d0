"""The wrapper for ann-benchmarks, laid out as in its checkout, under a base class with its contract, and without it."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

import hashret

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "ann_benchmarks"
BASE = """
class BaseANN:
    def done(self): ...
    def get_memory_usage(self): return 1.0
    def fit(self, X): raise NotImplementedError
    def query(self, q, n): raise NotImplementedError
    def batch_query(self, X, n): raise NotImplementedError
    def get_batch_results(self): raise NotImplementedError
    def get_additional(self): return {}
    def __str__(self): return self.name
"""
RNG = np.random.default_rng(0)
ITEMS, QUERIES = RNG.random((2000, 72)) > 0.5, RNG.random((9, 72)) > 0.5


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The wrapper as ``ann_benchmarks.algorithms.hashret.module``."""
    place = tmp_path / "ann_benchmarks" / "algorithms"
    (place / "base").mkdir(parents=True)
    (place / "base" / "module.py").write_text(BASE)
    shutil.copytree(FOLDER, place / "hashret")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("ann_benchmarks.algorithms.hashret.module")
    hashret.set_num_threads(None)


def arguments():
    """Constructor arguments of every run group, and its arguments at query time, as ann-benchmarks multiplies them."""
    (entry,) = yaml.safe_load((FOLDER / "config.yml").read_text())["bit"]["hamming"]
    base = ["hamming" if value == "@metric" else value for value in entry["base_args"]]
    for group in entry["run_groups"].values():
        for chosen in itertools.product(*group["args"]):
            asked = list(itertools.product(*group["query_args"])) if "query_args" in group else [()]
            yield entry["constructor"], [*base, *chosen], asked


def test_every_run_group_of_the_configuration_runs(module):
    distances = (QUERIES[:, None] != ITEMS).sum(axis=2)
    exact = np.argsort(distances, axis=1, kind="stable")[:, :10]
    names = set()
    for constructor, given, asked in arguments():
        if given[2:] and given[2].get("lists", 0) > 256:
            continue  # more cells than 2,000 items can fill
        algorithm = getattr(module, constructor)(*given)
        algorithm.fit(ITEMS)
        for values in (asked[0], asked[-1]):
            if values:
                algorithm.set_query_arguments(*values)
            names.add(str(algorithm))
            found = [algorithm.query(query, 10) for query in QUERIES]
            algorithm.batch_query(QUERIES, 10)
            batch = algorithm.get_batch_results()
            assert all(np.array_equal(one, other) for one, other in zip(found, batch, strict=True))
            if given[1] in ("flat", "mih"):
                assert np.array_equal(found, exact), given
        if given[1] in ("ivf", "hnsw"):  # with the last, largest argument it finds what is near
            shares = [np.isin(one, other).mean() for one, other in zip(found, exact)]
            assert np.mean(shares) > 0.9, given
        assert algorithm.get_additional() == {} and algorithm.get_memory_usage() == 1.0
        algorithm.done()
    assert "hashret-flat()" in names and "hashret-ivf(lists=256, probes=256)" in names


def test_another_metric_or_argument_is_refused(module):
    with pytest.raises(NotImplementedError, match="'angular'"):
        module.Hashret("angular")
    with pytest.raises(ValueError, match="exact"):
        module.Hashret("hamming", "mih").set_query_arguments(3)


def test_it_can_be_imported_without_ann_benchmarks():
    spec = importlib.util.spec_from_file_location("hashret_for_ann_benchmarks", FOLDER / "module.py")
    alone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alone)
    algorithm = alone.Hashret("hamming")
    algorithm.fit(ITEMS[:30])
    assert len(algorithm.query(QUERIES[0], 99)) == 30
    hashret.set_num_threads(None)
