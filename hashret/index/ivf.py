"""Inverted lists on FAISS: the codes are divided among k-means cells, and a query looks at the nearest cells only.

Approximate. Adds and searches go to FAISS; filters, which it refuses here, are done around it by asking for more and
dropping what the mask hides. Must not know of other indexes than the exact one beside it.

*Source:* IndexBinaryIVF, Douze et al., The Faiss library, arXiv:2401.08281, sections 5.1 and 6.3.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hashret.codes import Codes
from hashret.errors import InputError
from hashret.index.approximate import ApproximateIndex
from hashret.kernels import get_num_threads
from hashret.kernels._faiss import faiss_threads, load_faiss
from hashret.kernels.contract import Mask, check_whole

_LEAST = 4096  # codes; below, a scan takes less time than choosing cells
_SAMPLE = 40  # codes of each cell that k-means sees
_ROUNDS = 8  # of k-means


class IVFIndex(ApproximateIndex):
    """Approximate search in inverted lists.

    The cells are found on the first search, or by ``build``, which also renews them when the codes have grown or
    changed their kind. With fewer than 4,096 codes a search is an exact scan.

    Args:
        n_bits: width of the codes.
        lists: number of cells; None = 4 * sqrt(N) when they are found.
        probes: cells that a query looks at; more are slower and find more.

    Raises:
        InputError: a parameter is no whole number of at least 1.
    """

    kind = "ivf"

    def __init__(self, n_bits: int, *, lists: int | None = None, probes: int = 32) -> None:
        super().__init__(n_bits)
        self._lists = None if lists is None else check_whole(lists, "lists")
        self._probes = check_whole(probes, "probes")

    @property
    def lists(self) -> int | None:
        """Number of cells; None before they were found."""
        return int(self._faiss.nlist) if self._faiss is not None else self._lists

    @property
    def probes(self) -> int:
        """Cells that a query looks at; may be set.

        More are slower and find more; with all of ``lists`` it misses nothing.

        Raises:
            InputError: on setting what is no whole number of at least 1.
        """
        return self._probes

    @probes.setter
    def probes(self, probes: int) -> None:
        self._probes = check_whole(probes, "probes")
        if self._faiss is not None:
            self._faiss.nprobe = self._probes

    def _build(self) -> Any:
        count = len(self)
        if count < _LEAST:
            return None
        lists = self._lists or int(4 * math.sqrt(count))
        if lists > count:
            raise InputError(f"{count} codes cannot be divided among {lists} lists; ask for fewer lists")
        faiss = load_faiss()
        n_bits = 8 * self.codes.shape[1]
        quantizer = faiss.IndexBinaryFlat(n_bits)
        structure = faiss.IndexBinaryIVF(quantizer, n_bits, lists)
        quantizer.this.disown()
        structure.own_fields = True
        structure.cp.niter, structure.cp.min_points_per_centroid = _ROUNDS, 1
        sample = np.random.default_rng(0).permutation(count)[: _SAMPLE * lists]
        with faiss_threads(get_num_threads()):
            structure.train(np.take(self.codes, np.sort(sample), axis=0))
            structure.add(self.codes)
        structure.nprobe = self._probes
        return structure

    def _find(self, queries: Codes, k: int, mask: Mask | None) -> tuple[Any, Any]:
        wanted = k
        if mask is not None:  # as many more as the mask will drop, and a quarter for chance
            wanted = min(len(mask), math.ceil(1.25 * k * len(mask) / np.count_nonzero(mask)) + 8)
        return self._faiss.search(queries, wanted)  # type: ignore[no-any-return]

    def _restore(self, structure: Any) -> None:
        self._lists, self._probes = int(structure.nlist), int(structure.nprobe)
