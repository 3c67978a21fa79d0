"""Pictures to features: any timm model by name, cut into a frozen prefix and a trainable suffix.

Knows timm's conventions (class tokens, feature maps, the pretrained data configuration) and nothing of words, heads or
data sets. A ViT gives its class token and patches; a CNN gives the cells of its last feature map.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hashret._lazy import require
from hashret.config import build
from hashret.data import decode_image, middle_of
from hashret.encoders import _torchvision
from hashret.encoders.base import Encoded, Encoder, EncoderConfig, masked_mean, pooled_vector, single
from hashret.encoders.providers import Provider
from hashret.encoders.weights import Origin, load_pretrained, provider_state, read_state
from hashret.errors import ConfigError, WeightsError

_torchvision.ready()
require("torchvision", extra="learn")  # of which timm would say no more than that it is not there
timm = require("timm", extra="learn")
require("timm.data", extra="learn")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the model's input, as in timm's data configuration."""

    image_size: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float
    crop_mode: str

    @classmethod
    def of(cls, model: nn.Module, image_size: int | None, overlay: dict[str, Any]) -> Preprocessing:
        """What the model's pretrained configuration says, or the provider's where it says more."""
        data = {**timm.data.resolve_model_data_config(model), **overlay}
        return cls(
            image_size=image_size or data["input_size"][-1],
            interpolation=data["interpolation"],
            mean=tuple(data["mean"]),
            std=tuple(data["std"]),
            crop_pct=data["crop_pct"],
            crop_mode=data["crop_mode"],
        )

    def transform(self) -> Any:
        """A callable from an RGB picture to a (3, S, S) uint8 tensor; normalising waits for the device."""
        size = (3, self.image_size, self.image_size)
        steps = timm.data.create_transform(
            input_size=size,
            interpolation=self.interpolation,
            crop_pct=self.crop_pct,
            crop_mode=self.crop_mode,
            is_training=False,
            normalize=False,
        )
        if self.crop_mode != "squash":
            steps.transforms.insert(0, middle_of)
        return steps


