"""The searches of a collection: an index finds rows, and here they get their ids and metadata.

Each runs in one snapshot and writes nothing. Must not know how distances or scores are computed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from hashret.codes import Codes
from hashret.collection._check import Id
from hashret.collection._session import Session
from hashret.collection._where import compile_filter
from hashret.collection.results import CollectionAsymmetricHits, CollectionHits, CollectionRangeHits
from hashret.kernels.contract import Hits, Mask, RangeHits, check_queries

if TYPE_CHECKING:
    from hashret.index import AsymmetricHits, FlatIndex

    Found = TypeVar("Found", Hits, RangeHits, AsymmetricHits)


class Searches:
    """What ``Collection`` inherits to be searched with.

    Args:
        session: of the collection.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def search(
        self,
        queries: Codes,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        radius: int | None = None,
    ) -> CollectionHits:
        """The nearest items of each query, exactly, ordered by (distance, insertion).

        Args:
            queries: (Q, n_bytes) uint8 codes; a single one (n_bytes,) gives a one-row result.
            k: hits of a query; may exceed the number of items, up to 2^24 empty places in all.
            where: a filter on metadata, such as ``{"year": {"gte": 2019}}``. Operators on a field: eq (also
                ``{"year": 2019}``), ne, gt, gte, lt, lte, in, contains, exists, not. Between filters: and, or, not.
                ``"camera.make"`` walks into an object.
            radius: only items with at most this many differing bits.

        Raises:
            CodeError: the queries do not fit the width.
            InputError: ``k``, ``where`` or ``radius`` cannot be used.
        """
        queries = check_queries(queries, n_bits=self._session.about.n_bits)
        hits, ids, metadata = self._found(where, lambda index, mask: index.search(queries, k, mask=mask, radius=radius))
        return CollectionHits(ids, hits.distances, metadata)

    def range_search(
        self, queries: Codes, radius: int, *, where: Mapping[str, Any] | None = None
    ) -> CollectionRangeHits:
        """All items within a radius of each query, those of one query ordered by (distance, insertion).

        The result takes memory for each hit: a large radius finds most of the collection.

        Args:
            queries: (Q, n_bytes) uint8 codes, or a single one (n_bytes,).
            radius: largest number of differing bits that counts, inclusive.
            where: a filter on metadata, as in ``search``.

        Raises:
            CodeError: the queries do not fit the width.
            InputError: ``radius`` or ``where`` cannot be used.
        """
        queries = check_queries(queries, n_bits=self._session.about.n_bits)
        hits, ids, metadata = self._found(where, lambda index, mask: index.range_search(queries, radius, mask=mask))
        return CollectionRangeHits(hits.limits, ids, hits.distances, metadata)

    def search_asymmetric(
        self,
        relaxed: npt.ArrayLike,
        k: int = 10,
        *,
        oversample: int = 4,
        where: Mapping[str, Any] | None = None,
    ) -> CollectionAsymmetricHits:
        """The ``k * oversample`` nearest items by distance, of them the best ``k`` by asymmetric score.

        The floats of a query say how sure each of its bits is: among the same stored bits they find more than its code.

        Args:
            relaxed: (Q, n_bits) float queries, as an encoder gives with ``relaxed=True``; one (n_bits,) gives a
                one-row result.
            k: hits of a query, as in ``search``.
            oversample: how many times ``k`` candidates are scored, at least 1.
            where: a filter on metadata, as in ``search``.

        Raises:
            CodeError: the queries are no floats of this width, or hold NaN.
            InputError: ``k``, ``oversample`` or ``where`` cannot be used.
        """
        from hashret.index.asymmetric import check_relaxed  # as in View.index: opening does not need it

        queries = check_relaxed(relaxed, n_bits=self._session.about.n_bits)
        hits, ids, metadata = self._found(
            where, lambda index, mask: index.search_asymmetric(queries, k, oversample=oversample, mask=mask)
        )
        return CollectionAsymmetricHits(ids, hits.distances, metadata, hits.scores)

    def count(self, where: Mapping[str, Any] | None = None) -> int:
        """How many items match a filter, as in ``search``; all of them without one.

        Raises:
            InputError: ``where`` cannot be used.
        """
        condition = compile_filter(where)
        with self._session.reading() as view:
            return view.state.n_live if condition is None else int(np.count_nonzero(view.matching(condition)))

    def ids(self, where: Mapping[str, Any] | None = None) -> list[Id]:
        """The ids of the items that match a filter, in the order of insertion, such as those to ``delete``.

        Raises:
            InputError: ``where`` cannot be used.
        """
        condition = compile_filter(where)
        with self._session.reading() as view:
            if condition is None:
                return [id for _, ids, _ in view.everything() for id in ids]
            found: list[Id] = view.items(np.flatnonzero(view.matching(condition)))[0].tolist()
        return found

    def _found(
        self, where: Mapping[str, Any] | None, ask: Callable[[FlatIndex, Mask | None], Found]
    ) -> tuple[Found, npt.NDArray[np.object_], list[Any]]:
        """What ``ask`` finds, and the ids and the metadata of its rows in their shape, None where a row is -1."""
        condition = compile_filter(where)
        with self._session.reading() as view:
            hits = ask(view.index, view.mask if condition is None else view.matching(condition))
            found = hits.rows >= 0
            ids = np.full(hits.rows.shape, None, object)
            ids[found], texts = view.items(hits.rows[found])
        metadata = np.full(hits.rows.shape, None, object)
        metadata[found] = [metadata_of(text) for text in texts]
        return hits, ids, metadata.tolist()


def metadata_of(text: str | None) -> dict[str, Any]:
    """Metadata as they were given, of what the catalogue has of them."""
    return {} if text is None else json.loads(text)
