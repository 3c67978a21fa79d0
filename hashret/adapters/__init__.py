"""hashret inside other people's programs; each adapter needs its library, and is imported when it is asked for.

    SentenceEncoder       a model with sentence-transformers' ``encode``            (needs no library)
    HashretVectorStore    LangChain's vector store over a collection                extra ``langchain``
    HashretEmbeddings     a model as LangChain's embeddings                         extra ``langchain``
    HammingNeighbors      scikit-learn's nearest neighbours over codes              extra ``sklearn``
    write_shards          tar shards as the package webdataset reads them           (needs no library)

Thin on purpose: an adapter translates names and shapes, and has no search or storage of its own. The files of other
programs are read by ``hashret.data`` (tar shards among them) and by ``Collection.import_from`` (npy, npz, parquet).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hashret.adapters.langchain import HashretEmbeddings, HashretVectorStore
    from hashret.adapters.sentence_transformers import SentenceEncoder
    from hashret.adapters.sklearn import HammingNeighbors
    from hashret.adapters.webdataset import write_shards

_HOMES = {
    "HammingNeighbors": "hashret.adapters.sklearn",
    "HashretEmbeddings": "hashret.adapters.langchain",
    "HashretVectorStore": "hashret.adapters.langchain",
    "SentenceEncoder": "hashret.adapters.sentence_transformers",
    "write_shards": "hashret.adapters.webdataset",
}

__all__ = ["HammingNeighbors", "HashretEmbeddings", "HashretVectorStore", "SentenceEncoder", "write_shards"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hashret.adapters' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
