"""The momentum twin: a slowly following copy of both towers, and queues of what it made of earlier batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from hashret.encoders import Encoded
from hashret.errors import ConfigError
from hashret.losses import Keys
from hashret.model import CrossModalHasher
from hashret.model.outputs import TowerOutput


@dataclass(frozen=True)
class MomentumConfig:
    """The twin of a stage.

    Args:
        decay: how much of the twin stays in a step.
        queue: pairs of earlier batches that are kept as negatives.
    """

    decay: float = 0.995
    queue: int = 4096

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1 or self.queue < 0:
            raise ConfigError(f"momentum needs 0 <= decay < 1 and queue >= 0, and has {self.decay} and {self.queue}")


class Twin:
    """θ_m ← d·θ_m + (1 - d)·θ over what the stage trains, and two queues of its logits.

    The twin has dropout and noise of its own, so that its view of an item is another one than the tower's.

    Args:
        hasher: the model that it follows, as it stands at the stage's start.
        config: decay and length of the queues.
        learning: names of the model's parameters that the stage trains.

    *Source:* He et al. (MoCo), CVPR 2020, eq. 2; queues for two modalities: Li et al. (ALBEF), NeurIPS 2021, sec. 3.2.
    """

    def __init__(self, hasher: CrossModalHasher, config: MomentumConfig, *, learning: set[str]) -> None:
        self.hasher, self.config = hasher, config
        moving = {id(p) for name, p in hasher.named_parameters() if name in learning}
        self.mean = {name: p.detach().clone() for name, p in _parameters(hasher).items() if id(p) in moving}
        # running statistics of the twin must not mix with the model's
        self.buffers = {name: b.clone() for name, b in hasher.named_buffers() if ".head.norm." in name}
        empty = torch.zeros(0, hasher.n_bits, device=hasher.device)
        self.queues = dict.fromkeys(hasher.towers, empty)
        self.groups = torch.zeros(0, dtype=torch.int64, device=hasher.device)

    @torch.no_grad()
    def keys(self, features: dict[str, Encoded], group: Tensor, *, noise: float) -> Keys:
        """What the twin makes of a batch, with the queues as they stood before it."""
        sides = {modality: self._forward(modality, encoded, noise=noise) for modality, encoded in features.items()}
        betas = {modality: self.hasher.tower(modality).beta for modality in sides}
        queues = {m: TowerOutput(self.queues[m], pooled=self.queues[m], beta=betas[m]) for m in sides}
        keys = Keys(sides["image"], sides["text"], queues["image"], queues["text"], self.groups)
        size = self.config.queue
        for modality, side in sides.items():
            self.queues[modality] = torch.cat([side.logits.detach(), self.queues[modality]])[:size]
        self.groups = torch.cat([group, self.groups])[:size]
        return keys

    @torch.no_grad()
    def follow(self) -> None:
        """One step after the towers."""
        if not self.mean:  # nothing of the towers learns in this stage
            return
        live = _parameters(self.hasher)
        targets = [live[name].detach() for name in self.mean]
        torch._foreach_lerp_(list(self.mean.values()), targets, 1 - self.config.decay)

    def state(self) -> dict[str, Tensor]:
        """Everything by name, for a checkpoint."""
        tensors = {f"twin/{name}": value for name, value in (self.mean | self.buffers).items()}
        tensors |= {f"queue/{modality}": rows for modality, rows in self.queues.items()}
        return tensors | {"queue/group": self.groups}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of ``state``."""
        for name, value in (self.mean | self.buffers).items():
            value.copy_(tensors[f"twin/{name}"])
        device = self.hasher.device
        self.queues = {modality: tensors[f"queue/{modality}"].to(device) for modality in self.queues}
        self.groups = tensors["queue/group"].to(device)

    def _forward(self, modality: str, encoded: Encoded, *, noise: float) -> TowerOutput:
        start = f"towers.{modality}."
        own: dict[str, Any] = {
            name.removeprefix(start): value
            for name, value in (self.mean | self.buffers).items()
            if name.startswith(start)
        }
        output = functional_call(self.hasher.tower(modality), own, (encoded,), {"noise": noise})
        return cast(TowerOutput, output)


def _parameters(hasher: CrossModalHasher) -> dict[str, nn.Parameter]:
    """The towers', by name; what both share stands under the names of both, so that each tower's twin is whole."""
    return {f"towers.{m}.{name}": p for m in hasher.towers for name, p in hasher.tower(m).named_parameters()}
