"""A learned hash head over float features of your own: CLIP, SigLIP or anything else that comes in pairs.

Calls the parts and the loop of every trained system; knows nothing of pictures and words. ``TRAINED`` names every
head that learns this way, hashret's own and those of the literature, as ``hashret.baselines.BASELINES`` does for
methods that need no torch.
"""

from __future__ import annotations

from hashret._lazy import require

require("torch", extra="learn")

from hashret.feature_hasher.hasher import FeatureHasher  # noqa: E402
from hashret.registry import Registry  # noqa: E402

__all__ = ["TRAINED", "FeatureHasher"]

TRAINED = Registry(
    "trained head",
    {
        "cmdn": "hashret.feature_hasher.literature:CMDN",
        "djsrh": "hashret.feature_hasher.literature:DJSRH",
        "dsph": "hashret.feature_hasher.literature:DSPH",
        "feature-hasher": "hashret.feature_hasher.hasher:FeatureHasher",
        "ucch": "hashret.feature_hasher.literature:UCCH",
    },
)
