"""Encoders: pictures and words to features, with pretrained weights from wherever they can be had.

    encoder = build_encoder(EncoderConfig(kind="text", name="all-MiniLM-L6-v2"))
    encoded = encoder(encoder.prepare(["a dog on a beach"]))        # Encoded(tokens, mask, pooled)
    cached = cached_prefix(encoder, captions, label="captions")     # computed once, memory-mapped ever after

Needs torch; timm or transformers are imported when an encoder of that kind is built. Knows nothing of hash heads,
losses or data sets.
"""

from __future__ import annotations

from hashret._lazy import require

require("torch", extra="learn")

from hashret.encoders.base import Encoded, Encoder, EncoderConfig  # noqa: E402
from hashret.encoders.build import KINDS, build_encoder, load_encoder, save_encoder  # noqa: E402
from hashret.encoders.cache import CachedFeatures, cached_prefix  # noqa: E402
from hashret.encoders.providers import PROVIDERS, Provider  # noqa: E402

__all__ = [
    "KINDS",
    "PROVIDERS",
    "CachedFeatures",
    "Encoded",
    "Encoder",
    "EncoderConfig",
    "Provider",
    "build_encoder",
    "cached_prefix",
    "load_encoder",
    "save_encoder",
]
