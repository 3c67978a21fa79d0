"""A model behind the verbs of sentence-transformers, for programs and evaluators that expect a ``SentenceTransformer``.

``precision="float32"`` gives unit vectors whose cosines the codes approximate; ``"ubinary"`` gives codes, laid out as
sentence-transformers packs signs (of a model without a rounding they are the signs of those vectors, bit for bit);
``"binary"`` gives the same bytes less 128, as int8, again as it does. Needs neither
sentence-transformers nor, unless a tensor is asked for, torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hashret._lazy import require
from hashret.engine import open_model
from hashret.errors import InputError
from hashret.registry import nearest

if TYPE_CHECKING:
    from hashret.engine import Model

PRECISIONS = ("float32", "ubinary", "binary")
_PASSED_OVER = ("chunk_size", "device", "normalize_embeddings", "output_value", "pool", "show_progress_bar")
_TAKEN = ("batch_size", "convert_to_numpy", "convert_to_tensor", "precision", "prompt", "prompt_name", "truncate_dim")


class SentenceEncoder:
    """``encode`` as sentence-transformers has it: strings are words, anything else is a picture.

    Args:
        model: a loaded model, or its directory.
    """

    similarity_fn_name = "cosine"

    def __init__(self, model: Model | str | Path) -> None:
        self.model_card_data = _NoCard()
        self.model: Any = open_model(model) if isinstance(model, str | Path) else model

    def encode(
        self,
        sentences: Any,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        precision: str | None = "float32",
        truncate_dim: int | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        **options: Any,
    ) -> Any:
        """Vectors or codes of words and pictures.

        Args:
            sentences: a string or a picture (a path object, PIL image, array or bytes), or a list of them.
            prompt_name: passed over beside ``prompt``, as there; a hashret model has no prompts with names.
            prompt: put before every string.
            batch_size: items encoded together.
            precision: ``"float32"``, ``"ubinary"`` or ``"binary"``; None: float32, as there.
            truncate_dim: the first so many bits only.
            convert_to_numpy: an array; where false, a list of torch tensors, one an item.
            convert_to_tensor: one torch tensor, whatever ``convert_to_numpy`` says.
            options: what else sentence-transformers takes and no result depends on: ``show_progress_bar``, ``device``,
                ``pool``, ``chunk_size``, ``normalize_embeddings`` (the vectors have unit length as they are), and
                ``output_value="sentence_embedding"``.

        Returns:
            (N, n_bits) float32, (N, n_bytes) uint8 or (N, n_bytes) int8; one row without N for a single item.

        Raises:
            InputError: there is no such precision, option or prompt name, or ``truncate_dim`` exceeds the model's bits.
            DataError: a picture cannot be read.
        """
        precision = precision or "float32"
        if precision not in PRECISIONS:
            raise InputError(f"there is no precision {precision!r} here{nearest(str(precision), PRECISIONS)}")
        _check_options(options)
        if prompt_name is not None and prompt is None:
            raise InputError(
                f"there is no prompt named {prompt_name!r}, since a hashret model has none; give its words as prompt="
            )
        if isinstance(sentences, bytearray | memoryview):
            sentences = bytes(sentences)
        single = isinstance(sentences, str | bytes | Path) or not isinstance(sentences, Sequence | np.ndarray)
        single = single or (
            isinstance(sentences, np.ndarray) and sentences.dtype != object and sentences.ndim in (2, 3)
        )
        items = [sentences] if single else list(sentences)
        if prompt:
            items = [prompt + item if isinstance(item, str) else item for item in items]
        words = np.array([isinstance(item, str) for item in items], bool)
        parts = {
            modality: self._encode(
                modality, [items[row] for row in np.flatnonzero(rows)], precision, truncate_dim, batch_size
            )
            for modality, rows in (("text", words), ("image", ~words))
            if rows.any() or (modality == "text" and not items)
        }
        first = next(iter(parts.values()))
        result = np.empty((len(items), first.shape[1]), first.dtype)
        for modality, rows in (("text", words), ("image", ~words)):
            if modality in parts:
                result[rows] = parts[modality]
        found: Any = result
        if convert_to_tensor or not convert_to_numpy:
            found = require("torch", extra="learn").from_numpy(result)
            found = found if convert_to_tensor else list(found)
        return found[0] if single else found

    encode_query = encode
    encode_document = encode

    def similarity(self, a: Any, b: Any) -> Any:
        """(A, B) cosines of float vectors, as a torch tensor."""
        torch = require("torch", extra="learn")
        a, b = (torch.nn.functional.normalize(torch.atleast_2d(torch.as_tensor(x).float()), dim=1) for x in (a, b))
        return a @ b.T

    def similarity_pairwise(self, a: Any, b: Any) -> Any:
        """(A,) cosines of row with row, as a torch tensor."""
        torch = require("torch", extra="learn")
        return torch.nn.functional.cosine_similarity(torch.as_tensor(a).float(), torch.as_tensor(b).float(), dim=-1)

    def get_embedding_dimension(self) -> int:
        """Bits of a code, which are the dimensions of a vector."""
        return int(self.model.n_bits)

    get_sentence_embedding_dimension = get_embedding_dimension  # its name before sentence-transformers 6

    def _encode(
        self, modality: str, items: list[Any], precision: str, n_bits: int | None, batch_size: int
    ) -> np.ndarray:
        if precision == "float32":
            vectors: np.ndarray = self.model.encode_floats(modality, items, n_bits=n_bits, batch_size=batch_size)
            return vectors
        codes: np.ndarray = self.model.encode(modality, items, n_bits=n_bits, batch_size=batch_size)
        return codes if precision == "ubinary" else (codes.astype(np.int16) - 128).astype(np.int8)


def _check_options(options: dict[str, Any]) -> None:
    """Refuse an option that would have changed the result, or is misspelt."""
    for name in options:
        if name not in _PASSED_OVER:
            raise InputError(f"encode has no option {name!r} here{nearest(name, _TAKEN + _PASSED_OVER)}")
    if options.get("output_value", "sentence_embedding") != "sentence_embedding":
        raise InputError(
            f"output_value={options['output_value']!r} is not given here, only 'sentence_embedding'; leave it out"
        )


class _NoCard:
    """Where the library's evaluators leave their figures; a hashret model has no card, and they return them too."""

    def set_evaluation_metrics(self, *figures: Any, **more: Any) -> None:
        """Take them and forget."""
