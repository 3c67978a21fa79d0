"""What a model's re-ranker is worth on pairs: retrieval by codes, before and after its first k are re-ranked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hashret.codes import pack
from hashret.data import Dataset
from hashret.errors import InputError
from hashret.evaluation import Retrieval, evaluate_codes, evaluate_reranked, reorder
from hashret.kernels import search
from hashret.model import CrossModalHasher, Projected, TowerOutput, project_all, score_pairs
from hashret.model.rescoring import required
from hashret.training.measure import pairs_of
from hashret.training.pairs import FeatureTable, PairFeatures
from hashret.training.validation import batches

COSINE_ROWS = 8192  # pairs whose vectors are in memory at a time


@dataclass(frozen=True)
class Reranking:
    """Both stages on the same queries; items at one distance are ordered by row in both, so that they compare.

    Attributes:
        k: candidates of a query that were re-ranked.
        n_bits: length of the codes that found them.
        before: the order by code distance.
        floats: the same with the first ``k`` in the order of the cosine of both float vectors, which the re-ranker
            starts from: what it adds to that, it has from tokens.
        after: the same with the first ``k`` in the re-ranker's order. ``i2t.per_query`` and ``t2i.per_query`` of both
            hold a value a query, for ``hashret.evaluation.paired_test``.
    """

    k: int
    n_bits: int
    before: Retrieval
    floats: Retrieval
    after: Retrieval

    def to_dict(self) -> dict[str, Any]:
        """Plain figures, ready for JSON."""
        stages = {name: getattr(self, name).to_dict() for name in ("before", "floats", "after")}
        return {"k": self.k, "n_bits": self.n_bits, **stages}


def measure_reranked(
    hasher: CrossModalHasher,
    dataset: Dataset,
    *,
    n_bits: int | None = None,
    k: int = 20,
    cache_dir: str | Path | None = None,
) -> Reranking:
    """As ``rerank_figures``, from the pictures and captions of ``dataset``.

    Args:
        hasher: with a re-ranker.
        dataset: records with pictures and captions; one without either is left out.
        n_bits: length of the codes; None: the whole code.
        k: candidates of a query.
        cache_dir: where features are kept; None: the default of ``hashret.encoders``.

    Raises:
        DataError: fewer than two records have a picture and a caption, or a picture cannot be read.
        InputError: as ``rerank_figures``.
    """
    return rerank_figures(hasher, pairs_of(hasher, dataset, cache_dir=cache_dir), n_bits=n_bits, k=k)


def rerank_figures(
    hasher: CrossModalHasher, pairs: PairFeatures, *, n_bits: int | None = None, k: int = 20
) -> Reranking:
    """Retrieval by codes in both directions, before and after the nearest ``k`` of each query are re-ranked.

    The re-ranker reads tokens and whole float vectors, whatever the length of the codes that found the candidates.
    What it reads of an item is kept as float16 on the CPU (tokens x its width x 2 bytes); pairs are scored in batches.

    Args:
        hasher: with a re-ranker.
        pairs: pictures and captions.
        n_bits: length of the codes; None: the whole code.
        k: candidates of a query.

    Raises:
        InputError: the model has no re-ranker, or a length or ``k`` out of range.
    """
    required(hasher)  # said before anything is encoded
    n_bits = hasher.n_bits if n_bits is None else n_bits
    if not 1 <= n_bits <= hasher.n_bits or k < 1:
        raise InputError(
            f"re-ranking needs k of at least 1 and codes of 1 to {hasher.n_bits} bits, not {k} and {n_bits}"
        )
    image_codes, images = _items(hasher, "image", pairs.image, n_bits=n_bits)
    text_codes, texts = _items(hasher, "text", pairs.text, n_bits=n_bits)
    captions = search(text_codes, image_codes, min(k, len(text_codes)), n_bits=n_bits).rows
    pictures = search(image_codes, text_codes, min(k, len(image_codes)), n_bits=n_bits).rows
    ways = {  # the image and the text row of each candidate
        "captions": (captions, _queries(captions), captions.reshape(-1)),
        "pictures": (pictures, pictures.reshape(-1), _queries(pictures)),
    }
    before = evaluate_codes(image_codes, text_codes, pairs.owners, n_bits=n_bits, ties="stable")

    def ordered_by(score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Retrieval:
        lists = {name: reorder(rows, score(*pair).reshape(rows.shape)) for name, (rows, *pair) in ways.items()}
        return evaluate_reranked(before, **lists, owner=pairs.owners)

    return Reranking(
        k,
        n_bits,
        before=before,
        floats=ordered_by(lambda i, t: _cosines(images, texts, i, t)),
        after=ordered_by(lambda i, t: score_pairs(hasher, images, texts, i, t)),
    )


def _items(
    hasher: CrossModalHasher, modality: str, table: FeatureTable, *, n_bits: int
) -> tuple[np.ndarray, Projected]:
    """Codes of a whole table, and what the re-ranker reads of it, from one pass."""
    codes: list[np.ndarray] = []

    def outputs() -> Iterator[TowerOutput]:
        for output in hasher.project(modality, batches(table, batch_size=256)):
            codes.append(pack(hasher.relaxed_of(modality, output.logits.cpu().numpy(), n_bits)))
            yield output

    projected = project_all(hasher, modality, outputs())
    return np.concatenate(codes), projected


def _queries(lists: np.ndarray) -> np.ndarray:
    """The query of each entry of (Q, k) lists, (Q·k,)."""
    return np.repeat(np.arange(len(lists)), lists.shape[1])


def _cosines(images: Projected, texts: Projected, image_rows: np.ndarray, text_rows: np.ndarray) -> np.ndarray:
    """(P,) float32 cosines of the float vectors of pairs."""
    left, right = images.vector.float().numpy(), texts.vector.float().numpy()
    cosines = np.empty(len(image_rows), dtype=np.float32)
    for begin in range(0, len(cosines), COSINE_ROWS):
        part = slice(begin, begin + COSINE_ROWS)
        cosines[part] = np.einsum("pd,pd->p", left[image_rows[part]], right[text_rows[part]])
    return cosines
