"""One cell of the comparison: a method, its code lengths and a seed; fitted, measured, and kept in a file of its own.

    WORK/cells/<data>/<method>-<lengths>-s<seed>.json   {"complete": true, "key": …, "lengths": {"64": {…}, …}, …}

A cell is written in one step when it is done, so that a killed run leaves none behind, and a rerun computes only what
is missing. ``key`` names the data, the options and the version; a cell of another key is computed anew.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _quality_data import Features, Side

from hashret._files import write_whole
from hashret.baselines import build
from hashret.baselines.spaces import cca
from hashret.codes import bytes_for, pack, unpack
from hashret.errors import InputError
from hashret.evaluation import (
    evaluate_asymmetric,
    evaluate_codes,
    evaluate_floats,
    evaluate_labels,
    evaluate_labels_floats,
)
from hashret.feature_hasher import TRAINED
from hashret.training.run import environment

OWN, CCA_FLOAT = "feature-hasher", "cca-float"
UNLABELLED = "feature-hasher-pairs"  # the same without the labels that the data has
NESTED = (*TRAINED.names(), UNLABELLED)  # one fit gives every length
MAP = "AP@all"


@dataclass(frozen=True)
class Cell:
    """What is computed as one: ``lengths`` has one entry, but for a nested method all, and for floats none."""

    method: str
    lengths: tuple[int, ...]
    seed: int
    options: tuple[tuple[str, Any], ...] = ()

    def path(self, work: Path, data: Features) -> Path:
        """Of the cell's file."""
        return work / "cells" / data.stem / f"{self.name}.json"

    @property
    def name(self) -> str:
        """Method, lengths and seed."""
        lengths = "-".join(map(str, self.lengths)) or "float"
        return f"{self.method}-{lengths}-s{self.seed}"

    def key(self, data: Features) -> str:
        """Changes with what is asked for, the data and the version; it does not see code that changes within one."""
        from hashret import __version__

        facts = [self.method, self.lengths, self.seed, self.options, data.checksum, __version__]
        return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()


