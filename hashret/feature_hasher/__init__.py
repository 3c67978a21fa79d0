"""A learned hash head over float features of your own: CLIP, SigLIP or anything else that comes in pairs.

Calls the parts and the loop of every trained system; knows nothing of pictures and words.
"""

from __future__ import annotations

from hashret.feature_hasher.hasher import FeatureHasher

__all__ = ["FeatureHasher"]
