"""Re-rankers: how well one picture and one text match, from the tokens of both.

A re-ranker scores pairs, so nothing of it may reach a code or an index: it puts the few items that codes found into a
better order. Knows what towers give, and nothing of codes, indexes or losses.
"""

from __future__ import annotations

from hashret.model.rerankers.base import Projected, Reranker
from hashret.registry import Registry

RERANKERS = Registry(
    "re-ranker",
    {
        "fusion": "hashret.model.rerankers.fusion:FusionReranker",
        "graph": "hashret.model.rerankers.graph:GraphReranker",
    },
)

__all__ = ["RERANKERS", "Projected", "Reranker"]
