"""Indexes over packed codes behind one contract.

``FlatIndex`` scans, exactly, and is the reference. Must not know of ids, metadata or models.
"""

from __future__ import annotations

from hashret.index.asymmetric import AsymmetricHits, rescore
from hashret.index.contract import CodeIndex
from hashret.index.flat import FlatIndex
from hashret.kernels import Hits, RangeHits

__all__ = ["AsymmetricHits", "CodeIndex", "FlatIndex", "Hits", "RangeHits", "rescore"]