def kept(work: Path, cell: Cell, data: Features) -> dict[str, Any] | None:
    """The cell's figures from an earlier run, or None."""
    try:
        content: dict[str, Any] = json.loads(cell.path(work, data).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if content.get("complete") and content.get("key") == cell.key(data) else None


def run(work: Path, cell: Cell, data: Features) -> dict[str, Any]:
    """The cell's figures: kept ones, or new ones that are then kept."""
    content = kept(work, cell, data)
    if content is None:
        content = {
            "method": cell.method, "seed": cell.seed, "options": dict(cell.options), "data": data.name,
            "environment": environment(torch.device("cpu")), **_computed(cell, data),
            "key": cell.key(data), "complete": True,
        }  # fmt: skip
        write_whole(cell.path(work, data), json.dumps(content, indent=1) + "\n")
    return content


def _computed(cell: Cell, data: Features) -> dict[str, Any]:
    begun = time.perf_counter()
    try:
        views = _fitted(cell, data.train)
    except InputError as error:
        return {"refused": str(error)}
    fit_s = time.perf_counter() - begun
    lengths: dict[str, Any] = {}
    encode_ms = []
    for n_bits, view in views:
        images, texts = view(data.test, "image"), view(data.test, "text")
        encode_ms.append((images.seconds + texts.seconds) * 1e3 / (len(images.floats) + len(texts.floats)))
        stored = None if data.relevance == "instance" else (view(data.train, "image"), view(data.train, "text"))
        lengths[str(n_bits)] = {"bytes": bytes_for(n_bits) if cell.lengths else 4 * n_bits}
        lengths[str(n_bits)] |= _measured(images, texts, stored, data, n_bits=n_bits)
    return {"fit_s": fit_s, "encode_ms_per_item": float(np.mean(encode_ms)), "lengths": lengths}


class View(NamedTuple):
    """What a method makes of items: (N, n_bits) floats, (N, n_bytes) codes where it has any, and the time it takes."""

    floats: np.ndarray
    codes: np.ndarray | None
    seconds: float


def _fitted(cell: Cell, train: Side) -> Iterator[tuple[int, Any]]:
    """(length, function from a split and a modality to a ``View``) of the fitted method."""
    if cell.method in NESTED:
        name = OWN if cell.method == UNLABELLED else cell.method
        hasher = TRAINED.load(name)(
            n_bits=max(cell.lengths), code_lengths=cell.lengths, seed=cell.seed, device="cpu", **dict(cell.options)
        )
        labels = None if cell.method == UNLABELLED else train.labels
        hasher.fit(train.images, train.texts, owner=train.owner, labels=labels)

        encode = {"image": hasher.encode_images, "text": hasher.encode_texts}

        def nested(n_bits: int) -> Any:
            def view(side: Side, modality: str) -> View:
                floats = hasher.encode_floats(modality, _of(side, modality), n_bits=n_bits)
                begun = time.perf_counter()
                codes = encode[modality](_of(side, modality), n_bits=n_bits)
                return View(floats, codes, time.perf_counter() - begun)

            return view

        return iter([(n_bits, nested(n_bits)) for n_bits in cell.lengths])
    if cell.method == CCA_FLOAT:
        images, texts, _ = train.pairs()
        maps = dict(zip(("image", "text"), cca(images.astype(np.float64), texts.astype(np.float64))))
        width = maps["image"].weights.shape[1]  # directions without any correlation are left out

        def project(side: Side, modality: str) -> View:
            begun = time.perf_counter()
            floats = maps[modality](_of(side, modality)).astype(np.float32)
            return View(floats, None, time.perf_counter() - begun)

        return iter([(width, project)])
    method = build(cell.method, n_bits=max(cell.lengths), seed=cell.seed, **dict(cell.options)).fit(*train.pairs())
    relaxed = {"image": method.relaxed_images, "text": method.relaxed_texts}

    def first(n_bits: int) -> Any:
        def signs(side: Side, modality: str) -> View:
            begun = time.perf_counter()
            floats = relaxed[modality](_of(side, modality))[:, :n_bits]
            codes = pack(floats > 0)
            return View(floats, codes, time.perf_counter() - begun)

        return signs

    return iter([(n_bits, first(n_bits)) for n_bits in cell.lengths])


def _of(side: Side, modality: str) -> np.ndarray:
    return side.images if modality == "image" else side.texts


def _measured(
    images: View, texts: View, stored: tuple[View, View] | None, data: Features, *, n_bits: int
) -> dict[str, Any]:
    """Figures of one length: float against float, and where there are codes those and relaxed queries against them."""
    if stored is None:
        owner = data.test.owner
        floats = images.floats, texts.floats
        figures: dict[str, Any] = {"float": evaluate_floats(*floats, owner).to_dict()}
        if images.codes is not None and texts.codes is not None:
            codes = images.codes, texts.codes
            figures["codes"] = evaluate_codes(*codes, owner, n_bits=n_bits).to_dict()
            figures["asymmetric"] = evaluate_asymmetric(*floats, *codes, owner, n_bits=n_bits).to_dict()
        return figures
    figures = {"float": {}} | ({} if images.codes is None else {"codes": {}, "asymmetric": {}})
    asked, searched = data.test, data.train
    labels = {
        "i2t": (asked.labels, searched.labels[searched.owner]),  # type: ignore[index]
        "t2i": (asked.labels[asked.owner], searched.labels),  # type: ignore[index]
    }
    for way, queries, items in (("i2t", images, stored[1]), ("t2i", texts, stored[0])):
        relevance = labels[way]
        figures["float"][way] = evaluate_labels_floats(queries.floats, items.floats, *relevance, measures=(MAP,))[MAP]
        if queries.codes is not None and items.codes is not None:
            found = evaluate_labels(queries.codes, items.codes, *relevance, n_bits=n_bits, measures=(MAP,))
            signs = unpack(items.codes, n_bits=n_bits) * 2.0 - 1.0
            rescored = evaluate_labels_floats(queries.floats, signs, *relevance, measures=(MAP,))
            figures["codes"][way], figures["asymmetric"][way] = found[MAP], rescored[MAP]
    return figures
