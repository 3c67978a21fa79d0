"""Baselines over features: what a learned hasher has to beat, each a class with ``fit`` and ``encode_…``.

    method = build("cca-itq", n_bits=64).fit(image_features, text_features)
    codes = method.encode_images(features)               # (N, 8) uint8

Paired float features in, codes out; numpy and scipy only. A new method is one class and one line here.
"""

from __future__ import annotations

from typing import Any

from hashret.baselines.base import Affine, Baseline
from hashret.registry import Registry

__all__ = ["BASELINES", "Affine", "Baseline", "build"]

BASELINES = Registry(
    "baseline",
    {
        "random": "hashret.baselines.simple:RandomCodes",
        "lsh": "hashret.baselines.simple:LSH",
        "sign": "hashret.baselines.simple:Sign",
        "median": "hashret.baselines.simple:Median",
        "ubinary": "hashret.baselines.simple:Ubinary",
        "pca-itq": "hashret.baselines.itq:ITQ",
        "rabitq": "hashret.baselines.rabitq:RaBitQ",
        "cca-lsh": "hashret.baselines.simple:CCALSH",
        "cca-sign": "hashret.baselines.simple:CCASign",
        "cca-itq": "hashret.baselines.itq:CCAITQ",
        "cmfh": "hashret.baselines.cmfh:CMFH",
        "cmssh": "hashret.baselines.cmssh:CMSSH",
        "fsh": "hashret.baselines.fsh:FSH",
        "scm-orth": "hashret.baselines.scm:SCMOrth",
        "scm-seq": "hashret.baselines.scm:SCMSeq",
        "seph": "hashret.baselines.seph:SePH",
    },
)


def build(name: str, *, n_bits: int, seed: int = 0, **options: Any) -> Baseline:
    """The baseline called ``name``, ready for ``fit``.

    Args:
        name: see ``BASELINES.names()``.
        n_bits: length of the codes.
        seed: of everything random.
        options: further arguments of its class.

    Raises:
        ConfigError: no such baseline.
        InputError: a length that codes cannot have.
    """
    method: Baseline = BASELINES.load(name)(n_bits=n_bits, seed=seed, **options)
    return method
