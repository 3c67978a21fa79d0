"""Instance retrieval: a picture's own captions, a caption's own picture; R@K, ranks and rSum in both directions.

Works on codes, on float features, and on relaxed queries against stored codes; knows nothing of models or data sets.
Distances are made block by block, so that no (images x captions) matrix exists.

Ties. Items at one distance come in no meaningful order, so each figure is the expected value over all their orders
(``ties="expected"``). The first distance at which a query has a correct item decides: with ``before`` items nearer,
``n`` items at that distance and ``r`` correct ones among them,

    R@K = 1 - C(n - r, J) / C(n, J),  J = min(n, K - before),  zero where J <= 0
    rank of the best correct item = before + (n + 1) / (r + 1)

``optimistic`` puts correct items first, ``pessimistic`` last, ``stable`` orders ties by row.

*Source:* McSherry and Najork, "Computing information retrieval performance measures efficiently in the presence of
tied scores", ECIR 2008; the protocol (R@K, MeanR, rSum, folds) is that of VSE++ (Faghri et al., BMVC 2018). MedR is the
plain median of expected ranks, counted from 1; VSE++ rounds it down: floor(median of ranks counted from 0) + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hashret.arrays import l2_normalised, matrix_of
from hashret.codes import check_codes, prefix, unpack
from hashret.errors import CodeError, DataError, InputError
from hashret.evaluation._tables import chance_of_a_hit
from hashret.evaluation.retrieval import CUTS, Direction, Retrieval
from hashret.kernels import hamming
from hashret.registry import nearest

Ties = Literal["expected", "optimistic", "pessimistic", "stable"]
Codes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

BLOCK_CELLS = 1 << 18  # distances in memory at a time: 1 MiB as int32 stays in the cache
FLOAT_TOLERANCE = 2e-6  # cosines closer than float32 matrix products can tell apart are ties


def check_ties(ties: str) -> None:
    """Refuse an unknown way of ordering ties."""
    if ties not in get_args(Ties):
        raise InputError(f"there is no tie order {ties!r}{nearest(ties, get_args(Ties))}")


def evaluate_codes(
    image_codes: Codes,
    text_codes: Codes,
    owner: ArrayLike,
    *,
    n_bits: int,
    code_lengths: Sequence[int] | None = None,
    ties: Ties = "expected",
) -> Retrieval:
    """Hamming retrieval of captions by pictures and pictures by captions.

    Args:
        image_codes: (I, n_bytes) uint8.
        text_codes: (M, n_bytes) uint8.
        owner: (M,) int64, the row of each caption's picture; a picture may have any number of captions.
        n_bits: length of the codes.
        code_lengths: prefixes of nested codes to evaluate as well; found in ``Retrieval.by_length``.
        ties: "expected" over all tie orders, "optimistic", "pessimistic" or "stable" (by row).

    Raises:
        CodeError: codes of the wrong width, or a code length above ``n_bits``.
        DataError: owners that point at no picture.
        InputError: an unknown tie order.
    """
    check_ties(ties)
    image_codes = check_codes(image_codes, n_bits=n_bits, what="image codes")
    text_codes = check_codes(text_codes, n_bits=n_bits, what="text codes")
    owners = check_owner(owner, len(image_codes), len(text_codes))
    lengths = () if code_lengths is None else sorted({int(length) for length in code_lengths})
    for length in lengths:
        if not 0 < length <= n_bits:
            raise CodeError(f"a code length of {length} bits cannot be cut from codes of {n_bits} bits")

    def at(length: int) -> Retrieval:
        images = prefix(image_codes, n_bits=length) if length < n_bits else image_codes
        texts = prefix(text_codes, n_bits=length) if length < n_bits else text_codes
        own = np.bitwise_count(images[owners] ^ texts).sum(axis=1, dtype=np.int32)
        blocks = ((rows, hamming(images[rows], texts)) for rows in _blocks(len(images), len(texts)))
        return _both_ways(blocks, own, owners, len(images), ties=ties, tolerance=0, n_bits=length)

    full = at(n_bits)
    if not lengths:
        return full
    return full.with_lengths({length: full if length == n_bits else at(length) for length in lengths})


def evaluate_floats(
    image_features: ArrayLike, text_features: ArrayLike, owner: ArrayLike, *, ties: Ties = "expected"
) -> Retrieval:
    """Cosine retrieval with float features: the ceiling that codes are measured against.

    Args:
        image_features: (I, D) float; normalised here.
        text_features: (M, D) float.
        owner: (M,) int64, the row of each caption's picture.
        ties: as in ``evaluate_codes``; cosines within 2e-6 are ties.

    Raises:
        DataError: shapes that do not fit, or values that are not finite.
    """
    check_ties(ties)
    images, texts = unit_rows(image_features, "image features"), unit_rows(text_features, "text features")
    _check_width(images, texts)
    owners = check_owner(owner, len(images), len(texts))
    own = -np.einsum("md,md->m", images[owners], texts)
    blocks = ((rows, -(images[rows] @ texts.T)) for rows in _blocks(len(images), len(texts)))
    return _both_ways(blocks, own, owners, len(images), ties=ties, tolerance=FLOAT_TOLERANCE, n_bits=None)


def evaluate_asymmetric(
    image_relaxed: ArrayLike,
    text_relaxed: ArrayLike,
    image_codes: Codes,
    text_codes: Codes,
    owner: ArrayLike,
    *,
    n_bits: int,
    ties: Ties = "expected",
) -> Retrieval:
    """A relaxed query against stored codes: the same bytes in the index, a finer order.

    The score of query q and code b is ``Σ_k q_k (2 b_k - 1)``.

    Args:
        image_relaxed: (I, n_bits) float, queries of image→text.
        text_relaxed: (M, n_bits) float, queries of text→image.
        image_codes: (I, n_bytes) uint8, what text→image searches.
        text_codes: (M, n_bytes) uint8, what image→text searches.
        owner: (M,) int64, the row of each caption's picture.
        n_bits: length of the codes.
        ties: as in ``evaluate_codes``.

    Raises:
        CodeError: codes of the wrong width.
        DataError: shapes that do not fit, or values that are not finite.
    """
    check_ties(ties)
    stored_images, stored_texts = (
        unit_rows(unpack(check_codes(codes, n_bits=n_bits, what=what), n_bits=n_bits) * 2.0 - 1.0, what)
        for codes, what in ((image_codes, "image codes"), (text_codes, "text codes"))
    )
    images, texts = unit_rows(image_relaxed, "relaxed image codes"), unit_rows(text_relaxed, "relaxed text codes")
    _check_width(images, stored_texts)
    _check_width(texts, stored_images)
    for relaxed, stored, what in ((images, stored_images, "image"), (texts, stored_texts, "text")):
        if len(relaxed) != len(stored):
            raise DataError(
                f"there are {len(relaxed):,} relaxed {what} codes and {len(stored):,} stored ones; row i of both is "
                f"one item"
            )
    owners = check_owner(owner, len(stored_images), len(stored_texts))
    halves = []
    for left, right, keep in ((images, stored_texts, "i2t"), (stored_images, texts, "t2i")):
        own = -np.einsum("md,md->m", left[owners], right)
        blocks = ((rows, -(left[rows] @ right.T)) for rows in _blocks(len(left), len(right)))
        both = _both_ways(blocks, own, owners, len(left), ties=ties, tolerance=FLOAT_TOLERANCE, n_bits=n_bits)
        halves.append(getattr(both, keep))
    return Retrieval(i2t=halves[0], t2i=halves[1], chance=chance(owners, len(images)), ties=ties, n_bits=n_bits)


def evaluate_folds(
    evaluate: Callable[..., Retrieval],
    images: NDArray[np.generic],
    texts: NDArray[np.generic],
    owner: ArrayLike,
    *,
    fold_images: int = 1000,
    **options: object,
) -> Retrieval:
    """The mean over folds of consecutive pictures; with 1,000 of MSCOCO's 5,000 test pictures, its "1K five-fold".

    Args:
        evaluate: ``evaluate_codes`` or ``evaluate_floats``.
        images: (I, …) codes or features.
        texts: (M, …) codes or features.
        owner: (M,) int64, the row of each caption's picture.
        fold_images: pictures in a fold; the rest of an incomplete last fold is an error, not a smaller fold.
        options: handed to ``evaluate``.

    Raises:
        DataError: the pictures do not divide into whole folds.
    """
    owners = check_owner(owner, len(images), len(texts))
    if fold_images < 1 or len(images) % fold_images or not len(images):
        raise DataError(f"{len(images):,} pictures do not divide into folds of {fold_images:,}")
    results = []
    for start in range(0, len(images), fold_images):
        captions = np.flatnonzero((owners >= start) & (owners < start + fold_images))
        here = images[start : start + fold_images]
        results.append(evaluate(here, texts[captions], owners[captions] - start, **options))
    return Retrieval.mean(results)


def chance(owner: ArrayLike, n_images: int) -> dict[str, dict[str, float]]:
    """What a random order gives, exactly, for any number of captions a picture.

    Returns:
        ``{"i2t": {"R@1": …, "R@5": …, "R@10": …, "MeanR": …}, "t2i": {…}}``, R@K in percent.
    """
    owners = check_owner(owner, n_images, np.size(owner))
    captions = np.bincount(owners, minlength=n_images)
    return {
        "i2t": _chance(np.full(n_images, len(owners)), captions),
        "t2i": _chance(np.full(len(owners), n_images), np.ones(len(owners), np.int64)),
    }


def _chance(n_items: Rows, correct: Rows) -> dict[str, float]:
    if not len(n_items):
        return {f"R@{k}": 0.0 for k in CUTS} | {"MeanR": float("nan")}
    figures = {f"R@{k}": 100.0 * float(chance_of_a_hit(n_items, correct, k).mean()) for k in CUTS}
    some = correct > 0
    figures["MeanR"] = float(((n_items[some] + 1) / (correct[some] + 1)).mean()) if some.any() else float("nan")
    return figures


def _both_ways(
    blocks: Iterator[tuple[slice, NDArray[Any]]],
    own: NDArray[Any],
    owner: Rows,
    n_images: int,
    *,
    ties: Ties,
    tolerance: float,
    n_bits: int | None,
) -> Retrieval:
    """Both directions from one pass over blocks of distances (rows of pictures, all captions).

    ``own`` is (M,), each caption's distance to its picture. A distance within ``tolerance`` of another ties with it.
    """
    n_texts = len(own)
    best = np.full(n_images, np.inf if tolerance else np.iinfo(own.dtype).max, dtype=own.dtype)
    np.minimum.at(best, owner, own)
    at_best = own <= best[owner] + tolerance
    correct = np.bincount(owner[at_best], minlength=n_images)  # of each picture, its captions at the best distance
    first = np.full(n_images, n_texts, dtype=np.int64)
    np.minimum.at(first, owner[at_best], np.flatnonzero(at_best))

    image_before, image_level = np.zeros((2, n_images), dtype=np.int64)
    text_before, text_level = np.zeros((2, n_texts), dtype=np.int64)
    for rows, distances in blocks:
        limit = best[rows, None]
        nearer = distances < limit - tolerance
        level = (distances <= limit + tolerance) & ~nearer if tolerance else distances == limit
        image_before[rows] = nearer.sum(axis=1)
        if ties == "stable":
            level &= np.arange(n_texts) <= first[rows, None]
        image_level[rows] = level.sum(axis=1)
        nearer = distances < own - tolerance
        level = (distances <= own + tolerance) & ~nearer if tolerance else distances == own
        text_before += nearer.sum(axis=0)
        if ties == "stable":
            level &= np.arange(rows.start, rows.stop)[:, None] <= owner
        text_level += level.sum(axis=0)

    return Retrieval(
        i2t=_direction(image_before, image_level, correct, ties, n_items=n_texts),
        t2i=_direction(text_before, text_level, np.ones(n_texts, np.int64), ties, n_items=n_images),
        chance=chance(owner, n_images),
        ties=ties,
        n_bits=n_bits,
    )


def _direction(before: Rows, level: Rows, correct: Rows, ties: Ties, *, n_items: int) -> Direction:
    """The figures of one direction; for ``stable``, ``level`` counts ties up to and with the first correct item."""
    found = correct > 0
    places = None
    if ties == "expected":
        places = {
            name: each.astype(np.float64)
            for name, each in {"before": before, "level": level, "correct": correct}.items()
        }
        hits = {k: chance_of_a_hit(level, correct, k - before) for k in CUTS}
        ranks = before + (level + 1) / (correct + 1)
    else:
        place = {"optimistic": np.ones_like(level), "pessimistic": level - correct + 1, "stable": level}[ties]
        ranks = (before + place).astype(np.float64)
        hits = {k: (found & (ranks <= k)).astype(np.float64) for k in CUTS}
    return Direction.of(hits, np.where(found, ranks, np.nan), n_items=n_items, places=places)


def _blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    step = max(1, BLOCK_CELLS // max(1, n_columns))
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def check_owner(owner: ArrayLike, n_images: int, n_texts: int) -> Rows:
    owners = np.asarray(owner)
    if owners.shape != (n_texts,) or (owners.dtype.kind not in "iu" and owners.size):
        raise DataError(
            f"owner gives the picture's row of each of {n_texts:,} captions; it has shape {owners.shape} and "
            f"dtype {owners.dtype}, where ({n_texts},) integers are expected"
        )
    if n_texts and (owners.min() < 0 or owners.max() >= n_images):
        raise DataError(
            f"owner holds rows from {owners.min()} to {owners.max()}, and there are {n_images:,} pictures "
            f"(rows 0 to {n_images - 1})"
        )
    return owners.astype(np.int64, copy=False)


def unit_rows(features: ArrayLike, what: str) -> Floats:
    """Rows of length 1; zero rows stay zero.

    Raises:
        DataError: no matrix, or values that are not finite.
    """
    values = matrix_of(features, what)
    largest = np.abs(values).max(axis=1, keepdims=True, initial=0.0)
    values = values / np.where(largest > 0, largest, 1.0)  # so that no square leaves float32
    return np.ascontiguousarray(l2_normalised(values), dtype=np.float32)


def _check_width(left: Floats, right: Floats) -> None:
    if left.shape[1] != right.shape[1]:
        raise DataError(f"queries are {left.shape[1]} wide and items {right.shape[1]}; both must live in one space")
