"""Indexes over packed codes behind one contract.

``FlatIndex`` scans, exactly, and is the reference; ``MIHIndex`` is exact too and need not read every code;
``AutoIndex`` chooses between the two; ``IVFIndex`` and ``HNSWIndex`` are approximate and report their recall.
Must not know of ids, metadata or models.
"""

from __future__ import annotations

from hashret.index.asymmetric import AsymmetricHits, rescore
from hashret.index.auto import AutoIndex, AutoInfo
from hashret.index.contract import CodeIndex
from hashret.index.flat import FlatIndex
from hashret.index.hnsw import HNSWIndex
from hashret.index.ivf import IVFIndex
from hashret.index.kinds import INDEXES, open_index
from hashret.index.mih import MIHIndex, MIHStats
from hashret.kernels import Hits, RangeHits

__all__ = [
    "INDEXES",
    "AsymmetricHits",
    "AutoIndex",
    "AutoInfo",
    "CodeIndex",
    "FlatIndex",
    "HNSWIndex",
    "Hits",
    "IVFIndex",
    "MIHIndex",
    "MIHStats",
    "RangeHits",
    "open_index",
    "rescore",
]
