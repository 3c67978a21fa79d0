"""Groups of parameters by name: what a stage trains, and how fast.

Names: ``heads``, ``poolers``, ``mixers``, ``encoders`` (both towers), ``image.head`` and so on (one), ``image`` and
``text`` (a whole tower), ``reranker``, ``all``, and the label of a loss (its own parameters).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from hashret.errors import ConfigError
from hashret.model import CrossModalHasher
from hashret.registry import nearest

PARTS = {"head": "heads", "pooler": "poolers", "mixers": "mixers", "encoder": "encoders"}
Named = dict[str, nn.Parameter]


def modules_of(hasher: CrossModalHasher) -> dict[str, list[nn.Module]]:
    """Group -> the modules that may learn in it (of an encoder, only its trainable blocks)."""
    groups: dict[str, list[nn.Module]] = {}
    for modality in hasher.towers:
        tower = hasher.tower(modality)
        for part, plural in PARTS.items():
            module = getattr(tower, part)
            learning = tower.encoder.trainable_modules() if part == "encoder" else [module] if module else []
            for group in (f"{modality}.{part}", plural, modality, "all"):
                groups.setdefault(group, []).extend(learning)
    groups["reranker"] = [] if hasher.reranker is None else [hasher.reranker]
    groups["all"] += groups["reranker"]
    return groups


def parameters_of(hasher: CrossModalHasher, losses: Mapping[str, nn.Module]) -> dict[str, Named]:
    """Group -> name -> parameter; a loss is a group under its label. Names are those of checkpoints."""
    names = {id(p): f"model/{name}" for name, p in hasher.named_parameters()}
    groups = {
        group: {names[id(p)]: p for module in modules for p in module.parameters()}
        for group, modules in modules_of(hasher).items()
    }
    for label, loss in losses.items():
        if label in groups:
            raise ConfigError(f"a loss cannot be called {label!r}: that is the name of a group of parameters")
        groups[label] = {f"loss/{label}/{name}": p for name, p in loss.named_parameters()}
    return groups


def chosen(groups: Mapping[str, Named], wanted: tuple[str, ...], *, where: str) -> Named:
    """The parameters of the groups ``wanted``.

    Raises:
        ConfigError: there is no such group, or it has nothing to train.
    """
    result: Named = {}
    for group in wanted:
        if group not in groups:
            raise ConfigError(f"{where} trains {group!r}, which is no group{nearest(group, tuple(groups))}")
        if not groups[group]:
            hint = "; set train_blocks of the encoder" if "encoder" in group else ""
            raise ConfigError(f"{where} trains {group!r}, which has no trainable parameters in this model{hint}")
        result |= groups[group]
    return result


def rates(
    groups: Mapping[str, Named], lr: float | Mapping[str, float], wanted: tuple[str, ...], *, where: str
) -> dict[str, float]:
    """Parameter name -> peak learning rate.

    Rates apply in the order in which they are written, a later one over an earlier one: ``{all: 1e-3,
    image.encoder: 1e-5}`` slows a part down. Parameters of a loss without a rate of its own take the first one.

    Raises:
        ConfigError: a rate for an unknown group, or a group without a rate.
    """
    if not isinstance(lr, Mapping):
        return {name: lr for group in wanted for name in groups[group]}
    result: dict[str, float] = {}
    for group, rate in lr.items():
        if group not in groups:
            raise ConfigError(f"{where}.lr names {group!r}, which is no group{nearest(group, tuple(groups))}")
        result |= dict.fromkeys(groups[group], rate)
        if groups[group] and wanted and not any(set(groups[group]) & set(groups[other]) for other in wanted):
            raise ConfigError(f"{where}.lr gives a rate for {group!r}, which does not learn; add it to {where}.train")
    for group in wanted:
        for name in groups[group]:
            if name not in result and name.startswith("loss/") and lr:
                result[name] = next(iter(lr.values()))
            elif name not in result:
                raise ConfigError(f"{where}.lr gives no rate for {group!r}; it has {', '.join(lr) or 'none'}")
    return result


def set_modes(hasher: CrossModalHasher, losses: Mapping[str, nn.Module], wanted: tuple[str, ...]) -> None:
    """Training mode (dropout, running statistics) for what learns, evaluation mode for the rest."""
    hasher.eval()
    groups = modules_of(hasher)
    for modality in hasher.towers:
        tower = hasher.tower(modality)
        if any(_overlap(groups[f"{modality}.encoder"], groups.get(group, [])) for group in wanted):
            tower.encoder.train()
        for part in ("head", "pooler", "mixers"):
            if any(_overlap(groups[f"{modality}.{part}"], groups.get(group, [])) for group in wanted):
                getattr(tower, part).train()
    if hasher.reranker is not None and any(_overlap(groups["reranker"], groups.get(group, [])) for group in wanted):
        hasher.reranker.train()
    for loss in losses.values():
        loss.train()


def decays(parameter: torch.Tensor) -> bool:
    """Whether weight decay applies: to matrices, not to biases, norms and temperatures."""
    return parameter.ndim >= 2


def _overlap(a: list[nn.Module], b: list[nn.Module]) -> bool:
    return any(x is y for x in a for y in b)
