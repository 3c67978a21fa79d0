"""The configuration of a run: a model, data options, a list of stages, and how the best epoch is chosen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hashret.config import build, override, read_yaml
from hashret.errors import ConfigError
from hashret.losses import LOSSES
from hashret.model import ModelConfig
from hashret.registry import nearest
from hashret.training.momentum import MomentumConfig
from hashret.training.noise import NoiseConfig
from hashret.training.refurbish import RefurbishConfig

Precision = Literal["auto", "float32", "bfloat16"]
Metric = Literal["rSum", "i2t.R@1", "i2t.R@5", "i2t.R@10", "t2i.R@1", "t2i.R@5", "t2i.R@10", "i2t.MeanR", "t2i.MeanR"]


@dataclass(frozen=True)
class DataConfig:
    """What is read of a data set.

    Args:
        train: name of the split to learn from.
        val: name of the split to choose the best epoch on.
        max_captions: captions used of each training item, the first ones; None: all.
        limit: number of training items used, the first ones; None: all.
        keywords: the labels of a data set without any: so many content words, the most frequent ones of the training
            captions; 0: none.
        noise: false pairs put among the training pairs on purpose, to see what they do.
    """

    train: str = "train"
    val: str = "val"
    max_captions: int | None = None
    limit: int | None = None
    keywords: int = 0
    noise: NoiseConfig = field(default_factory=NoiseConfig)

    def __post_init__(self) -> None:
        if self.val == self.train:
            raise ConfigError(
                f"data.val and data.train both name the split {self.val!r}, and the best epoch is chosen on pairs that "
                "nothing was learned from; name another one"
            )
        if self.keywords < 0:
            raise ConfigError(f"data.keywords is a number of words, 0 for none, and not {self.keywords}")
        for name in ("max_captions", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"data.{name} must be at least 1, and is {value}")


@dataclass(frozen=True)
class Stage:
    """A part of a run: what learns from what, how fast, how long.

    Args:
        name: for logs, curves and overrides.
        epochs: how often to train and validate.
        losses: label -> ``{kind: …, weight: …, other options}``; a weight may be ``[from, to]``, linear over the
            stage.
        train: the groups that learn: ``heads``, ``poolers``, ``mixers``, ``encoders``, one tower's (``image.head``,
            ``text.encoder``, …), ``image``, ``text``, ``reranker``, ``all``. Parameters of the stage's losses learn
            along.
        alternate: lists of groups or loss labels that take turns, a step each; empty: all learn in every step.
        lr: the peak learning rate, or one for each group of ``train`` (and loss label).
        passes: times that an epoch goes through the training items.
        captions: captions drawn for an item in one pass.
        batch_size: pairs in a step.
        weight_decay: AdamW's, for matrices.
        warmup: the share of the stage's steps in which the rate rises from 0.
        schedule: ``cosine`` falls to 0 at the stage's end; ``constant`` stays.
        grad_clip: the largest norm of the whole gradient; None: any.
        beta: steepness of tanh, or ``[from, to]``, linear over the stage.
        noise: norm of Gaussian noise added to each adapted feature vector, which adapters bring to a norm of about 1.
        mix: share of pairs whose text is a random mixture of all captions of its image, in feature space; needs a text
            encoder that gives one vector a caption.
        ema: decay of a running mean of the weights, which is then what is validated and kept; None: none.
        momentum: the twin and queues that the loss ``momentum_contrast`` reads; None: none.
        refurbish: how pairs that look false are believed less (robust learning under noise); None: all are believed.
        patience: end the stage after so many epochs without a figure better than the best of all stages; None: never.
        start: from the weights as they are, or from the best so far.
    """

    name: str
    epochs: int
    losses: dict[str, dict[str, Any]]
    train: tuple[str, ...] = ("heads",)
    alternate: tuple[tuple[str, ...], ...] = ()
    lr: float | dict[str, float] = 1e-3
    passes: int = 1
    captions: int = 1
    batch_size: int = 256
    weight_decay: float = 0.05
    warmup: float = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    grad_clip: float | None = None
    beta: float | tuple[float, float] = 1.0
    noise: float = 0.0
    mix: float = 0.0
    ema: float | None = None
    momentum: MomentumConfig | None = None
    refurbish: RefurbishConfig | None = None
    patience: int | None = None
    start: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        where = f"stage {self.name!r}"
        if not self.losses:
            raise ConfigError(f"{where} has no losses; give it at least one")
        for label, loss in self.losses.items():
            if not isinstance(loss.get("kind"), str):
                raise ConfigError(f"{where}: the loss {label!r} needs a kind{nearest('', LOSSES.names())}")
        for name, least in (("epochs", 1), ("passes", 1), ("captions", 1), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise ConfigError(f"{where}: {name} must be at least {least}, and is {getattr(self, name)}")
        if 2 * self.captions > self.batch_size:
            raise ConfigError(
                f"{where}: batches of {self.batch_size} hold fewer than two items of {self.captions} captions, and an "
                f"item alone has nothing to be told from"
            )
        if not 0 <= self.warmup <= 1:
            raise ConfigError(f"{where}: warmup is a share of the steps, from 0 to 1, and not {self.warmup}")
        rates = self.lr.values() if isinstance(self.lr, dict) else [self.lr]
        if not all(0 <= size < math.inf for size in (*rates, self.weight_decay, self.noise)):
            raise ConfigError(f"{where}: lr, weight_decay and noise are finite numbers from 0 on")
        if not all(0 < beta < math.inf for beta in (self.beta if isinstance(self.beta, tuple) else (self.beta,))):
            raise ConfigError(f"{where}: beta, the steepness of tanh, is a finite number above 0, and not {self.beta}")
        if not 0 <= self.mix <= 1:
            raise ConfigError(f"{where}: mix is a share of the pairs, from 0 to 1, and not {self.mix}")
        if self.mix and self.refurbish is not None:
            raise ConfigError(
                f"{where}: refurbish believes single captions, and mix makes one of all of a picture's; take one away"
            )
        if self.ema is not None and not 0 < self.ema < 1:
            raise ConfigError(f"{where}: ema is a decay between 0 and 1, and not {self.ema}")
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"{where}: patience must be at least 1 epoch, and is {self.patience}")
        if self.grad_clip is not None and not 0 < self.grad_clip < math.inf:
            raise ConfigError(f"{where}: grad_clip is a finite number above 0, and not {self.grad_clip}")

    @property
    def teaches_reranker(self) -> bool:
        """Whether the re-ranker is among what learns."""
        return not {"reranker", "all"}.isdisjoint(self.train)

    def beta_at(self, progress: float) -> float:
        """Steepness of tanh when the stage is ``progress`` (0 to 1) through."""
        return _between(self.beta, progress)


@dataclass(frozen=True)
class Selection:
    """How the best epoch is chosen.

    Args:
        metric: on the validation split, codes against codes; ``MeanR`` is better when lower.
        n_bits: code length(s) at which it is taken (their mean); empty: the whole code. Nested models may name any
            of their lengths.
        stage: only epochs of this stage can be chosen; None: of any. For what a later stage is to show, whatever it
            does to the metric.
    """

    metric: Metric = "rSum"
    n_bits: int | tuple[int, ...] = ()
    stage: str | None = None

    @property
    def lengths(self) -> tuple[int, ...]:
        """``n_bits`` as a tuple."""
        return (self.n_bits,) if isinstance(self.n_bits, int) else self.n_bits

    @property
    def sign(self) -> float:
        """1 where higher is better, -1 where lower is."""
        return -1.0 if self.metric.endswith("MeanR") else 1.0


@dataclass(frozen=True)
class Claim:
    """What a system says of one of its parts, and how to see whether it holds: train without the part, and compare.

    Args:
        says: the claim, as a sentence.
        without: overrides that take the part away.
        given: overrides for both runs, such as the noise that the part should help against.
        measure: ``rSum`` of codes against codes, higher is better; ``probe``: how well a fresh probe tells modality
            from relaxed codes, lower is better; ``rerank``: rSum after re-ranking against the order by float vectors,
            in one run.
        n_bits: code length that it is looked at; None: the one that systems are compared at.
        tried: what was done to make it hold where it does not, for the report.
    """

    says: str
    without: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    measure: Literal["rSum", "probe", "rerank"] = "rSum"
    n_bits: int | None = None
    tried: str = ""

    def __post_init__(self) -> None:
        if bool(self.without) == (self.measure == "rerank"):
            raise ConfigError(f"the claim {self.says!r} needs `without`, or the measure rerank: one of both")


@dataclass(frozen=True)
class RunConfig:
    """A run.

    Args:
        name: of the run, for reports.
        model: what is trained.
        stages: in order.
        seed: of everything random.
        data: what is read of the data set.
        selection: how the best epoch is chosen.
        teacher: a saved model whose float vectors the loss ``distillation`` follows; None: none.
        precision: of the towers in training; ``auto``: bfloat16 where the device has instructions for it, else float32.
        claims: by name, what the system says of its parts; ``benchmarks/systems.py`` looks whether it holds.
    """

    name: str
    model: ModelConfig
    stages: tuple[Stage, ...]
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    selection: Selection = field(default_factory=Selection)
    teacher: Path | None = None
    precision: Precision = "auto"
    claims: dict[str, Claim] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"a seed is 0 or more, and not {self.seed}")
        if not self.stages:
            raise ConfigError("a run needs at least one stage")
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ConfigError(f"every stage needs a name of its own, and these are {names}")
        if self.selection.stage is not None and self.selection.stage not in names:
            raise ConfigError(
                f"selection.stage {self.selection.stage!r} is no stage{nearest(self.selection.stage, tuple(names))}"
            )
        for name, stage in zip(names, self.stages):
            if stage.patience is not None and self.selection.stage not in (None, name):
                raise ConfigError(
                    f"stages.{name}.patience waits for a better epoch; selection.stage lets none of it be chosen"
                )
            if stage.start == "best" and self.selection.stage not in (None, *names[: names.index(name)]):
                raise ConfigError(
                    f"stages.{name} starts from the best epoch, and selection.stage lets none before it be chosen; "
                    f"name an earlier stage there, or leave it out"
                )
        wrong = [length for length in self.selection.lengths if not 1 <= length <= self.model.n_bits]
        if wrong:
            raise ConfigError(f"selection.n_bits {wrong} does not fit codes of {self.model.n_bits} bits")


def read_config(path: str | Path, settings: Iterable[str] = ()) -> RunConfig:
    """The configuration in a YAML file, with overrides such as ``"stages.heads.lr=1e-4"`` applied.

    Args:
        path: of the file, or the name of a configuration that comes with hashret, such as ``"hashret"``.
        settings: overrides.

    Raises:
        ConfigError: the file cannot be read, or a key or value is wrong.
    """
    return build(RunConfig, override(read_yaml(_locate(path)), settings))


def _locate(path: str | Path) -> Path:
    """The file itself, or the one that comes with hashret under this name."""
    path = Path(path)
    if path.is_file() or path.suffix or path.parent != Path():
        return path
    package = Path(__file__).resolve().parents[1]
    # a wheel carries configs/ inside the package, a checkout beside it
    checkout = (package.parent / "pyproject.toml").is_file()
    folders = [package.parent / "configs" if checkout else package / "configs"]
    known = {file.stem: file for folder in folders for file in sorted(folder.glob("*.yaml"))}
    if path.name not in known:
        raise ConfigError(f"there is no configuration {path.name!r}{nearest(path.name, tuple(known))}")
    return known[path.name]


def weight_at(loss: dict[str, Any], progress: float) -> float:
    """The weight of a configured loss when its stage is ``progress`` (0 to 1) through."""
    weight = loss.get("weight", 1.0)
    try:
        value = _between(tuple(map(float, weight)) if isinstance(weight, list | tuple) else float(weight), progress)
    except (TypeError, ValueError):
        value = -1.0
    if not 0 <= value < math.inf:
        raise ConfigError(f"the weight of a loss is a number of 0 or more, or [from, to], and not {weight!r}")
    return value


def _between(value: float | tuple[float, ...], progress: float) -> float:
    if isinstance(value, tuple):
        first, last = value
        return first + (last - first) * progress
    return value
