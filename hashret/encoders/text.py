"""Words to features: any transformers text model by name, cut into a frozen prefix and a trainable suffix.

Knows transformers' conventions (tokenizers, ``encoder.layer``, two-tower checkpoints whose text half is wanted) and
nothing of pictures, heads or data sets.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hashret._lazy import require
from hashret.data.texts import check_texts
from hashret.encoders import _torchvision
from hashret.encoders.base import Encoded, Encoder, EncoderConfig, Pool, masked_mean, pooled_vector, single
from hashret.encoders.providers import Provider
from hashret.encoders.weights import Origin, load_pretrained, readable
from hashret.errors import ConfigError, WeightsError

_torchvision.ready()
transformers = require("transformers", extra="learn")
_TOKENIZER_FOLDER, _CONFIG_FOLDER = "tokenizer", "architecture"
_END_OF_TEXT_POOLING = ("clip_text_model",)


class TextEncoder(Encoder):
    """A transformers model as an encoder of words.

    Args:
        config: what it was built from.
        model: the transformers model, text half only.
        tokenizer: its tokenizer.
        origin: where the weights came from.
        prefix_text: put before every text, such as "query: ", because the weights were trained so.
    """

    modality = "text"
    takes_words = True

    def __init__(
        self, config: EncoderConfig, model: Any, tokenizer: Any, origin: Origin, prefix_text: str = ""
    ) -> None:
        super().__init__(config)
        if getattr(model, "pooler", None) is not None and _layers(model) is not None:
            model.pooler = None  # the next-sentence head of BERT: a layer that nobody reads
        self.model, self.tokenizer, self.origin, self.prefix_text = model, tokenizer, origin, prefix_text
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        positions = getattr(model.config, "max_position_embeddings", None) or config.max_length
        # RoBERTa numbers positions from the padding index up, so two of them are never words.
        reserved = (
            2 if getattr(model.config, "model_type", "") in ("roberta", "xlm-roberta", "mpnet", "camembert") else 0
        )
        self.max_length = min(config.max_length, positions - reserved)
        self._first_trained = self._cut(config)
        own_pool = model.config.model_type in _END_OF_TEXT_POOLING
        self._pool: Pool = "mean" if config.pool == "model" and not own_pool else config.pool
        width = int(model.config.hidden_size)
        self.width = 2 * width if config.pool == "first+mean" else width
        self.freeze()

    @classmethod
    def build(cls, config: EncoderConfig) -> TextEncoder:
        """The model that ``config.name`` means on the hub, in a folder or in a package.

        Raises:
            ConfigError: the configuration does not fit the model.
            WeightsError: its weights cannot be found.
        """
        prefix_text = ""

        def from_package(provider: Provider, path: Path) -> tuple[Any, Any]:
            nonlocal prefix_text
            prefix_text = provider.preprocessing.get("prefix_text", "")
            return _load(str(path), offline=True)

        if config.weights == "none":
            if not Path(config.name).is_dir():
                raise WeightsError(
                    f'weights="none" builds a text model from the folder of its configuration and tokenizer, and '
                    f"{config.name!r} is no folder"
                )
            with readable(f"the folder {config.name!r} holds no text model's configuration and tokenizer"):
                model = transformers.AutoModel.from_config(_text_half(config.name, offline=True))
                tokenizer = transformers.AutoTokenizer.from_pretrained(config.name, local_files_only=True)
            return cls(config, model, tokenizer, Origin("none", "random"))._checked()
        (model, tokenizer), origin = load_pretrained(
            config,
            "text",
            from_local=lambda path: _load(str(path), offline=True),
            from_hub=lambda name, cache_only: _load(name, offline=cache_only),
            from_package=from_package,
        )
        return cls(config, model, tokenizer, origin, prefix_text)._checked()

    # --- what items become

    def prepare(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """Tokenise texts.

        Args:
            items: strings.

        Returns:
            ``{"input_ids", "attention_mask"}``, (B, L) int64, padded to the longest of the batch.

        Raises:
            DataError: an item is no text.
        """
        check_texts(items)
        if not items:
            empty = torch.empty(0, 1, dtype=torch.int64)
            return {"input_ids": empty, "attention_mask": empty}
        texts = [self.prefix_text + item for item in items]
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt")
        return {"input_ids": tokens["input_ids"], "attention_mask": tokens["attention_mask"]}

    def size_of(self, item: Any) -> int:
        """Characters: texts of one length make batches with little padding."""
        return len(item) if isinstance(item, str) else 0

    def prefix(self, inputs: dict[str, Tensor]) -> Encoded:
        """Hidden states at the border (layers trained), or the finished features (nothing trained)."""
        ids, mask = inputs["input_ids"].to(self.device), inputs["attention_mask"].to(self.device)
        with torch.no_grad():
            if len(ids) == 0:  # attention cannot reshape what is empty
                hidden = torch.zeros(*ids.shape, self.model.config.hidden_size, device=self.device)
                return self._finish(hidden, mask.bool(), hidden[:, 0])
            if self._first_trained is None:
                output = self.model(input_ids=ids, attention_mask=mask)
                return self._finish(output.last_hidden_state, mask.bool(), getattr(output, "pooler_output", None))
            hidden = self.model.embeddings(input_ids=ids)
            layers = _layers(self.model) or nn.ModuleList()
            return Encoded(_run(layers[: self._first_trained], hidden, mask.bool()), mask.bool(), None)

    def suffix(self, encoded: Encoded) -> Encoded:
        """The trained layers and the pooling."""
        if self._first_trained is None:
            return encoded
        layers = _layers(self.model) or nn.ModuleList()
        hidden = _run(layers[self._first_trained :], encoded.tokens, encoded.mask)
        return self._finish(hidden, encoded.mask, None)

    def trainable_modules(self) -> list[nn.Module]:
        """The last layers."""
        layers = _layers(self.model)
        return [] if self._first_trained is None or layers is None else list(layers[self._first_trained :])

    # --- who it is and how it is kept

    def identity(self) -> dict[str, Any]:
        """Architecture, tokenizer, length and, where the prefix is all there is, how it pools."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        words = backend.to_str() if backend is not None else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        known = {
            "kind": "text",
            "architecture": self.model.config.model_type,
            "tokenizer": hashlib.sha256(_without_state(words).encode()).hexdigest(),
            "prefix_text": self.prefix_text,
            "max_length": self.max_length,
            "first_trained": self._first_trained,
        }
        if self._first_trained is None:
            known |= {"output": self.config.output, "pool": self._pool}
        return known

    def describe(self) -> dict[str, Any]:
        """Architecture, source, licence and counts of parameters."""
        return {
            "architecture": self.model.config.model_type,
            **dataclasses.asdict(self.origin),
            "max_length": self.max_length,
            "pool": self._pool,
            "parameters": sum(p.numel() for p in self.parameters()),
            "trainable": sum(p.numel() for p in self.parameters() if p.requires_grad),
        }

    def save_extras(self, directory: Path) -> dict[str, Any]:
        """The tokenizer's files and the architecture's configuration, beside the origin."""
        self.tokenizer.save_pretrained(directory / _TOKENIZER_FOLDER)
        self.model.config.save_pretrained(directory / _CONFIG_FOLDER)
        return {"origin": dataclasses.asdict(self.origin), "prefix_text": self.prefix_text}

    @classmethod
    def restore(cls, config: EncoderConfig, extras: dict[str, Any], directory: Path) -> TextEncoder:
        """The same architecture and tokenizer, with random weights until the saved ones are loaded."""
        architecture = transformers.AutoConfig.from_pretrained(directory / _CONFIG_FOLDER, local_files_only=True)
        model = transformers.AutoModel.from_config(architecture)
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory / _TOKENIZER_FOLDER, local_files_only=True)
        return cls(config, model, tokenizer, Origin(**extras["origin"]), extras["prefix_text"])

    # --- inside

    def _cut(self, config: EncoderConfig) -> int | None:
        """The number of the first trained layer, or None where nothing is trained."""
        if config.train_blocks == 0:
            return None
        layers = _layers(self.model)
        if layers is None:
            raise ConfigError(
                f"the layers of {config.name!r} cannot be trained: train_blocks works for models of BERT's layout "
                f"(encoder.layer), and this is {type(self.model).__name__}; use train_blocks=0"
            )
        if config.train_blocks > len(layers):
            raise ConfigError(f"{config.name!r} has {len(layers)} layers; train_blocks cannot be {config.train_blocks}")
        return 0 if config.train_blocks == -1 else len(layers) - config.train_blocks

    @torch.no_grad()
    def _checked(self) -> TextEncoder:
        """Itself, where the model does what the configuration takes for granted; a saved one did when it was built.

        Raises:
            ConfigError: it does not.
        """
        self.model.eval()
        self.has_class_token = self._first_token_sees_all()
        if self.config.pool.startswith("first") and not self.has_class_token:
            raise ConfigError(
                f"{self.config.name!r} reads from left to right, and its first token knows nothing of the others; its "
                f'pool can be "model" or "mean"'
            )
        if not self._layers_are_all():
            raise ConfigError(
                f"the layers of {self.config.name!r} cannot be trained: {type(self.model).__name__} does more than its "
                f"embeddings and layers; use train_blocks=0"
            )
        return self

    def _first_token_sees_all(self) -> bool:
        """Whether what follows the first token changes what becomes of it."""
        ids = torch.tensor([[3, 4, 5], [3, 5, 4]]) % int(self.model.config.vocab_size)
        try:
            first = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0]
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ConfigError(
                f"{self.config.name!r} cannot encode texts here: {type(self.model).__name__} makes no features of "
                f"token numbers alone ({error})"
            ) from error
        return not torch.allclose(first[0], first[1], rtol=1e-4, atol=1e-6)

    def _layers_are_all(self) -> bool:
        """Whether embeddings and layers, run one after the other, are the whole model, if layers are to be trained."""
        layers = _layers(self.model)
        if self._first_trained is None or layers is None:
            return True
        padding = self.tokenizer.pad_token_id or 0
        ids = torch.tensor([[3, 4, 5, 6], [6, 5, 4, padding]]) % int(self.model.config.vocab_size)
        mask = torch.tensor([[True] * 4, [True] * 3 + [False]])
        try:
            whole = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state[mask]
            parts = _run(layers, self.model.embeddings(input_ids=ids), mask)[mask]
        except (TypeError, RuntimeError, IndexError, AttributeError):
            return False
        return torch.allclose(parts, whole, rtol=1e-3, atol=1e-3 * float(whole.abs().max()))

    def _finish(self, hidden: Tensor, mask: Tensor, own: Tensor | None) -> Encoded:
        if self._pool == "model" and own is not None:
            pooled = own
        else:
            pooled = pooled_vector(self._pool, hidden[:, 0], masked_mean(hidden, mask))
        return single(pooled) if self.config.output == "pooled" else Encoded(hidden, mask, pooled)


