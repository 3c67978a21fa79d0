"""The model: two towers that turn one item each into one binary code.

A tower is encoder → adapter → mixers → pooler → hash head. Every part sees one item, never a pair: what a tower makes
may feed an index. A re-ranker scores pairs beside the towers, and no code depends on it. Knows nothing of losses,
optimisers, indexes or data sets.
"""

from __future__ import annotations

from hashret._lazy import require

require("torch", extra="learn")

from hashret.model.config import (  # noqa: E402
    HeadConfig,
    MixerConfig,
    ModelConfig,
    RerankerConfig,
    RoundingConfig,
    TowerConfig,
)
from hashret.model.hasher import CrossModalHasher  # noqa: E402
from hashret.model.outputs import TowerOutput, sign  # noqa: E402
from hashret.model.rerankers import Projected, Reranker  # noqa: E402
from hashret.model.rescoring import project_all, score_pairs  # noqa: E402
from hashret.model.tower import Tower  # noqa: E402

__all__ = [
    "CrossModalHasher",
    "HeadConfig",
    "MixerConfig",
    "ModelConfig",
    "Projected",
    "Reranker",
    "RerankerConfig",
    "RoundingConfig",
    "Tower",
    "TowerConfig",
    "TowerOutput",
    "project_all",
    "score_pairs",
    "sign",
]
