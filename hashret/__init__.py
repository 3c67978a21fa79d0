"""hashret: search images with words, and words with images, at a few bytes an item.

Everything public is in ``__all__`` and is imported on first use: ``import hashret`` loads the standard library only,
searching loads numpy, and faiss only for ``IVFIndex``, ``HNSWIndex`` or where the C kernels are missing; only learning,
and encoding without an ONNX export, load torch.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hashret.codes import pack, unpack
    from hashret.collection import Collection
    from hashret.engine import Engine
    from hashret.errors import HashretError
    from hashret.feature_hasher import FeatureHasher
    from hashret.index import AutoIndex, FlatIndex, HNSWIndex, IVFIndex, MIHIndex
    from hashret.kernels import get_num_threads, hamming, set_num_threads
    from hashret.model import CrossModalHasher

_HOMES = {
    "AutoIndex": "hashret.index",
    "Collection": "hashret.collection",
    "CrossModalHasher": "hashret.model",
    "Engine": "hashret.engine",
    "FeatureHasher": "hashret.feature_hasher",
    "FlatIndex": "hashret.index",
    "HNSWIndex": "hashret.index",
    "HashretError": "hashret.errors",
    "IVFIndex": "hashret.index",
    "MIHIndex": "hashret.index",
    "get_num_threads": "hashret.kernels",
    "hamming": "hashret.kernels",
    "pack": "hashret.codes",
    "set_num_threads": "hashret.kernels",
    "unpack": "hashret.codes",
}

__all__ = [
    "AutoIndex",
    "Collection",
    "CrossModalHasher",
    "Engine",
    "FeatureHasher",
    "FlatIndex",
    "HNSWIndex",
    "HashretError",
    "IVFIndex",
    "MIHIndex",
    "get_num_threads",
    "hamming",
    "pack",
    "set_num_threads",
    "unpack",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("hashret")
    if name not in _HOMES:
        raise AttributeError(f"module 'hashret' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
