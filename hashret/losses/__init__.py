"""Training losses: one file a family, each with its formula and its source.

A loss sees one batch (``BatchOutputs``) and gives one number. It knows torch and nothing of encoders, models, data
or stages: what a tower made is read through the ``Side`` protocol. Add a loss with one file and one line below.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hashret._lazy import require

require("torch", extra="learn")

from hashret.config import build  # noqa: E402
from hashret.losses.base import BatchOutputs, Dims, Keys, Loss, Need, PrefixLoss, Side  # noqa: E402
from hashret.registry import Registry  # noqa: E402

__all__ = ["LOSSES", "BatchOutputs", "Dims", "Keys", "Loss", "Need", "PrefixLoss", "Side", "build_loss"]

LOSSES = Registry(
    "loss",
    {
        "adversary": "hashret.losses.adversary:Adversary",
        "balance": "hashret.losses.bits:Balance",
        "binary_memory": "hashret.losses.ucch:BinaryMemory",
        "decorrelation": "hashret.losses.bits:Decorrelation",
        "distillation": "hashret.losses.distillation:Distillation",
        "infonce": "hashret.losses.infonce:InfoNCE",
        "joint_infonce": "hashret.losses.infonce:JointInfoNCE",
        "joint_semantics": "hashret.losses.djsrh:JointSemantics",
        "label_bce": "hashret.losses.labels:LabelBCE",
        "local_mi": "hashret.losses.local_mi:LocalMI",
        "matching": "hashret.losses.matching:Matching",
        "momentum_contrast": "hashret.losses.momentum:MomentumContrast",
        "pair_likelihood": "hashret.losses.pairs:PairLikelihood",
        "proxies": "hashret.losses.proxies:Proxies",
        "quantisation": "hashret.losses.bits:Quantisation",
        "text_text": "hashret.losses.text_text:TextText",
        "triplet": "hashret.losses.triplet:Triplet",
    },
)


def build_loss(kind: str, options: Mapping[str, Any] | None = None, *, dims: Dims, where: str = "") -> Loss:
    """The loss called ``kind`` with ``options`` checked against its dataclass.

    Args:
        kind: a name of ``LOSSES``.
        options: plain values, as read from YAML.
        dims: the code lengths of the model to train.
        where: the place in the configuration, for messages.

    Raises:
        ConfigError: no such loss, an unknown option (the nearest one is named) or a wrong value.
    """
    cls = LOSSES.load(kind)
    loss: Loss = cls(build(cls.Options, dict(options or {}), where=where or kind), dims)
    return loss
