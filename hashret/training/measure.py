"""How good a model is on a data set: codes at each length, relaxed queries, the float side, and chance.

One place for what ``hashret eval``, the demo, the benchmarks and the end of every training run report.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hashret.codes import bytes_for, pack
from hashret.data import Dataset
from hashret.errors import DataError, InputError
from hashret.evaluation import Retrieval, evaluate_asymmetric, evaluate_codes, evaluate_floats, evaluate_labels
from hashret.evaluation.retrieval import CUTS
from hashret.model import CrossModalHasher
from hashret.training.features import pair_features
from hashret.training.pairs import PairFeatures
from hashret.training.validation import logits_of

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Row:
    """One line of a results table.

    Attributes:
        name: "64 bits", "64 bits, relaxed query", "float32, 1024 wide", "chance".
        kind: "codes", "asymmetric", "float" or "chance".
        n_bits: code length, or width of the float vectors; 0 for chance.
        bytes_an_item: what the index stores of an item; 0 for chance.
        i2t: R@1, R@5 and R@10 of captions by pictures, in percent.
        t2i: likewise of pictures by captions.
        r_sum: their sum.
    """

    name: str
    kind: str
    n_bits: int
    bytes_an_item: int
    i2t: tuple[float, float, float]
    t2i: tuple[float, float, float]
    r_sum: float


@dataclass(frozen=True)
class Measured:
    """What was measured on one set of pairs.

    Attributes:
        codes: code against code, by length in bits.
        asymmetric: relaxed query against stored codes, by length.
        floats: the float side (cosine of logits), by width.
        labels: tie-aware measures over shared labels by "i2t AP@all, 64 bits" and the like, in 0…1; may be empty.
        n_images: pictures.
        n_captions: captions.
    """

    codes: Mapping[int, Retrieval]
    asymmetric: Mapping[int, Retrieval]
    floats: Mapping[int, Retrieval]
    labels: Mapping[str, float]
    n_images: int
    n_captions: int

    def rows(self) -> Iterator[Row]:
        """The lines of a table: each length, each length with a relaxed query, the float side, chance."""
        for n_bits, result in self.codes.items():
            yield _row(f"{n_bits} bits", "codes", n_bits, bytes_for(n_bits), result)
        for n_bits, result in self.asymmetric.items():
            yield _row(f"{n_bits} bits, relaxed query", "asymmetric", n_bits, bytes_for(n_bits), result)
        width, result = max(self.floats.items())
        yield _row(f"float32, {width} wide", "float", width, FLOAT_BYTES * width, result)
        chance = {way: tuple(result.chance[way][f"R@{k}"] for k in CUTS) for way in ("i2t", "t2i")}
        yield Row("chance", "chance", 0, 0, chance["i2t"], chance["t2i"], result.chance_r_sum)  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, Any]:
        """Plain figures, ready for JSON."""
        return {
            "n_images": self.n_images,
            "n_captions": self.n_captions,
            **{
                kind: {str(n_bits): result.to_dict() for n_bits, result in results.items()}
                for kind, results in (("codes", self.codes), ("asymmetric", self.asymmetric), ("float", self.floats))
            },
            "labels": dict(self.labels),
        }


def measure(
    hasher: CrossModalHasher,
    dataset: Dataset,
    *,
    code_lengths: Collection[int] | None = None,
    cache_dir: str | Path | None = None,
) -> Measured:
    """Measure a model on the pictures and captions of ``dataset``.

    Args:
        hasher: the model.
        dataset: records with pictures and captions; one without a picture is left out.
        code_lengths: in bits; the model's own without.
        cache_dir: where features are kept; None: the default of ``hashret.encoders``.

    Raises:
        DataError: fewer than two records have a picture and a caption, or a picture cannot be read.
        InputError: a code length that the model does not have.
    """
    paired = tuple(record for record in dataset if record.image is not None and record.captions)
    if len(paired) < 2:
        raise DataError(f"{len(paired)} records of {dataset.name!r} have a picture and a caption; measuring needs two")
    part = Dataset(dataset.name, paired, credits=dataset.credits)
    cache = None if cache_dir is None else Path(cache_dir)
    pairs = pair_features(hasher, part, cache_dir=cache, label="evaluation")
    return measure_pairs(hasher, pairs, code_lengths=code_lengths)


def measure_pairs(
    hasher: CrossModalHasher, pairs: PairFeatures, *, code_lengths: Collection[int] | None = None
) -> Measured:
    """As ``measure``, from features.

    Raises:
        InputError: a code length that the model does not have.
    """
    lengths = tuple(sorted(set(code_lengths or hasher.code_lengths)))
    for length in lengths:
        if not 1 <= length <= hasher.n_bits:
            raise InputError(f"a code length of {length} bits cannot be cut from the model's {hasher.n_bits} bits")
    images, texts = logits_of(hasher, "image", pairs.image), logits_of(hasher, "text", pairs.text)
    betas = [float(hasher.tower(modality).beta) for modality in ("image", "text")]
    owner = pairs.owners
    codes: dict[int, Retrieval] = {}
    asymmetric: dict[int, Retrieval] = {}
    floats: dict[int, Retrieval] = {}
    labels: dict[str, float] = {}
    for n_bits in lengths:
        image_logits, text_logits = images[:, :n_bits], texts[:, :n_bits]
        image_codes, text_codes = pack(image_logits > 0), pack(text_logits > 0)
        codes[n_bits] = evaluate_codes(image_codes, text_codes, owner, n_bits=n_bits)
        image_relaxed, text_relaxed = np.tanh(betas[0] * image_logits), np.tanh(betas[1] * text_logits)
        asymmetric[n_bits] = evaluate_asymmetric(
            image_relaxed, text_relaxed, image_codes, text_codes, owner, n_bits=n_bits
        )
        floats[n_bits] = evaluate_floats(image_logits, text_logits, owner)
        if pairs.labels is not None:
            image_labels = pairs.labels.cpu().numpy()
            text_labels = image_labels[owner]
            ways = {
                "i2t": (image_codes, text_codes, image_labels, text_labels),
                "t2i": (text_codes, image_codes, text_labels, image_labels),
            }
            for way, arguments in ways.items():
                scores = evaluate_labels(*arguments, n_bits=n_bits, measures=("AP@all",))
                labels[f"{way} AP@all, {n_bits} bits"] = scores["AP@all"]
    return Measured(codes, asymmetric, floats, labels, n_images=len(images), n_captions=len(texts))


def _row(name: str, kind: str, n_bits: int, bytes_an_item: int, result: Retrieval) -> Row:
    i2t, t2i = ((way.r1, way.r5, way.r10) for way in (result.i2t, result.t2i))
    return Row(name, kind, n_bits, bytes_an_item, i2t, t2i, result.r_sum)
