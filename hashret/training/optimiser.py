"""The optimiser of one stage: AdamW on the stage's groups, with a schedule, clipping, turns and a running mean."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hashret.errors import ConfigError
from hashret.losses import Loss
from hashret.model import CrossModalHasher
from hashret.training.config import Stage
from hashret.training.groups import chosen, decays, parameters_of, rates


class Stepper:
    """What one stage does with a gradient.

    Building it gives a gradient to the stage's parameters and takes it from all others.

    Args:
        hasher: the model.
        losses: the stage's losses by label; their parameters learn along.
        stage: its configuration.
        total: steps of the whole stage.

    Raises:
        ConfigError: the stage names groups or rates that do not fit the model.

    *Source:* AdamW: Loshchilov & Hutter, ICLR 2019; cosine schedule: the same, ICLR 2017, eq. 5; running mean of
    weights: Polyak & Juditsky, SIAM J. Control Optim. 1992.
    """

    def __init__(self, hasher: CrossModalHasher, losses: dict[str, Loss], stage: Stage, *, total: int) -> None:
        where = f"stages.{stage.name}"
        groups = parameters_of(hasher, losses)
        with_parameters = tuple(label for label in losses if groups[label] and label not in stage.train)
        wanted = (*stage.train, *with_parameters)
        self.stage, self.losses, self.total = stage, losses, total
        self.parameters = chosen(groups, wanted, where=f"{where}.train")
        if not self.parameters:
            raise ConfigError(f"{where} trains nothing: name groups in {where}.train, such as heads")
        self.turns = [set(chosen(groups, turn, where=f"{where}.alternate")) for turn in stage.alternate]
        self._check_turns(where)
        self._groups = {group: set(groups[group]) for group in stage.train}
        peaks = rates(groups, stage.lr, wanted, where=where)
        for parameter in (*hasher.parameters(), *(p for loss in losses.values() for p in loss.parameters())):
            parameter.requires_grad_(False)
        by_setting: dict[tuple[float, float], list[str]] = {}
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(True)
            decay = stage.weight_decay if decays(parameter) else 0.0
            by_setting.setdefault((peaks[name], decay), []).append(name)
        self.peaks = [rate for rate, _ in by_setting]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [self.parameters[name] for name in names], "lr": rate, "weight_decay": decay}
                for (rate, decay), names in by_setting.items()
            ]
        )
        self.mean = {name: p.detach().clone() for name, p in self.parameters.items()} if stage.ema else {}

    @property
    def rate(self) -> float:
        """The highest learning rate now."""
        return max(float(group["lr"]) for group in self.optimiser.param_groups)

    def _check_turns(self, where: str) -> None:
        """Refuse turns that leave something out, which would never learn, and turns for what does not learn."""
        odd = set().union(*self.turns) ^ set(self.parameters) if self.turns else set()
        if odd:
            name = min(odd)
            said = "has no turn" if name in self.parameters else "does not learn"
            raise ConfigError(f"{where}.alternate: {name} {said}; what train and the losses hold needs a turn each")

    def step(self, loss: Tensor, number: int) -> None:
        """One step of the optimiser; ``number`` counts the steps of the stage from 0."""
        for group, peak in zip(self.optimiser.param_groups, self.peaks):
            group["lr"] = peak * self.factor(number)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.turns:
            turn = self.turns[number % len(self.turns)]
            for name, parameter in self.parameters.items():
                if name not in turn:
                    parameter.grad = None
        if self.stage.grad_clip is not None:
            nn.utils.clip_grad_norm_(list(self.parameters.values()), self.stage.grad_clip)
        self.optimiser.step()
        if self.stage.ema:
            # the decay grows to its value, so that the first weights are forgotten
            decay = min(self.stage.ema, (1 + number) / (10 + number))
            live = [p.detach() for p in self.parameters.values()]
            torch._foreach_lerp_(list(self.mean.values()), live, 1 - decay)

    @contextmanager
    def mean_weights(self) -> Iterator[None]:
        """The running mean in the place of the weights, where there is one."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def adopt_mean(self) -> None:
        """End the stage: the running mean becomes the weights."""
        self._swap()

    def untaught(self) -> list[str]:
        """Groups that the stage trains and that no step has given a gradient."""
        taught = {name for name, parameter in self.parameters.items() if self.optimiser.state.get(parameter)}
        return [group for group, names in self._groups.items() if not names & taught]

    def state(self) -> dict[str, Tensor]:
        """Moments and running means by name."""
        tensors = {f"ema/{name}": value for name, value in self.mean.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser/{key}/{name}"] = value
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of ``state``."""
        for name in self.mean:
            self.mean[name].copy_(tensors[f"ema/{name}"])
        for name, parameter in self.parameters.items():
            found = {
                key: tensors[f"optimiser/{key}/{name}"]
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"optimiser/{key}/{name}" in tensors
            }
            if found:
                device = parameter.device
                self.optimiser.state[parameter] = {
                    key: value.clone() if key == "step" else value.to(device) for key, value in found.items()
                }

    def factor(self, number: int) -> float:
        """What the peak rate is multiplied by in step ``number``."""
        rising = self.stage.warmup * self.total
        if number < rising:
            return (number + 1) / (rising + 1)
        if self.stage.schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * (number - rising) / max(1.0, self.total - rising)))

    def _swap(self) -> None:
        with torch.no_grad():
            for name, mean in self.mean.items():
                parameter = self.parameters[name]
                live = parameter.detach().clone()
                parameter.copy_(mean)
                mean.copy_(live)
