"""Features of your own as an encoder: arrays in, the same arrays out.

For regions, ResNet vectors or any other embedding that was computed elsewhere. Knows nothing of where they came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hashret.arrays import NO_ARRAY
from hashret.encoders.base import Encoded, Encoder, EncoderConfig, masked_mean, pooled_vector, single
from hashret.errors import ConfigError, DataError


class FeatureEncoder(Encoder):
    """One array an item: a vector (D,), or tokens (N, D) with N of its own.

    Args:
        config: ``width`` is D; ``modality`` says which side it encodes ("image" unless given).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        if config.width is None:
            raise ConfigError('an encoder of kind "features" needs width: the number of features of one item')
        if config.train_blocks:
            raise ConfigError("features have no blocks to train: use train_blocks=0")
        self.width = 2 * config.width if config.pool == "first+mean" else config.width
        self.modality = config.modality or "image"

    @classmethod
    def build(cls, config: EncoderConfig) -> FeatureEncoder:
        """The encoder; there is nothing to load."""
        return cls(config)

    def prepare(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """Arrays, tensors, lists of numbers or paths of .npy files.

        Returns:
            ``{"features": (B, N, D) float32, "mask": (B, N) bool}``, padded with zeros.

        Raises:
            DataError: an item is no array of finite numbers that is ``width`` wide.
        """
        arrays = [self._array(item, number) for number, item in enumerate(items)]
        longest = max((len(array) for array in arrays), default=1)
        features = np.zeros((len(arrays), longest, self.config.width or 0), dtype=np.float32)
        mask = np.zeros(features.shape[:2], dtype=bool)
        for row, array in enumerate(arrays):
            features[row, : len(array)] = array
            mask[row, : len(array)] = True
        return {"features": torch.from_numpy(features), "mask": torch.from_numpy(mask)}

    def prefix(self, inputs: dict[str, Tensor]) -> Encoded:
        """The arrays where they lie, for there are no weights to move to; pooled where that is asked for."""
        tokens, mask = inputs["features"], inputs["mask"]
        pooled = pooled_vector(self.config.pool, tokens[:, 0], masked_mean(tokens, mask))
        return single(pooled) if self.config.output == "pooled" else Encoded(tokens, mask, pooled)

    def size_of(self, item: Any) -> int:
        """Tokens of the item."""
        return len(item) if isinstance(item, np.ndarray) and item.ndim == 2 else 0

    def identity(self) -> dict[str, Any]:
        """Width, output and pool."""
        return {
            "kind": "features",
            "width": self.config.width,
            "output": self.config.output,
            "pool": self.config.pool,
            "modality": self.modality,
        }

    def describe(self) -> dict[str, Any]:
        """What the configuration calls them, and how wide they are."""
        return {"architecture": "features", "source": self.config.name, "width": self.config.width}

    def save_extras(self, directory: Path) -> dict[str, Any]:
        """Nothing but the configuration."""
        return {}

    @classmethod
    def restore(cls, config: EncoderConfig, extras: dict[str, Any], directory: Path) -> FeatureEncoder:
        """The encoder; there is nothing to load."""
        return cls(config)

    def _array(self, item: Any, number: int) -> np.ndarray:
        if isinstance(item, str | Path):
            try:
                item = np.load(item, allow_pickle=False)
            except NO_ARRAY as error:
                raise DataError(f"{str(item)!r} is no readable .npy file of features: {error}") from error
        try:
            array = np.asarray(item, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"item {number} is no array of numbers: {error}") from error
        array = array[None] if array.ndim == 1 else array
        if array.ndim != 2 or array.shape[1] != self.config.width or len(array) == 0:
            raise DataError(
                f"item {number} has the shape {np.shape(item)}; expected ({self.config.width},) or "
                f"(tokens, {self.config.width})"
            )
        if not np.isfinite(array).all():
            raise DataError(f"item {number} holds NaN or infinity; features must be finite")
        return array
