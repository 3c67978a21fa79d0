"""What an encoder is: items in, tokens and a pooled vector out, split into a frozen prefix and a trainable suffix.

Knows nothing of pictures, words, towers or heads. The seam between ``prefix`` and ``suffix`` is where features are
cached: everything before it is frozen and runs once per item, everything after it may be trained.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from hashret.errors import ConfigError

Modality = Literal["image", "text"]
Pool = Literal["model", "mean", "first", "first+mean"]


class Encoded(NamedTuple):
    """What an encoder says about a batch of B items.

    Attributes:
        tokens: (B, N, D) float features; N = 1 and the pooled vector itself where only that was asked for.
        mask: (B, N) bool, True where a token is one.
        pooled: (B, D) float, or None at the border between a frozen prefix and a trainable suffix.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor | None


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Which encoder, with which weights, and how much of it is trained.

    Attributes:
        kind: a name of ``hashret.encoders.KINDS``: "image", "text", "bag" or "features".
        name: a timm model ("image"), a transformers model or folder ("text"), "tfidf" or "bow" ("bag"); free text
            for "features".
        weights: "auto" (a local directory, then the hub, then packages), "hub", "package", "none" (random), or the
            path of a file or folder.
        train_blocks: how many of the last blocks are trainable; 0 = all frozen, -1 = every block.
        output: "pooled" (one vector an item) or "tokens" (all of them, and the pooled vector beside).
        pool: how tokens become the pooled vector: "model" (of pictures and of CLIP's texts as the weights were
            trained; of other texts and of "features" the mean), "mean" (of patches or words), "first" (the class
            token), "first+mean" (both, side by side; only with output="pooled"). Text models whose class token was
            trained, such as BGE, want "first".
        token_grid: average-pool the patches to this many squared before they are cached; the class token is kept.
        image_size: side of the model's input in pixels; None = the model's own.
        max_length: text longer than this many tokens is cut.
        vocabulary_size: width of a "bag".
        width: width of "features".
        modality: which side "features" are; the other kinds know theirs.
        stand_in: another name to build where no place has the weights of ``name``, so that one configuration serves
            machines with and without a hub.
    """

    kind: str
    name: str
    weights: str = "auto"
    train_blocks: int = 0
    output: Literal["pooled", "tokens"] = "pooled"
    pool: Pool = "model"
    token_grid: int | None = None
    image_size: int | None = None
    max_length: int = 64
    vocabulary_size: int = 2048
    width: int | None = None
    modality: Modality | None = None
    stand_in: str | None = None

    def __post_init__(self) -> None:
        if self.train_blocks < -1:
            raise ConfigError(
                f"train_blocks counts the last blocks that are trained, and cannot be {self.train_blocks}"
            )
        if self.pool == "first+mean" and self.output == "tokens":
            raise ConfigError('pool="first+mean" is twice as wide as a token; use it with output="pooled"')
        for name in ("token_grid", "image_size", "max_length", "vocabulary_size", "width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")


class Encoder(nn.Module):
    """Base of all encoders.

    A subclass sets ``modality`` and ``width``, and writes ``build``, ``prepare``, ``prefix``, ``identity``,
    ``describe``, ``save_extras`` and ``restore``; one with trainable parts writes ``suffix`` and
    ``trainable_modules`` too.

    Attributes:
        config: what it was built from.
        modality: "image" or "text".
        width: D of what ``forward`` gives.
        has_class_token: whether the first token stands for the whole item.
        takes_words: whether a string among the items is a text; else it is the path of a file.
    """

    modality: Modality
    width: int
    has_class_token = True
    takes_words = False

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config

    # --- what items become

    def fit(self, items: Iterable[Any]) -> None:
        """Learn from training items what is no weight, such as a vocabulary; most encoders have nothing to learn."""

    def prepare(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """Decode or tokenise items into CPU tensors with the batch first."""
        raise NotImplementedError

    def prefix(self, inputs: dict[str, Tensor]) -> Encoded:
        """The frozen part, without gradients."""
        raise NotImplementedError

    def suffix(self, encoded: Encoded) -> Encoded:
        """The trainable part; what it was given where nothing is trained."""
        return encoded

    def forward(self, inputs: dict[str, Tensor]) -> Encoded:
        """``suffix(prefix(inputs))``."""
        return self.suffix(self.prefix(inputs))

    def size_of(self, item: Any) -> int:
        """A rough cost of an item, so that items of one length can share a batch."""
        return 0

    # --- what is trained

    def trainable_modules(self) -> list[nn.Module]:
        """The parts of the suffix that learn."""
        return []

    def freeze(self) -> None:
        """Take the gradient from everything but ``trainable_modules``; a subclass calls it when it is built."""
        self.requires_grad_(False)
        for module in self.trainable_modules():
            module.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Encoder:
        """Only the trainable part ever leaves evaluation mode, and batch normalisation never does."""
        super().train(False)
        self.training = mode
        for module in self.trainable_modules():
            module.train(mode)
            for part in module.modules():
                if isinstance(part, nn.modules.batchnorm._BatchNorm):
                    part.eval()
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU for an encoder without weights, which works where its inputs lie."""
        return next((tensor.device for tensor in _tensors(self)), torch.device("cpu"))

    # --- who it is

    def identity(self) -> dict[str, Any]:
        """Everything but weights that decides what ``prefix`` gives, as plain data."""
        raise NotImplementedError

    @property
    def prefix_fingerprint(self) -> str:
        """sha256, in hexadecimal, of the frozen weights, the preprocessing and the configuration of the prefix."""
        learning = {id(tensor) for module in self.trainable_modules() for tensor in _tensors(module)}
        digest = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict(keep_vars=True).items()):
            if id(tensor) not in learning:
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                flat = tensor.detach().cpu().contiguous().reshape(-1)
                digest.update(flat.view(torch.uint8).numpy())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """Architecture, where the weights came from, their licence: for reports and credits."""
        raise NotImplementedError

    # --- how it is made and kept

    @classmethod
    def build(cls, config: EncoderConfig) -> Encoder:
        """An encoder with the weights that ``config`` names."""
        raise NotImplementedError

    def save_extras(self, directory: Path) -> dict[str, Any]:
        """Write what is no weight (a tokenizer) into ``directory``; return the plain data that ``restore`` needs."""
        raise NotImplementedError

    @classmethod
    def restore(cls, config: EncoderConfig, extras: dict[str, Any], directory: Path) -> Encoder:
        """The encoder that ``save_extras`` described, with weights still to be loaded; needs no hub and no package."""
        raise NotImplementedError


def single(pooled: Tensor) -> Encoded:
    """A pooled vector (B, D) as the one token of its item."""
    return Encoded(pooled[:, None], torch.ones(pooled.shape[0], 1, dtype=torch.bool, device=pooled.device), pooled)


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """The mean (B, D) of the tokens (B, N, D) where the mask (B, N) is true."""
    weights = mask.to(tokens.dtype).unsqueeze(-1)
    return (tokens * weights).sum(1) / weights.sum(1).clamp_min(1)


def pooled_vector(pool: Pool, first: Tensor, mean: Tensor) -> Tensor:
    """The pooled vector from the first token (B, D) and the mean (B, D): one of them, or both side by side."""
    if pool == "first+mean":
        return torch.cat([first, mean], dim=1)
    return first if pool == "first" else mean


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
