"""From pictures and words to the input of a graph, with Pillow, tokenizers and numpy.

The same pixels and the same token ids as the encoders' own way through torchvision and transformers, byte for byte.
Knows nothing of graphs or codes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hashret._lazy import require
from hashret.data.texts import check_texts
from hashret.errors import CorruptError
from hashret.onnx.files import AGAIN, TOKENIZER, VOCABULARY, Facts

if TYPE_CHECKING:
    from PIL.Image import Image

FILTERS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
CROPS = ("center", "squash")


class Inputs(Protocol):
    """Turns the items of one modality into the inputs of its graph."""

    def prepare(self, items: Sequence[Any]) -> dict[str, np.ndarray]:
        """Arrays by the graph's names, with the batch first."""

    def size_of(self, item: Any) -> int:
        """A rough cost of an item, so that items of one length can share a batch."""


def inputs_of(facts: Facts, modality: str) -> Inputs:
    """What the export says about the items of ``modality``.

    Raises:
        CorruptError: it cannot be made, or its files are damaged.
        MissingExtraError: Pillow or tokenizers is not installed.
    """
    tower = facts.towers[modality]
    makers: dict[str, Callable[[], Inputs]] = {
        "image": lambda: Pictures(tower["preprocessing"]),
        "text": lambda: Words(facts.checked(TOKENIZER), prefix_text=tower["prefix_text"]),
        "bag": lambda: WordBags(facts.checked(VOCABULARY), weighting=tower["weighting"], width=tower["width"]),
    }
    try:
        return makers[tower["kind"]]()
    except (KeyError, ValueError, TypeError) as error:
        reason = f"the {modality} tower of the export in {str(facts.directory)!r} cannot be set up: {error!r}"
        raise CorruptError(f"{reason}; {AGAIN}") from error


class Pictures:
    """Decode, resize, crop: ``{"pixels": (B, 3, S, S) uint8}``; normalising is the graph's work.

    Args:
        preprocessing: ``image_size``, ``interpolation``, ``crop_pct`` and ``crop_mode``, as in timm's configuration.
    """

    def __init__(self, preprocessing: Mapping[str, Any]) -> None:
        require("PIL", extra="onnx")
        self.size = int(preprocessing["image_size"])
        self.scaled = math.floor(self.size / float(preprocessing["crop_pct"]))
        self.squash = preprocessing["crop_mode"] == "squash"
        if preprocessing["interpolation"] not in FILTERS or preprocessing["crop_mode"] not in CROPS:
            raise ValueError(
                f"pictures resized by {preprocessing['interpolation']!r} and cropped by {preprocessing['crop_mode']!r}"
            )
        self._filter = FILTERS.index(preprocessing["interpolation"])

    def prepare(self, items: Sequence[Any]) -> dict[str, np.ndarray]:
        """Paths, encoded bytes, PIL images or (H, W[, C]) arrays as pixels.

        Raises:
            DataError: an item is no picture; the message names it.
        """
        if len(items) == 1:
            return {"pixels": self.pixels(items[0])[None]}
        with ThreadPoolExecutor(max_workers=min(len(items) or 1, os.cpu_count() or 1)) as pool:
            pictures = list(pool.map(self.pixels, items))  # Pillow lets go of the interpreter while it works
        empty = np.empty((0, 3, self.size, self.size), dtype=np.uint8)
        return {"pixels": np.stack(pictures) if pictures else empty}

    def size_of(self, item: Any) -> int:
        """Pictures cost the same."""
        return 0

    def pixels(self, item: Any) -> np.ndarray:
        """One picture as (3, S, S) uint8."""
        from hashret.data import decode_image, middle_of

        picture = decode_image(item)
        picture = self._centre(self._scale(picture if self.squash else middle_of(picture)))
        return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))

    def _scale(self, picture: Image) -> Image:
        from PIL.Image import Resampling

        width, height = picture.size
        if self.squash:
            size = (self.scaled, self.scaled)
        elif width <= height:
            size = (self.scaled, int(self.scaled * height / width))
        else:
            size = (int(self.scaled * width / height), self.scaled)
        if size == picture.size:
            return picture
        return picture.resize(size, getattr(Resampling, FILTERS[self._filter].upper()))

    def _centre(self, picture: Image) -> Image:
        """The middle S x S; a smaller picture (``crop_pct`` above 1) lies over black."""
        width, height = picture.size
        if width < self.size or height < self.size:
            from PIL.Image import new

            wide, high = max(width, self.size), max(height, self.size)
            larger = new("RGB", (wide, high))
            larger.paste(picture, ((wide - width) // 2, (high - height) // 2))
            picture, width, height = larger, wide, high
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return picture.crop((left, top, left + self.size, top + self.size))


class Words:
    """Tokenise: ``{"input_ids", "attention_mask"}``, (B, L) int64, padded to the longest of the batch.

    Args:
        path: of a tokenizer.json that holds its truncation and padding.
        prefix_text: put before every text.
    """

    def __init__(self, path: Path, *, prefix_text: str) -> None:
        tokenizers = require("tokenizers", extra="onnx")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises Exception itself
            raise CorruptError(f"{str(path)!r} is no tokenizer: {str(error)[:200]}; {AGAIN}") from error
        self._prefix_text = prefix_text

    def prepare(self, items: Sequence[Any]) -> dict[str, np.ndarray]:
        """Texts as token ids.

        Raises:
            DataError: an item is no text.
        """
        check_texts(items)
        encoded = self._tokenizer.encode_batch([self._prefix_text + item for item in items])
        ids = np.array([entry.ids for entry in encoded], dtype=np.int64).reshape(len(items), -1)
        mask = np.array([entry.attention_mask for entry in encoded], dtype=np.int64).reshape(len(items), -1)
        return {"input_ids": ids, "attention_mask": mask}

    def size_of(self, item: Any) -> int:
        """Characters: texts of one length make batches with little padding."""
        return len(item) if isinstance(item, str) else 0


class WordBags:
    """Weigh words: ``{"bag": (B, width) float32}``.

    Args:
        path: of a vocabulary.json, ``{"words", "idf"}``.
        weighting: "tfidf" or "bow".
        width: of a vector.
    """

    def __init__(self, path: Path, *, weighting: str, width: int) -> None:
        from hashret.data.bags import Bags

        content = json.loads(path.read_text(encoding="utf-8"))
        self._bags = Bags(weighting, width=width, words=content["words"], idf=content["idf"])

    def prepare(self, items: Sequence[Any]) -> dict[str, np.ndarray]:
        """Texts as bags of words.

        Raises:
            DataError: an item is no string.
        """
        return {"bag": self._bags.vectors(items)}

    def size_of(self, item: Any) -> int:
        """Bags are of one size."""
        return 0
