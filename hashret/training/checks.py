"""What can be said of a configuration before a picture is encoded: losses' options, and groups of parameters."""

from __future__ import annotations

import math

from hashret.config import build
from hashret.errors import ConfigError
from hashret.losses import LOSSES
from hashret.model import CrossModalHasher
from hashret.training.config import RunConfig, weight_at
from hashret.training.groups import chosen, parameters_of, rates


def check_losses(config: RunConfig) -> None:
    """Refuse unknown losses, unknown options of them, values that cannot be meant, and a re-ranker that cannot learn.

    Raises:
        ConfigError: which loss, and what it may be.
    """
    for stage in config.stages:
        kinds = [LOSSES.load(content["kind"]) for content in stage.losses.values() if content.get("weight") != 0]
        if stage.refurbish is not None and kinds and not any(kind.reads_target for kind in kinds):
            believing = [name for name in LOSSES.names() if LOSSES.load(name).reads_target]
            raise ConfigError(
                f"stages.{stage.name}.refurbish says how far pairs are believed, and no loss of the stage reads that; "
                f"add one of {', '.join(believing)}, or take refurbish away"
            )
        for label, content in stage.losses.items():
            where = f"stages.{stage.name}.losses.{label}"
            weight_at(content, 0.0)
            weight_at(content, 1.0)
            options = {key: value for key, value in content.items() if key not in ("kind", "weight")}
            given = build(LOSSES.load(content["kind"]).Options, options, where=where)
            for name, value in vars(given).items():
                if isinstance(value, float) and not math.isfinite(value):
                    raise ConfigError(f"{where}.{name} must be a finite number, and is {value}")
    _check_reranker(config)


def check_groups(config: RunConfig, hasher: CrossModalHasher) -> None:
    """Refuse groups that the model does not have. Losses are groups too, and what they hold is known later.

    Raises:
        ConfigError: which group, and the nearest one.
    """
    groups = parameters_of(hasher, {})
    for stage in config.stages:
        where = f"stages.{stage.name}"
        named = [(f"{where}.train", stage.train), *((f"{where}.alternate", turn) for turn in stage.alternate)]
        for place, names in named:
            chosen(groups, tuple(name for name in names if name not in stage.losses), where=place)
        rated = stage.lr if isinstance(stage.lr, dict) else {}
        rates({**groups, **{label: {} for label in stage.losses}}, rated, (), where=where)


def _check_reranker(config: RunConfig) -> None:
    """Refuse a re-ranker that cannot learn, and pairs matched by one that nobody has taught."""
    taught = False
    for stage in config.stages:
        kinds = [LOSSES.load(content["kind"]) for content in stage.losses.values() if content.get("weight") != 0]
        reached = any("matcher" in kind.needs for kind in kinds)
        if "reranker" in stage.train and kinds and not reached:
            raise ConfigError(
                f"stages.{stage.name}.train names the re-ranker, and no loss of the stage reaches it; add the loss "
                f"matching, or take reranker away"
            )
        taught = taught or (reached and stage.teaches_reranker)
        if config.model.reranker is None:  # a loss that asks for one then says so itself
            continue
        if reached and not taught:
            raise ConfigError(
                f"stages.{stage.name} has the loss matching, and no stage so far teaches the re-ranker that it asks; "
                f"add reranker to stages.{stage.name}.train"
            )
    if config.model.reranker is not None and not taught:
        raise ConfigError(
            "model.reranker is to be saved with the model, and no stage teaches it; add reranker to a stage's train, "
            "with the loss matching, or take model.reranker away"
        )
