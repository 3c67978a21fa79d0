"""From a draw of rows to what the losses see: both towers, and whatever else the stage's losses need."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hashret.encoders import Encoded
from hashret.errors import ConfigError
from hashret.losses import BatchOutputs, Loss
from hashret.model import CrossModalHasher
from hashret.model.devices import has_bfloat16
from hashret.model.outputs import TowerOutput
from hashret.model.rescoring import required
from hashret.training.config import Precision, RunConfig, Stage
from hashret.training.momentum import Twin
from hashret.training.pairs import Draw, PairFeatures, VectorTable, mixtures


def needs_of(losses: dict[str, Loss]) -> frozenset[str]:
    """What the losses of a stage read beyond both sides and groups."""
    return frozenset().union(*(loss.needs for loss in losses.values()))


def check_needs(hasher: CrossModalHasher, stage: Stage, label: str, needs: frozenset[str], pairs: PairFeatures) -> None:
    """Refuse a loss that asks for what the run cannot give.

    Raises:
        ConfigError: what the loss lacks, and the key that provides it.
    """
    pooled = any(hasher.tower(modality).from_pooled for modality in hasher.towers)
    lacking = {
        "labels": (pairs.labels is None, "labels, which the data set lacks; set data.keywords to a number of words"),
        "second_caption": (
            len(pairs.owner) == len(pairs.image),
            "several captions an image, and each has one; it would compare that with itself",
        ),
        "matcher": (hasher.reranker is None, "a re-ranker; set model.reranker"),
        "momentum": (stage.momentum is None, f"a momentum twin; set stages.{stage.name}.momentum"),
        "teacher": (pairs.teacher is None, "a teacher, and the run has none; set its key `teacher`"),
        "tokens": (pooled, "tokens of both towers; set the output of both encoders to tokens"),
    }
    if stage.mix and needs & {"second_caption", "teacher"}:
        raise ConfigError(
            f"stages.{stage.name}.losses.{label} compares single captions, and mix makes one text of all of a "
            f"picture's; set stages.{stage.name}.mix to 0, or take the loss away"
        )
    for need in sorted(needs & set(lacking)):
        lacks, remedy = lacking[need]
        if lacks:
            raise ConfigError(f"stages.{stage.name}.losses.{label} needs {remedy}")


class Forward:
    """What the model makes of a batch, for one stage.

    Args:
        hasher: the model.
        config: the run's.
        stage: the stage.
        pairs: the training pairs.
        needs: of its losses, see ``needs_of``.
        twin: the momentum twin, where it is needed.
    """

    def __init__(
        self,
        hasher: CrossModalHasher,
        config: RunConfig,
        stage: Stage,
        pairs: PairFeatures,
        *,
        needs: frozenset[str],
        twin: Twin | None,
    ) -> None:
        self.hasher, self.config, self.stage, self.pairs, self.needs, self.twin = (
            hasher,
            config,
            stage,
            pairs,
            needs,
            twin,
        )
        self.targets: Tensor | None = None  # (M,) how far each caption is believed to match its image
        if stage.mix and not isinstance(pairs.text, VectorTable):
            raise ConfigError(f"stages.{stage.name}.mix needs a text encoder with output: pooled and no trained blocks")

    def __call__(self, draw: Draw, *, progress: float) -> BatchOutputs:
        """The outputs of one batch, ``progress`` (0 to 1) through the stage."""
        hasher, pairs, noise = self.hasher, self.pairs, self.stage.noise
        features = {"image": pairs.image.batch(draw.image), "text": self._texts(draw)}
        group = draw.image.to(hasher.device)
        second = keys = None
        with autocast(self.hasher, self.config):
            for modality in hasher.towers:
                hasher.tower(modality).beta.fill_(self.stage.beta_at(progress))
            image, text = (hasher.tower(m)(features[m], noise=noise) for m in ("image", "text"))
            if draw.second is not None:
                second = hasher.tower("text")(pairs.text.batch(draw.second), noise=noise)
            if self.twin is not None:
                keys = self.twin.keys(features, group, noise=noise)
        return BatchOutputs(
            image=image,
            text=text,
            group=group,
            labels=None if pairs.labels is None else pairs.labels[draw.image].to(hasher.device),
            target=None if self.targets is None else self.targets[draw.text].to(hasher.device),
            teacher=None
            if pairs.teacher is None
            else (pairs.teacher[0][draw.image].to(hasher.device), pairs.teacher[1][draw.text].to(hasher.device)),
            second=second,
            second_target=None
            if self.targets is None or draw.second is None
            else self.targets[draw.second].to(hasher.device),
            keys=keys,
            match=self._matcher(image, text) if "matcher" in self.needs else None,
        )

    def _matcher(self, image: TowerOutput, text: TowerOutput) -> Callable[[Tensor, Tensor], Tensor]:
        with autocast(self.hasher, self.config):
            score = required(self.hasher).matcher(image, text)

        def match(image_rows: Tensor, text_rows: Tensor) -> Tensor:
            with autocast(self.hasher, self.config):
                return score(image_rows, text_rows)

        return match

    def _texts(self, draw: Draw) -> Encoded:
        table = self.pairs.text
        if not self.stage.mix or not isinstance(table, VectorTable):
            return table.batch(draw.text)
        return table.mixtures(*mixtures(self.pairs.owner.cpu(), draw, share=self.stage.mix))


def autocast(hasher: CrossModalHasher, config: RunConfig) -> torch.autocast:
    """bfloat16 where the run's precision asks for it."""
    on = precision_of(config, hasher.device) == "bfloat16"
    return torch.autocast(hasher.device.type, dtype=torch.bfloat16, enabled=on)


def precision_of(config: RunConfig, device: torch.device) -> Precision:
    """What ``auto`` means on ``device``."""
    if config.precision != "auto":
        return config.precision
    return "bfloat16" if has_bfloat16(device) else "float32"
