"""Configuration of a model, as plain frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from hashret.encoders import EncoderConfig
from hashret.errors import ConfigError


@dataclass(frozen=True)
class HeadConfig:
    """The hash head.

    Args:
        kind: a name of ``hashret.model.heads.HEADS``.
        hidden: width of the hidden layer of ``residual_mlp``.
        dropout: behind the hidden layer, in training.
        input_dropout: before the hidden layer, in training; the linear path sees every feature.
        batch_norm: whether logits are normalised by their running mean and variance (centred bits).
        own: prefixes in bits, ascending, that have hidden layers of their own in ``residual_mlp``: with [256] bits 0 to
            255 have one, and the others another.
    """

    kind: str = "residual_mlp"
    hidden: int = 512
    dropout: float = 0.2
    input_dropout: float = 0.0
    batch_norm: bool = False
    own: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.hidden < 1 or not (0 <= self.dropout < 1 and 0 <= self.input_dropout < 1):
            raise ConfigError("a hash head needs hidden >= 1, 0 <= dropout < 1 and 0 <= input_dropout < 1")
        if any(later <= earlier for earlier, later in zip((0, *self.own), self.own)):
            raise ConfigError(f"the prefixes of a hash head with layers of their own must ascend, unlike {self.own}")


def check_read(part: type, config: HeadConfig | RerankerConfig, where: str) -> None:
    """Refuse what is set and never read: whoever sets it expects it to matter.

    Args:
        part: the class that ``config.kind`` names; its ``reads`` are the keys that it reads, None: all.
        config: what the configuration says.
        where: the part's place in it, for the message.

    Raises:
        ConfigError: a key that the part does not read differs from its default.
    """
    reads = getattr(part, "reads", None)
    for key in fields(config):
        given = getattr(config, key.name)
        if reads is not None and key.name not in {"kind", *reads} and given != key.default:
            raise ConfigError(f"{where}: kind {config.kind!r} does not read {key.name}, which is {given}; leave it out")


@dataclass(frozen=True)
class MixerConfig:
    """A transformer over the tokens of one item.

    Args:
        layers: number of blocks.
        heads: attention heads; they divide ``width``.
        width: of the blocks; the tokens are projected to it. None: as wide as they are.
        ffn: width of the feed-forward layers.
        dropout: in training.
        shared: whether both towers run through the same blocks (their widths must then be equal).
    """

    layers: int = 1
    heads: int = 4
    width: int | None = None
    ffn: int = 1024
    dropout: float = 0.1
    shared: bool = False

    def __post_init__(self) -> None:
        if min(self.layers, self.heads, self.ffn) < 1 or not 0 <= self.dropout < 1:
            raise ConfigError("a mixer needs layers, heads and ffn >= 1 and 0 <= dropout < 1")


@dataclass(frozen=True)
class TowerConfig:
    """One tower.

    Args:
        encoder: items to features.
        adapter: a name of ``hashret.model.adapters.ADAPTERS``.
        mixers: run over the tokens one after the other; they need an encoder with ``output: tokens``.
        pooler: a name of ``hashret.model.poolers.POOLERS``, or ``auto``: the encoder's own pooled features with
            ``output: pooled``, the mean of all tokens with ``output: tokens``.
        head: features to logits.
    """

    encoder: EncoderConfig
    adapter: str = "centre"
    mixers: tuple[MixerConfig, ...] = ()
    pooler: str = "auto"
    head: HeadConfig = field(default_factory=HeadConfig)


@dataclass(frozen=True)
class RerankerConfig:
    """A scorer of pairs, for the nearest few that codes find.

    Args:
        kind: a name of ``hashret.model.rerankers.RERANKERS``: ``fusion`` or ``graph``.
        width: that the tokens of both towers are projected to.
        layers: blocks of ``fusion``.
        heads: attention heads of ``fusion``; they divide ``width``.
        ffn: width of the feed-forward layers of ``fusion``.
        dropout: in training.
        steps: of reasoning of ``graph``.
        similarity_width: of the nodes of ``graph``.
        sharpness: λ of ``graph``: how much a word looks at its best image token alone.
    """

    kind: str
    width: int = 256
    layers: int = 2
    heads: int = 4
    ffn: int = 512
    dropout: float = 0.1
    steps: int = 3
    similarity_width: int = 128
    sharpness: float = 9.0

    def __post_init__(self) -> None:
        least = min(self.width, self.layers, self.heads, self.ffn, self.steps, self.similarity_width)
        if least < 1 or not 0 <= self.dropout < 1 or self.sharpness <= 0:
            raise ConfigError(
                "a re-ranker needs width, layers, heads, ffn, steps and similarity_width >= 1, 0 <= dropout < 1 and "
                "sharpness > 0"
            )
        if self.kind == "fusion" and self.width % self.heads:
            raise ConfigError(f"a re-ranker of width {self.width} cannot have {self.heads} heads; choose a divisor")


@dataclass(frozen=True)
class RoundingConfig:
    """How all bits of an item are chosen together, see ``hashret.rounding``.

    Args:
        weight: of how training codes' bits go together, 0 to 1; 0 gives signs.
        size: root mean square of a relaxed code before it is compared with ±1.
    """

    weight: float = 0.3
    size: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1 or not 0 < self.size < float("inf"):
            raise ConfigError("a rounding needs 0 <= weight <= 1 and size > 0")


@dataclass(frozen=True)
class ModelConfig:
    """A cross-modal hasher.

    Args:
        n_bits: length of a whole code.
        towers: one for ``image`` and one for ``text``.
        code_lengths: prefixes that are trained to be codes of their own (nested codes), in bits.
        rounding: how relaxed codes become bits; None: each by its sign.
        reranker: scores pairs of items; None: the model has none. No code depends on it.
    """

    n_bits: int
    towers: dict[str, TowerConfig]
    code_lengths: tuple[int, ...] = ()
    rounding: RoundingConfig | None = None
    reranker: RerankerConfig | None = None

    def __post_init__(self) -> None:
        if self.n_bits < 1:
            raise ConfigError(f"a code needs at least 1 bit, and n_bits is {self.n_bits}")
        if set(self.towers) != {"image", "text"}:
            raise ConfigError(f"a model has the towers image and text, and not {sorted(self.towers)}")
        wrong = [length for length in self.code_lengths if not 1 <= length <= self.n_bits]
        if wrong:
            raise ConfigError(
                f"code_lengths must lie between 1 and n_bits = {self.n_bits}, and {wrong} do not; set both, or give "
                f"`hashret train` --sweep n_bits={self.n_bits}, which cuts all that is longer"
            )