class ImageEncoder(Encoder):
    """A timm model as an encoder of pictures.

    Args:
        config: what it was built from.
        architecture: the timm name that rebuilds the model.
        model: the timm model without its classifier.
        preprocessing: what its weights expect.
        origin: where its weights came from.
    """

    modality = "image"
    model: Any
    _mean: Tensor
    _std: Tensor

    def __init__(
        self, config: EncoderConfig, architecture: str, model: Any, preprocessing: Preprocessing, origin: Origin
    ) -> None:
        super().__init__(config)
        self.architecture, self.model, self.preprocessing, self.origin = architecture, model, preprocessing, origin
        self._transform = preprocessing.transform()
        if not isinstance(model, _vit_class()):
            model.to(memory_format=torch.channels_last)  # depthwise convolutions on a CPU run 2 to 3 times as fast
        self._first_trained = self._cut(config)
        self.has_class_token = int(getattr(model, "num_prefix_tokens", 0)) > 0
        if not self.has_class_token and config.pool.startswith("first"):
            raise ConfigError(f'{config.name!r} has no class token; its pool can be "model" or "mean"')
        wide = int(getattr(model, "head_hidden_size", None) or model.num_features)
        features = int(model.num_features)
        if config.output == "tokens" and config.pool == "model" and wide != features:
            raise ConfigError(f'{config.name!r} pools to {wide} features, its tokens have {features}: use pool="mean"')
        self.width = {"model": wide, "first+mean": 2 * features}.get(config.pool, features)
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        self.register_buffer("_mean", 255 * mean.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("_std", 255 * std.view(1, -1, 1, 1), persistent=False)
        self.freeze()

    @classmethod
    def build(cls, config: EncoderConfig) -> ImageEncoder:
        """The model that ``config.name`` means in timm, with the weights that ``config.weights`` names.

        Raises:
            ConfigError: timm has no such model, or the configuration does not fit it.
            WeightsError: its weights cannot be found, or do not fit.
        """
        on_hub = config.name.startswith(("hf-hub:", "hf_hub:"))
        if not on_hub and not timm.is_model(config.name):
            close = difflib.get_close_matches(config.name, timm.list_models(), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "; timm.list_models() gives all names"
            raise ConfigError(f"timm has no image model {config.name!r}{hint}")
        if not on_hub:
            try:
                timm.get_pretrained_cfg(config.name)
            except RuntimeError as error:
                tags = ", ".join(timm.list_pretrained(config.name.split(".")[0]))
                raise ConfigError(f"timm has no weights called {config.name!r}; it has {tags}") from error
        overlay: dict[str, Any] = {}

        def from_package(provider: Provider, path: Path) -> Any:
            overlay.update(provider.preprocessing)
            model = timm.create_model(provider.architecture, pretrained=False)
            _load_strict(model, provider_state(provider, path), path)
            model.reset_classifier(0)
            return model

        if config.weights == "none":
            model, origin = timm.create_model(config.name, pretrained=False, num_classes=0), Origin("none", "random")
        else:
            model, origin = load_pretrained(
                config,
                "image",
                from_local=lambda path: _from_file(config.name, path),
                from_hub=lambda name, cache_only: _from_hub(name, cache_only),
                from_package=from_package,
            )
        if origin.place == "hub":
            origin = dataclasses.replace(origin, licence=model.pretrained_cfg.get("license") or "unknown")
        architecture = model.pretrained_cfg.get("architecture") or config.name.split(".")[0]
        preprocessing = Preprocessing.of(model, config.image_size, overlay)
        _resize(model, preprocessing.image_size, config.name)
        return cls(config, architecture, model, preprocessing, origin)

    # --- what items become

    def prepare(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """Decode, resize and crop pictures.

        Args:
            items: paths, encoded bytes, PIL images or (H, W[, C]) arrays.

        Returns:
            ``{"pixels": (B, 3, S, S) uint8}``.

        Raises:
            DataError: an item is no picture; the message names it.
        """
        if len(items) == 1:
            return {"pixels": self._picture(items[0])[None]}
        with ThreadPoolExecutor(max_workers=min(len(items) or 1, os.cpu_count() or 1)) as pool:
            pictures = list(pool.map(self._picture, items))  # PIL lets go of the interpreter while it works
        size = self.preprocessing.image_size
        return {"pixels": torch.stack(pictures) if pictures else torch.empty(0, 3, size, size, dtype=torch.uint8)}

    def prefix(self, inputs: dict[str, Tensor]) -> Encoded:
        """Patches at the border (blocks trained), or the finished features (nothing trained)."""
        with torch.no_grad():
            x = (inputs["pixels"].to(self.device, torch.float32) - self._mean) / self._std
            model = self.model
            if not isinstance(model, _vit_class()):
                x = x.contiguous(memory_format=torch.channels_last)
            if self._first_trained is None:
                return self._finish(model.forward_features(x))
            x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(x))))
            for block in model.blocks[: self._first_trained]:
                x = block(x)
            tokens = self._gridded(x)
            return Encoded(tokens, _all(tokens), None)

    def suffix(self, encoded: Encoded) -> Encoded:
        """The trained blocks, the final norm and the pooling."""
        if self._first_trained is None:
            return encoded
        x = encoded.tokens
        for block in self.model.blocks[self._first_trained :]:
            x = block(x)
        return self._finish(self.model.norm(x))

    def trainable_modules(self) -> list[nn.Module]:
        """The last blocks, the final norms and the model's attention pool where it has one."""
        if self._first_trained is None:
            return []
        last = [self.model.norm, self.model.fc_norm, self.model.attn_pool]
        return [*self.model.blocks[self._first_trained :], *(module for module in last if module is not None)]

    # --- who it is and how it is kept

    def identity(self) -> dict[str, Any]:
        """Architecture, preprocessing and, where the prefix is all there is, how it pools."""
        known = {
            "kind": "image",
            "architecture": self.architecture,
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "token_grid": self.config.token_grid,
            "first_trained": self._first_trained,
        }
        if self._first_trained is None:
            known |= {"output": self.config.output, "pool": self.config.pool}
        return known

    def describe(self) -> dict[str, Any]:
        """Architecture, source, licence, preprocessing and counts of parameters."""
        return {
            "architecture": self.architecture,
            **dataclasses.asdict(self.origin),
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "parameters": sum(p.numel() for p in self.parameters()),
            "trainable": sum(p.numel() for p in self.parameters() if p.requires_grad),
        }

    def save_extras(self, directory: Path) -> dict[str, Any]:
        """Architecture, preprocessing and origin; a picture encoder has no other files."""
        return {
            "architecture": self.architecture,
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "origin": dataclasses.asdict(self.origin),
        }

    @classmethod
    def restore(cls, config: EncoderConfig, extras: dict[str, Any], directory: Path) -> ImageEncoder:
        """The same architecture, with random weights until the saved ones are loaded."""
        preprocessing = build(Preprocessing, extras["preprocessing"])
        model = timm.create_model(extras["architecture"], pretrained=False, num_classes=0)
        _resize(model, preprocessing.image_size, config.name)
        return cls(config, extras["architecture"], model, preprocessing, Origin(**extras["origin"]))

    # --- inside

    def _picture(self, item: Any) -> Tensor:
        pixels: Tensor = self._transform(decode_image(item))
        return pixels

    def _cut(self, config: EncoderConfig) -> int | None:
        """The number of the first trained block, or None where nothing is trained."""
        if config.train_blocks == 0:
            return None
        if not isinstance(self.model, _vit_class()):
            raise ConfigError(
                f"the blocks of {config.name!r} cannot be trained: train_blocks works for timm's VisionTransformer "
                f"models, and this is a {type(self.model).__name__}; use train_blocks=0"
            )
        blocks = len(self.model.blocks)
        if config.train_blocks > blocks:
            raise ConfigError(f"{config.name!r} has {blocks} blocks; train_blocks cannot be {config.train_blocks}")
        return 0 if config.train_blocks == -1 else blocks - config.train_blocks

    def _finish(self, features: Tensor) -> Encoded:
        """Tokens and the pooled vector from the model's last features, (B, N, D) or a map."""
        model = self.model
        flat = self._flat(features)
        first = int(getattr(model, "num_prefix_tokens", 0))
        if self.config.pool == "model":
            pooled = model.forward_head(features, pre_logits=True)
        else:
            patches = flat[:, first:]
            pooled = pooled_vector(self.config.pool, flat[:, 0], masked_mean(patches, _all(patches)))
        if self.config.output == "pooled":
            return single(pooled)
        tokens = self._gridded(flat) if self._first_trained is None else flat
        return Encoded(tokens, _all(tokens), pooled)

    def _flat(self, features: Tensor) -> Tensor:
        if features.ndim == 3:
            return features
        if features.ndim == 4:
            last = features.shape[-1] == self.model.num_features != features.shape[1]
            return features.flatten(1, 2) if last else features.flatten(2).transpose(1, 2)
        raise ConfigError(f"{self.config.name!r} gives features of shape {tuple(features.shape)}, not tokens or a map")

    def _gridded(self, tokens: Tensor) -> Tensor:
        """The patches averaged to ``token_grid`` squared, the class token and its like kept first."""
        grid = self.config.token_grid
        if grid is None:
            return tokens
        first = int(getattr(self.model, "num_prefix_tokens", 0))
        count = tokens.shape[1] - first
        side = math.isqrt(count)
        if side * side != count or grid > side:
            raise ConfigError(f"{count} patches cannot be pooled to a grid of {grid} x {grid}")
        patches = tokens[:, first:].transpose(1, 2).reshape(tokens.shape[0], -1, side, side)
        pooled = nn.functional.adaptive_avg_pool2d(patches, grid).flatten(2).transpose(1, 2)
        return torch.cat([tokens[:, :first], pooled], dim=1)


