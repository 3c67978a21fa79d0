"""Trained heads of the literature, run by the engine of ``FeatureHasher``: only the head and the stages differ.

A bit of theirs is a sign, unless ``rounding`` is true.

    codes = DJSRH(n_bits=64).fit(X, Y).encode_images(X)

What they are compared for is their loss: features, batches, validation and the loop are those of every trained system,
and codes are nested, so that one fit serves all lengths. What a paper does otherwise is said in its class.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hashret.errors import ConfigError, InputError
from hashret.feature_hasher.hasher import FeatureHasher
from hashret.model import HeadConfig
from hashret.training import Stage


class _Published(FeatureHasher):
    """A head whose bits are signs where ``rounding`` is None."""

    def _chosen(self, name: str, *, labelled: bool) -> Any:
        signs = name == "rounding" and self.rounding is None
        return False if signs else super()._chosen(name, labelled=labelled)


class DJSRH(_Published):
    """Deep joint-semantics reconstructing hashing: codes reproduce one similarity of both features, without labels.

    tanh grows three times steeper in the course of training. The paper trains the image network too, with SGD and
    batches of 32.

    *Source:* Su, Zhong & Zhang, ICCV 2019; see ``hashret.losses.djsrh.JointSemantics``.
    """

    uses_labels = False

    def _stages(self, n_items: int, *, rounds: int, labelled: bool) -> tuple[Stage, ...]:
        (stage,) = super()._stages(n_items, rounds=rounds, labelled=labelled)
        return (replace(stage, beta=(1.0, 3.0)),)

    def _losses(self, n_items: int, *, labelled: bool) -> dict[str, dict[str, Any]]:
        return {"semantics": {"kind": "joint_semantics"}}


class UCCH(_Published):
    """Unsupervised contrastive cross-modal hashing: a memory of binary codes, and a ranking loss.

    The paper's heads are 8,192 wide; these are as wide as every other here.

    *Source:* Hu et al., TPAMI 2023; see ``hashret.losses.ucch.BinaryMemory``.
    """

    uses_labels = False

    def _losses(self, n_items: int, *, labelled: bool) -> dict[str, dict[str, Any]]:
        return {"memory": {"kind": "binary_memory", "memory": n_items}}


class DSPH(_Published):
    """Deep semantic-aware proxy hashing: a linear head, and a proxy for every label. ``fit`` needs labels.

    The paper trains CLIP too.

    *Source:* Huo et al., TCSVT 2024; see ``hashret.losses.proxies.Proxies``.
    """

    needs_labels = True

    def _head(self, *, labelled: bool) -> HeadConfig:
        return HeadConfig(kind="linear")

    def _losses(self, n_items: int, *, labelled: bool) -> dict[str, dict[str, Any]]:
        if not labelled:
            raise InputError("DSPH learns from labels, and fit was given none")
        return {"proxies": {"kind": "proxies"}}


class CMDN(_Published):
    """Cross-media multiple deep networks, in the closest form that this engine has.

    Two stages: first each modality's own structure and the correlation of pairs are learnt side by side (distances
    inside a modality are preserved; pairs are pulled together), then both representations are joined and tuned for
    ranking, and made binary. The paper stacks auto-encoders and restricted Boltzmann machines, which are not rebuilt
    here, and compares floats. The first stage has half of the passes, the second the rest.

    *Source:* Peng, Huang & Qi, "Cross-media shared representation by hierarchical learning with multiple deep
    networks", IJCAI 2016.
    """

    uses_labels = False

    def _stages(self, n_items: int, *, rounds: int, labelled: bool) -> tuple[Stage, ...]:
        (stage,) = super()._stages(n_items, rounds=rounds, labelled=labelled)
        part = "epochs" if stage.epochs > 1 else "passes"  # one epoch is all of a fit that holds nothing out
        whole = getattr(stage, part)
        if whole < 2:
            raise ConfigError("CMDN trains in two stages, each of a pass at least, and passes is 1; give 2 or more")
        inside = {"kind": "distillation", "teacher": "features", "space": "relaxed", "match": "square"}
        between = {"kind": "infonce", "between": ["relaxed", "relaxed"], "temperature": self.temperature}
        ranking = {"kind": "triplet", "negatives": "mean"}
        return (
            replace(stage, name="separate", losses={"inside": inside, "between": between}, **{part: whole // 2}),
            replace(
                stage,
                name="joint",
                losses={"ranking": ranking, "between": between, "binary": {"kind": "quantisation", "weight": [0, 0.1]}},
                **{part: whole - whole // 2},
            ),
        )
