"""How good a model is on a data set: codes at each length, relaxed queries, the float vectors, labels, and chance.

One place for what ``hashret eval``, the demo, the benchmarks and the end of every training run report.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from hashret.codes import pack
from hashret.data import Dataset
from hashret.errors import DataError, InputError
from hashret.evaluation.coded import Coded
from hashret.evaluation.instance import Ties
from hashret.evaluation.measured import Measured, measure_coded
from hashret.evaluation.measures import Measure
from hashret.model import CrossModalHasher
from hashret.training.features import pair_features
from hashret.training.pairs import PairFeatures
from hashret.training.validation import logits_of


def measure(
    hasher: CrossModalHasher,
    dataset: Dataset,
    *,
    code_lengths: Collection[int] | None = None,
    measures: Sequence[str | Measure] = ("AP@all",),
    ties: Ties = "expected",
    cache_dir: str | Path | None = None,
) -> Measured:
    """Measure a model on the pictures and captions of ``dataset``.

    Args:
        hasher: the model.
        dataset: records with pictures and captions; one without a picture is left out.
        code_lengths: in bits; the model's own without.
        measures: over shared labels, where the records have any.
        ties: the order of items at one distance.
        cache_dir: where features are kept; None: the default of ``hashret.encoders``.

    Raises:
        DataError: fewer than two records have a picture and a caption, or a picture cannot be read.
        InputError: a code length that the model does not have.
    """
    lengths = check_lengths(hasher, code_lengths)
    coded = encode_dataset(hasher, dataset, cache_dir=cache_dir)
    return measure_coded(coded, code_lengths=lengths, measures=measures, ties=ties)


def measure_pairs(
    hasher: CrossModalHasher, pairs: PairFeatures, *, code_lengths: Collection[int] | None = None
) -> Measured:
    """As ``measure``, from features.

    Raises:
        InputError: a code length that the model does not have.
    """
    lengths = check_lengths(hasher, code_lengths)
    return measure_coded(encode_pairs(hasher, pairs), code_lengths=lengths)


def encode_dataset(hasher: CrossModalHasher, dataset: Dataset, *, cache_dir: str | Path | None = None) -> Coded:
    """The codes, relaxed codes, float vectors and labels of the records with a picture and a caption.

    Raises:
        DataError: fewer than two have both, or a picture cannot be read.
    """
    return encode_pairs(hasher, pairs_of(hasher, dataset, cache_dir=cache_dir))


def pairs_of(hasher: CrossModalHasher, dataset: Dataset, *, cache_dir: str | Path | None = None) -> PairFeatures:
    """The features of the records with a picture and a caption.

    Raises:
        DataError: fewer than two have both, or a picture cannot be read.
    """
    part = dataset.paired()
    if len(part) < 2:
        raise DataError(f"{len(part)} records of {dataset.name!r} have a picture and a caption; measuring needs two")
    cache = None if cache_dir is None else Path(cache_dir)
    return pair_features(hasher, part, cache_dir=cache, label="evaluation")


def encode_pairs(hasher: CrossModalHasher, pairs: PairFeatures) -> Coded:
    """As ``encode_dataset``, from features."""
    images, texts = logits_of(hasher, "image", pairs.image), logits_of(hasher, "text", pairs.text)
    relaxed = hasher.relaxed_of("image", images), hasher.relaxed_of("text", texts)
    labels = None if pairs.labels is None else pairs.labels.cpu().numpy()
    return Coded(
        pack(relaxed[0]),
        pack(relaxed[1]),
        hasher.n_bits,
        pairs.owners,
        labels=None if labels is None or not labels.any() else labels,
        floats=(images, texts),
        relaxed=relaxed,
    )


def check_lengths(hasher: CrossModalHasher, code_lengths: Collection[int] | None) -> tuple[int, ...]:
    """Code lengths in order, the model's own without.

    Raises:
        InputError: one that the model does not have.
    """
    lengths = tuple(sorted(set(code_lengths or hasher.code_lengths)))
    for length in lengths:
        if not 1 <= length <= hasher.n_bits:
            raise InputError(f"a code length of {length} bits cannot be cut from the model's {hasher.n_bits} bits")
    return lengths
