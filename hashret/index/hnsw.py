"""A navigable small-world graph on FAISS: a query walks from code to nearer code.

Approximate, and large: about 8 * links bytes a code beside the codes. Building takes minutes a million codes; with more
than one thread the graph differs a little from build to build (``set_num_threads(1)`` makes it repeatable). FAISS has
no range search here, which is done by an exact scan, and cannot remove, which no index here does: hide rows
with a mask. Must not know of other indexes than the exact one beside it.

*Source:* Malkov, Yashunin: Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small
World graphs, TPAMI 2020; IndexBinaryHNSW of FAISS.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hashret.codes import Codes
from hashret.errors import InputError
from hashret.index.approximate import ApproximateIndex
from hashret.kernels import get_num_threads
from hashret.kernels._faiss import faiss_threads, load_faiss
from hashret.kernels.contract import Mask, check_whole

_MOST_LINKS = 1024  # 8 KB a code; far more would end FAISS in C++


class HNSWIndex(ApproximateIndex):
    """Approximate search in a graph.

    Args:
        n_bits: width of the codes.
        links: neighbours of a code in the graph, twice as many on its lowest level.
        ef_construction: candidates kept while a code is linked; more give a better graph, slower.
        ef_search: candidates kept by a query; more are slower and find more.

    Raises:
        InputError: a parameter is no whole number of at least 1 (``links``: 2, and at most 1,024).
    """

    kind = "hnsw"

    def __init__(self, n_bits: int, *, links: int = 16, ef_construction: int = 64, ef_search: int = 64) -> None:
        super().__init__(n_bits)
        self._links = check_whole(links, "links", least=2)
        if self._links > _MOST_LINKS:
            raise InputError(f"links must be at most {_MOST_LINKS}, not {links!r}; 16 to 64 are usual")
        self._ef_construction = check_whole(ef_construction, "ef_construction")
        self._ef_search = check_whole(ef_search, "ef_search")

    @property
    def ef_search(self) -> int:
        """Candidates kept by a query; may be set.

        More are slower and find more; a query keeps ``k`` at least.

        Raises:
            InputError: on setting what is no whole number of at least 1.
        """
        return self._ef_search

    @ef_search.setter
    def ef_search(self, ef_search: int) -> None:
        self._ef_search = check_whole(ef_search, "ef_search")
        if self._faiss is not None:
            self._faiss.hnsw.efSearch = self._ef_search

    def _build(self) -> Any:
        structure = load_faiss().IndexBinaryHNSW(8 * self.codes.shape[1], self._links)
        structure.hnsw.efConstruction, structure.hnsw.efSearch = self._ef_construction, self._ef_search
        with faiss_threads(get_num_threads()):
            structure.add(self.codes)
        return structure

    def _find(self, queries: Codes, k: int, mask: Mask | None) -> tuple[Any, Any]:
        faiss = load_faiss()
        parameters = faiss.SearchParametersHNSW()
        parameters.efSearch = max(self._ef_search, k)
        if mask is not None:
            bits = np.packbits(mask, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))  # both must outlive the search
            parameters.sel = selector
        return self._faiss.search(queries, k, params=parameters)  # type: ignore[no-any-return]

    def _restore(self, structure: Any) -> None:
        self._links = int(structure.hnsw.nb_neighbors(1))
        self._ef_construction, self._ef_search = int(structure.hnsw.efConstruction), int(structure.hnsw.efSearch)
