"""One cell of the comparison of systems: a configuration with overrides, trained, and measured on the test split once.

    RUNS/<system>-<n_bits>-s<seed>-<hash of the configuration>/   the run, cell.json and queries.npz

``cell.json`` is written last: a killed run has none, and a rerun resumes its training.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hashret._files import write_whole
from hashret.codes import bytes_for
from hashret.config import plain
from hashret.data import Dataset
from hashret.evaluation import Retrieval
from hashret.model import CrossModalHasher
from hashret.model.devices import pick_device
from hashret.training import RunConfig, modality_report, read_config, train
from hashret.training.features import identity_of, pair_features, usable
from hashret.training.forward import precision_of
from hashret.training.measure import measure_pairs
from hashret.training.pairs import PairFeatures
from hashret.training.reranking import rerank_figures
from hashret.training.sweep import with_length

MARK = "cell.json"  # the file of a finished cell
Overrides = tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """What is trained as one."""

    system: str
    n_bits: int
    seed: int
    overrides: Overrides = ()
    scale: float = 1.0

    @property
    def name(self) -> str:
        """Of the cell's folder."""
        return f"{self.system}-{self.n_bits}-s{self.seed}-{digest_of(self.config())}"

    def config(self) -> RunConfig:
        """The resolved configuration; a nested model keeps its own length, of which ``n_bits`` is a prefix."""
        config = read_config(self.system, [*self.overrides, f"seed={self.seed}"])
        if self.n_bits not in config.model.code_lengths:
            config = with_length(config, self.n_bits)
        stages = tuple(
            dataclasses.replace(stage, epochs=max(1, round(stage.epochs * self.scale))) for stage in config.stages
        )
        return dataclasses.replace(config, stages=stages)


def digest_of(config: RunConfig) -> str:
    """Of a run, for its folder's name: another configuration, also by an edit of its file, is another folder."""
    content = {key: value for key, value in plain(config).items() if key != "claims"}
    if content["model"]["rounding"] is None:
        del content["model"]["rounding"]  # so that cells from before there was this key are what they were
    content["precision"] = precision_of(config, pick_device("auto"))  # what "auto" means differs between machines
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def compute(cell: Cell, dataset: Dataset, runs: Path) -> dict[str, Any]:
    """The cell's figures, from its file where it is finished."""
    folder = runs / cell.name
    before = finished(folder, dataset)
    if before is not None:
        return before
    begun = time.perf_counter()
    result = train(cell.config(), dataset, out=folder, resume=True)
    test = usable(dataset, "test")
    pairs = pair_features(result.model, test, cache_dir=None, label="test")
    measured = measure_pairs(result.model, pairs)
    codes = measured.codes
    content: dict[str, Any] = {
        "cell": dataclasses.asdict(cell),
        "data": identity_of(dataset),
        "validation": result.value,
        "seconds": {**result.figures["seconds"], "cell": time.perf_counter() - begun},
        "codes": {str(n): _figures(found) for n, found in codes.items()},
        "relaxed": {str(n): found.r_sum for n, found in measured.asymmetric.items()},
        "float": {str(n): found.r_sum for n, found in measured.floats.items()},
        "bytes": {str(n): bytes_for(n) for n in codes},
        "probe": _probe(result.model, pairs, dataset, seed=cell.seed),
        "noise": {k: v for row in result.curves for k, v in row.items() if k.startswith("noise.")},
    }
    queries = {f"{n}/{way}": values for n, found in codes.items() for way, values in per_query(found)}
    if result.model.reranker is not None:
        reranked = rerank_figures(result.model, pairs)
        stages = {"before": reranked.before, "floats": reranked.floats, "after": reranked.after}
        content["rerank"] = {"k": reranked.k, **{when: found.r_sum for when, found in stages.items()}}
        for when, found in stages.items():
            queries |= {f"{when}/{way}": values for way, values in per_query(found)}
    queries["owner"] = pairs.owners
    np.savez_compressed(folder / "queries.npz", **queries)
    write_whole(folder / MARK, json.dumps(content, indent=1) + "\n")
    return content


def finished(folder: Path, dataset: Dataset) -> dict[str, Any] | None:
    """What a cell's folder says, once it is finished and its figures are of ``dataset``."""
    if not (folder / MARK).exists():
        return None
    content: dict[str, Any] = json.loads((folder / MARK).read_text(encoding="utf-8"))
    if content.get("data") not in (None, identity_of(dataset)):  # None: of a version that did not say it
        raise SystemExit(f"{folder} holds figures of another data set; give another folder with --runs")
    return content


def per_query(found: Retrieval) -> Iterator[tuple[str, np.ndarray]]:
    """Way -> what each query adds to rSum: 100 (R@1 + R@5 + R@10), whose means over both ways sum to it."""
    for way, direction in (("i2t", found.i2t), ("t2i", found.t2i)):
        yield way, 100.0 * sum(direction.per_query[f"R@{k}"] for k in (1, 5, 10))


def _figures(found: Retrieval) -> dict[str, Any]:
    ways = {way: {f"R@{k}": getattr(side, f"r{k}") for k in (1, 5, 10)} for way, side in _ways(found)}
    return {**ways, "rSum": found.r_sum}


def _ways(found: Retrieval) -> tuple[tuple[str, Any], ...]:
    return ("i2t", found.i2t), ("t2i", found.t2i)


def _probe(model: CrossModalHasher, test: PairFeatures, dataset: Dataset, *, seed: int) -> float:
    train_pairs = pair_features(model, usable(dataset, "val"), cache_dir=None, label="validation")
    return modality_report(model, test, train_pairs, seed=seed).probe.accuracy
