"""The loop: stages of epochs of steps, over features that are computed already.

Everything random in an epoch follows from (seed, stage, epoch), so that a run which is resumed at an epoch's border
goes on exactly as it would have.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hashret._files import write_whole
from hashret._lazy import progress
from hashret.errors import ConfigError, TrainingError
from hashret.losses import LOSSES, Dims, Loss, build_loss
from hashret.model import CrossModalHasher
from hashret.training import checkpoint
from hashret.training.belief import Belief
from hashret.training.checks import check_losses
from hashret.training.config import RunConfig, Stage, weight_at
from hashret.training.forward import Forward, check_needs, needs_of
from hashret.training.groups import set_modes
from hashret.training.momentum import Twin
from hashret.training.optimiser import Stepper
from hashret.training.pairs import Draw, PairFeatures, draws, steps_of
from hashret.training.validation import validate

_log = logging.getLogger(__name__)
_RERANKER = "model/reranker."
_COLLAPSED = 0.1  # mean bit entropy below which codes say next to nothing


class _Lasting(Protocol):
    """What lasts through a stage, and a checkpoint keeps."""

    def state(self) -> dict[str, Tensor]: ...

    def restore(self, tensors: dict[str, Tensor]) -> None: ...


class Trainer:
    """A run over features.

    Args:
        hasher: the model, on the device to train on; its weights change.
        config: the run's configuration.
        train: pairs to learn from.
        val: pairs to choose the best epoch on.
        out: the run's directory, for curves and checkpoints; None: nothing is written.
        noisy: (M,) bool, the training captions that were put to a false image on purpose, where that is known.
    """

    def __init__(
        self,
        hasher: CrossModalHasher,
        config: RunConfig,
        *,
        train: PairFeatures,
        val: PairFeatures,
        out: Path | None,
        noisy: np.ndarray | None = None,
    ) -> None:
        self.hasher, self.config, self.train_pairs, self.val_pairs, self.out = hasher, config, train, val, out
        self.noisy = noisy
        check_losses(config)
        self.losses = self._build_losses()
        self.curves: list[dict[str, Any]] = []
        self.best: dict[str, Any] | None = None
        self.best_tensors: dict[str, Tensor] = {}
        self.position = (0, 0)  # the stage, and how many of its epochs are done
        self.bad_epochs = 0
        self._resumed: dict[str, Tensor] = {}
        for stage in config.stages:  # whatever is wrong in a later stage is said now
            Stepper(hasher, self.losses[stage.name], stage, total=1)
            Forward(hasher, config, stage, train, needs=frozenset(), twin=None)

    def run(self) -> None:
        """Train from where the run stands to its end, then put the best weights into the model."""
        with torch.random.fork_rng(devices=[]):
            first = self.position[0]
            for number in range(first, len(self.config.stages)):
                self._run_stage(number)
                self.position, self.bad_epochs = (number + 1, 0), 0
                self._save_last([])
        if self.best is None:
            raise TrainingError("no epoch gave a finite validation figure; lower the learning rate")
        self._load_best(len(self.config.stages))
        self.hasher.eval()

    def resume(self) -> bool:
        """Go back to the run's last checkpoint; false where there is none."""
        if self.out is None or not checkpoint.exists(self.out / "checkpoints" / "last"):
            return False
        tensors, state = checkpoint.load(self.out / "checkpoints" / "last")
        self._load_model(tensors)
        for losses in self.losses.values():
            for label, loss in losses.items():
                loss.load_state_dict({name: tensors[f"loss/{label}/{name}"] for name in loss.state_dict()})
        self.curves, self.best = state["curves"], state["best"]
        self.best_tensors = {n.removeprefix("best/"): t for n, t in tensors.items() if n.startswith("best/")}
        if self.best is not None and not self.best_tensors:  # checkpoints of earlier versions lie beside each other
            self.best_tensors, _ = checkpoint.load(self.out / "checkpoints" / "best")
        self._resumed = {n: t for n, t in tensors.items() if not n.startswith(("model/", "loss/", "best/"))}
        self.position, self.bad_epochs = (state["stage"], state["epoch"]), state["bad_epochs"]
        self._write_curves()
        return True

    # ---- one stage

    def _run_stage(self, number: int) -> None:
        stage = self.config.stages[number]
        losses = self.losses[stage.name]
        if stage.start == "best" and self.position[1] == 0 and self.best_tensors:
            self._load_best(number)
        steps = steps_of(
            len(self.train_pairs.image), batch_size=stage.batch_size, captions=stage.captions, passes=stage.passes
        )
        stepper = Stepper(self.hasher, losses, stage, total=steps * stage.epochs)
        needs = needs_of(losses)
        learning = {name.removeprefix("model/") for name in stepper.parameters if name.startswith("model/")}
        if stage.momentum and "momentum" not in needs:
            _log.warning("stages.%s has a momentum twin that no loss reads", stage.name)
        twin = Twin(self.hasher, stage.momentum, learning=learning) if stage.momentum and "momentum" in needs else None
        forward = Forward(self.hasher, self.config, stage, self.train_pairs, needs=needs, twin=twin)
        belief = Belief(stage.refurbish, noisy=self.noisy) if stage.refurbish else None
        parts = [part for part in (stepper, twin, belief) if part is not None]
        if self.position[1]:
            for part in parts:
                part.restore(self._resumed)
        for epoch in range(self.position[1], stage.epochs):
            if stage.patience is not None and self.bad_epochs >= stage.patience:
                _log.info("stage %s ends after %d epochs without a better figure", stage.name, self.bad_epochs)
                break
            told: dict[str, float] = {}
            if belief is not None:
                seed = derive_seed(self.config.seed, f"{stage.name}/belief", epoch)
                told = belief.update(self.hasher, self.train_pairs, epoch=epoch, seed=seed)
                forward.targets = belief.targets
            row = self._run_epoch(number, epoch, stepper, forward, steps)
            if epoch == 0 and stepper.untaught():
                _log.warning(
                    "stages.%s trains %s, but what its losses (%s) read does not depend on it, so that it stays as it "
                    "is; add a loss of codes, such as joint_infonce, or leave it out of train",
                    stage.name, " and ".join(stepper.untaught()), ", ".join(losses),
                )  # fmt: skip
            self._finish_epoch(number, epoch, row | told, stepper, parts)
        stepper.adopt_mean()

    def _run_epoch(self, number: int, epoch: int, stepper: Stepper, forward: Forward, steps: int) -> dict[str, Any]:
        stage = self.config.stages[number]
        seed = derive_seed(self.config.seed, stage.name, epoch)
        torch.manual_seed(seed)
        batches = draws(
            self.train_pairs.owner.cpu(),
            batch_size=stage.batch_size,
            captions=stage.captions,
            passes=stage.passes,
            generator=torch.Generator().manual_seed(seed),
            second="second_caption" in forward.needs,
        )
        set_modes(self.hasher, stepper.losses, stage.train)
        begun = time.perf_counter()
        sums: dict[str, Tensor] = {}
        bar = progress(batches, label=f"{stage.name} {epoch + 1}/{stage.epochs}", total=steps, unit="step")
        for step, draw in enumerate(bar):
            done = (epoch * steps + step) / stepper.total
            terms = self._losses_of(draw, stage, stepper.losses, forward, done)
            stepper.step(torch.stack(list(terms.values())).sum(), epoch * steps + step)
            if forward.twin is not None:
                forward.twin.follow()
            for label, term in terms.items():
                sums[label] = sums.get(label, 0.0) + term.detach()
            if step % 20 == 0:
                bar.set_postfix(**{label: f"{float(value) / (step + 1):.3f}" for label, value in sums.items()})
                self._check_finite(sums, stage, epoch)
        self._check_finite(sums, stage, epoch)
        row: dict[str, Any] = {"stage": stage.name, "epoch": epoch + 1, "steps": (epoch + 1) * steps}
        row |= {"lr": stepper.rate, "loss": sum(float(value) for value in sums.values()) / steps}
        row |= {f"loss.{label}": float(value) / steps for label, value in sums.items()}
        return row | {"seconds": time.perf_counter() - begun}

    def _losses_of(
        self, draw: Draw, stage: Stage, losses: dict[str, Loss], forward: Forward, done: float
    ) -> dict[str, Tensor]:
        """Label -> weighted loss of one batch."""
        outputs = forward(draw, progress=done)
        return {
            label: weight_at(stage.losses[label], done) * loss(outputs, progress=done) for label, loss in losses.items()
        }

    def _finish_epoch(
        self, number: int, epoch: int, row: dict[str, Any], stepper: Stepper, parts: Sequence[_Lasting]
    ) -> None:
        with stepper.mean_weights():
            validation = validate(self.hasher, self.val_pairs, self.config.selection)
            row |= {f"val.{name}": value for name, value in validation.figures.items()}
            if validation.figures["entropy"] < _COLLAPSED:
                _log.warning(
                    "the codes collapse: the mean entropy of a bit is %.3f after epoch %d of stage %s (1 is best); "
                    "lower the learning rate or add the losses infonce or balance",
                    validation.figures["entropy"], epoch + 1, row["stage"],
                )  # fmt: skip
            self.curves.append(row)
            chosen_from = self.config.selection.stage in (None, row["stage"])
            better = chosen_from and (self.best is None or validation.value > self.best["value"])
            self.bad_epochs = 0 if better or not chosen_from else self.bad_epochs + 1
            if better and math.isfinite(validation.value):
                self.best = {"value": validation.value, "stage": row["stage"], "epoch": epoch + 1}
                # one that learns by itself does not touch codes: what it learns after the best epoch is kept
                alone = not stepper.stage.teaches_reranker or set(stepper.stage.train) == {"reranker"}
                self.best_tensors = {
                    name: tensor.clone()
                    for name, tensor in self._model_state().items()
                    if not (alone and name.startswith(_RERANKER))
                }
        self.position = (number, epoch + 1)
        self._save_last(parts)
        self._write_curves()
        shown = ", ".join(f"{name} {value:.1f}" for name, value in validation.figures.items() if "rSum" in name)
        _log.info("%s %d/%d: loss %.4f, %s", row["stage"], epoch + 1, stepper.stage.epochs, row["loss"], shown)

    # ---- what is kept

    def _model_state(self) -> dict[str, Tensor]:
        """What training changes: everything outside the encoders, and their trainable blocks."""
        learning = {
            id(p)
            for modality in self.hasher.towers
            for module in self.hasher.tower(modality).encoder.trainable_modules()
            for p in module.parameters()
        }
        state = self.hasher.state_dict(keep_vars=True)
        return {
            f"model/{name}": tensor.detach()
            for name, tensor in state.items()
            if ".encoder." not in name or id(tensor) in learning
        }

    def _load_best(self, number: int) -> None:
        """The best weights; a re-ranker that a stage after them and before ``number`` has taught stays as it is."""
        assert self.best is not None
        names = [stage.name for stage in self.config.stages]
        later = self.config.stages[names.index(self.best["stage"]) + 1 : number]
        keep = any(stage.teaches_reranker for stage in later)
        self._load_model({n: t for n, t in self.best_tensors.items() if not (keep and n.startswith(_RERANKER))})

    def _load_model(self, tensors: dict[str, Tensor]) -> None:
        state = {name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")}
        self.hasher.load_state_dict(state, strict=False)

    def _save_last(self, parts: Sequence[_Lasting]) -> None:
        if self.out is None:
            return
        tensors = self._model_state()
        for losses in self.losses.values():
            for label, loss in losses.items():
                tensors |= {f"loss/{label}/{name}": tensor for name, tensor in loss.state_dict().items()}
        for part in parts:
            tensors |= part.state()
        # in one file with the rest: a kill between two would leave the best of an epoch that is then run again
        tensors |= {f"best/{name}": tensor for name, tensor in self.best_tensors.items()}
        state = {
            "stage": self.position[0],
            "epoch": self.position[1],
            "bad_epochs": self.bad_epochs,
            "best": self.best,
            "curves": self.curves,
        }
        checkpoint.save(self.out / "checkpoints" / "last", tensors, state)

    def _write_curves(self) -> None:
        if self.out is None:
            return
        columns = dict.fromkeys(column for row in self.curves for column in row)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns))
        writer.writeheader()
        writer.writerows(self.curves)
        write_whole(self.out / "curves.csv", text.getvalue())

    # ---- small things

    def _build_losses(self) -> dict[str, dict[str, Loss]]:
        """Stage -> label -> loss. A label of one kind and options in several stages is one loss with one state."""
        towers = {modality: self.hasher.tower(modality) for modality in self.hasher.towers}
        labels = self.train_pairs.labels
        dims = Dims(
            self.hasher.n_bits,
            self.config.model.code_lengths,
            n_labels=0 if labels is None else labels.shape[1],
            pooled_widths={modality: tower.pooled_width for modality, tower in towers.items()},
            token_widths={m: tower.token_width for m, tower in towers.items() if not tower.from_pooled},
        )
        known: dict[str, tuple[Any, Loss]] = {}
        built: dict[str, dict[str, Loss]] = {}
        for stage in self.config.stages:
            built[stage.name] = {}
            for label, content in stage.losses.items():
                if content.get("weight") == 0:
                    continue  # taken away, as an ablation does
                where = f"stages.{stage.name}.losses.{label}"
                options = {key: value for key, value in content.items() if key not in ("kind", "weight")}
                declared = LOSSES.load(content["kind"]).needs  # a property where it depends on the options
                if isinstance(declared, frozenset):
                    check_needs(self.hasher, stage, label, declared, self.train_pairs)
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(derive_seed(self.config.seed, label, -1))
                    loss = build_loss(content["kind"], options, dims=dims, where=where).to(self.hasher.device)
                check_needs(self.hasher, stage, label, loss.needs, self.train_pairs)
                if label in known and loss.state_dict():
                    kind, before = known[label]
                    shapes = [[tensor.shape for tensor in one.state_dict().values()] for one in (before, loss)]
                    if kind != content["kind"] or shapes[0] != shapes[1]:
                        raise ConfigError(f"{where} does not fit the loss of that label in an earlier stage")
                    _share(before, loss)
                known.setdefault(label, (content["kind"], loss))
                built[stage.name][label] = loss
            if not built[stage.name]:
                raise ConfigError(
                    f"stages.{stage.name}: every loss has weight 0; give one more, or leave the stage out"
                )
        return built

    def _check_finite(self, sums: dict[str, Tensor], stage: Stage, epoch: int) -> None:
        for label, value in sums.items():
            if not math.isfinite(float(value)):
                raise TrainingError(
                    f"the loss {label!r} is no longer finite in epoch {epoch + 1} of stage {stage.name!r}; lower the "
                    f"learning rate, set grad_clip, or raise the temperature"
                )


def derive_seed(seed: int, name: str, number: int) -> int:
    """A seed of its own for each part of a run."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}/{number}".encode()).digest()[:7], "big")


def _share(source: nn.Module, target: nn.Module) -> None:
    """Make the parameters and buffers of ``source`` those of ``target`` too."""
    for name, tensor in (*source.named_parameters(), *source.named_buffers()):
        *path, last = name.split(".")
        setattr(target.get_submodule(".".join(path)), last, tensor)