def _vit_class() -> Any:
    return require("timm.models.vision_transformer", extra="learn").VisionTransformer


def _all(tokens: Tensor) -> Tensor:
    return torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


def _from_hub(name: str, cache_only: bool) -> Any:
    if cache_only:
        hub = require("huggingface_hub", extra="learn")
        repo = name.split(":", 1)[1] if ":" in name else timm.get_pretrained_cfg(name).hf_hub_id
        path = hub.try_to_load_from_cache(repo, "model.safetensors") if repo else None
        if not isinstance(path, str):
            raise WeightsError("nothing was downloaded before")
        return _from_file(name, Path(path))
    return timm.create_model(name, pretrained=True, num_classes=0)


def _from_file(name: str, path: Path) -> Any:
    """A model with the weights of a file, or of the first file of weights in a folder."""
    if path.is_dir():
        files = [path / part for part in ("model.safetensors", "pytorch_model.bin", "model.pth", "model.pt")]
        found = next((file for file in files if file.exists()), None)
        if found is None:
            names = ", ".join(file.name for file in files)
            raise WeightsError(f"{str(path)!r} holds no weights; a folder of weights has one of {names}")
        path = found
    model = timm.create_model(name, pretrained=False, num_classes=0)
    state = read_state(path)
    head = model.pretrained_cfg.get("classifier") or ()
    heads = (head,) if isinstance(head, str) else tuple(head)
    state = {key: tensor for key, tensor in state.items() if not key.startswith(tuple(f"{part}." for part in heads))}
    adapt = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    _load_strict(model, adapt(state, model) if adapt is not None else state, path)
    return model


def _load_strict(model: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"the weights at {str(path)!r} do not fit the architecture: {reason}") from error


def _resize(model: Any, image_size: int, name: str) -> None:
    """Interpolate a ViT's positions to ``image_size``; a convolutional model takes any size as it is."""
    embed: Any = getattr(model, "patch_embed", None)
    current = getattr(embed, "img_size", None)
    if current is None or tuple(current) == (image_size, image_size):
        return
    patch = embed.patch_size[0]
    if image_size % patch:
        near = max(patch, round(image_size / patch) * patch)
        raise ConfigError(f"{name!r} cuts {patch}-pixel patches, and {image_size} is no multiple; try {near}")
    if not hasattr(model, "set_input_size"):
        raise ConfigError(f"{name!r} takes pictures of {current[0]} pixels only; leave image_size out")
    model.set_input_size(img_size=(image_size, image_size))