def _layers(model: Any) -> nn.ModuleList | None:
    """The list of layers where the model has BERT's layout, else None."""
    layers = getattr(getattr(model, "encoder", None), "layer", None)
    bert_like = isinstance(layers, nn.ModuleList) and hasattr(model, "embeddings")
    # MPNet has the layout, but adds relative positions to every layer's attention.
    return layers if bert_like and not hasattr(model.encoder, "relative_attention_bias") else None


def _run(layers: Any, hidden: Tensor, mask: Tensor) -> Tensor:
    """``hidden`` (B, L, D) through layers of BERT's kind; padding gets no attention."""
    refused = torch.finfo(hidden.dtype).min
    bias = torch.zeros(mask.shape, dtype=hidden.dtype, device=hidden.device).masked_fill(~mask, refused)
    bias = bias[:, None, None].expand(-1, 1, mask.shape[1], -1)
    for layer in layers:
        output = layer(hidden, bias)
        hidden = output[0] if isinstance(output, tuple) else output  # a tuple before transformers 5
    return hidden


def _text_half(name: str, *, offline: bool) -> Any:
    """The text tower's configuration of a two-tower model such as CLIP, or the whole model's configuration."""
    whole = transformers.AutoConfig.from_pretrained(name, local_files_only=offline)
    half = getattr(whole, "text_config", None) or whole
    if type(half) not in transformers.MODEL_MAPPING:
        raise ConfigError(
            f"{name!r} cannot encode texts here: transformers builds no {half.model_type!r} on its own; models of "
            f"BERT's kind (BERT, MiniLM, MPNet, RoBERTa, BGE, E5, …) and CLIP can be used, and what any other model "
            f'gives goes through kind="features"'
        )
    return half


def _load(name: str, *, offline: bool) -> tuple[Any, Any]:
    transformers.utils.logging.disable_progress_bar()  # it draws even where stderr is no terminal
    architecture = _text_half(name, offline=offline)
    model, report = transformers.AutoModel.from_pretrained(
        name, config=architecture, local_files_only=offline, output_loading_info=True, dtype=torch.float32
    )
    missing = [key for key in report["missing_keys"] if not key.startswith("pooler.")]
    if missing:
        raise WeightsError(f"the weights of {name!r} lack {len(missing)} tensors, such as {missing[0]!r}")
    return model, transformers.AutoTokenizer.from_pretrained(name, local_files_only=offline)


def _without_state(words: str) -> str:
    """The tokenizer's JSON less the padding and truncation that its last call left in it."""
    content = json.loads(words)
    content.pop("padding", None)
    content.pop("truncation", None)
    return json.dumps(content, sort_keys=True)
