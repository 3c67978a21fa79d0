"""The model: two towers that turn one item each into one binary code.

A tower is encoder → adapter → mixers → pooler → hash head. Every part sees one item, never a pair: what a tower makes
may feed an index. Knows nothing of losses, optimisers, indexes or data sets.
"""

from __future__ import annotations

from hashret.model.config import HeadConfig, MixerConfig, ModelConfig, TowerConfig
from hashret.model.hasher import CrossModalHasher
from hashret.model.outputs import TowerOutput, sign
from hashret.model.tower import Tower

__all__ = [
    "CrossModalHasher",
    "HeadConfig",
    "MixerConfig",
    "ModelConfig",
    "Tower",
    "TowerConfig",
    "TowerOutput",
    "sign",
]
