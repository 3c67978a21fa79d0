"""Words to a bag of words: TF-IDF or plain counts over a vocabulary learned from the training captions.

Knows nothing of pictures or pretrained models. The vocabulary holds the most frequent words, ties in alphabetical
order; it is learned once, by ``fit``, and saved as JSON. The width is fixed by the configuration, so that heads can be
built before the captions are read; with fewer words than that the last columns stay zero.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hashret.data.bags import Bags, words_of
from hashret.encoders.base import Encoded, Encoder, EncoderConfig, single
from hashret.errors import ConfigError, DataError
from hashret.registry import nearest

_FILE = "vocabulary.json"
_WEIGHTINGS = ("tfidf", "bow")


class BagEncoder(Encoder):
    """A text as one vector over a vocabulary, l2-normalised.

    ``name="tfidf"`` weighs a word by (1 + log count) * (1 + log((1 + texts) / (1 + texts with the word)));
    ``name="bow"`` by 1 where it occurs.

    *Source:* Salton and Buckley, "Term-weighting approaches in automatic text retrieval", 1988.

    Args:
        config: ``name`` is the weighting, ``vocabulary_size`` the width.
        vocabulary: the words in column order; empty until ``fit``.
        idf: (len(vocabulary),) weight of each word.
    """

    modality = "text"
    takes_words = True

    def __init__(self, config: EncoderConfig, vocabulary: Sequence[str] = (), idf: Sequence[float] = ()) -> None:
        super().__init__(config)
        if config.name not in _WEIGHTINGS:
            raise ConfigError(f"there is no bag {config.name!r}{nearest(config.name, _WEIGHTINGS)}")
        if config.train_blocks or config.output != "pooled":
            raise ConfigError('a bag of words has no blocks and no tokens: use train_blocks=0 and output="pooled"')
        self.width = config.vocabulary_size
        self._learn(vocabulary, idf)

    @classmethod
    def build(cls, config: EncoderConfig) -> BagEncoder:
        """A bag without a vocabulary; ``fit`` gives it one."""
        return cls(config)

    def fit(self, items: Iterable[Any]) -> None:
        """Learn the vocabulary and the weights from training captions.

        Raises:
            DataError: no caption holds a word.
        """
        counts: Counter[str] = Counter()
        texts = 0
        for item in items:
            counts.update(set(words_of(item)))
            texts += 1
        if not counts:
            raise DataError(f"a vocabulary cannot be learned: {texts} captions, and no word in them")
        common = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[: self.width]
        frequency = np.array([count for _, count in common], dtype=np.float64)
        idf = 1 + np.log((1 + texts) / (1 + frequency))
        self._learn([word for word, _ in common], idf.tolist())

    def prepare(self, items: Sequence[Any]) -> dict[str, Tensor]:
        """Texts as ``{"bag": (B, vocabulary_size) float32}``.

        Raises:
            InputError: no vocabulary was learned yet.
            DataError: an item is no string.
        """
        return {"bag": torch.from_numpy(self.bags.vectors(items))}

    def prefix(self, inputs: dict[str, Tensor]) -> Encoded:
        """The bag itself, where it lies: without weights the encoder has no device of its own."""
        return single(inputs["bag"])

    def identity(self) -> dict[str, Any]:
        """The weighting, the width and the vocabulary."""
        words = json.dumps([self.vocabulary, self.bags.idf], ensure_ascii=False)
        digest = hashlib.sha256(words.encode()).hexdigest()
        return {"kind": "bag", "name": self.config.name, "width": self.width, "vocabulary": digest}

    def describe(self) -> dict[str, Any]:
        """The weighting and the size of the vocabulary."""
        return {"architecture": self.config.name, "source": "training captions", "words": len(self.vocabulary)}

    def save_extras(self, directory: Path) -> dict[str, Any]:
        """The vocabulary as JSON."""
        content = {"words": self.vocabulary, "idf": self.bags.idf}
        (directory / _FILE).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
        return {}

    @classmethod
    def restore(cls, config: EncoderConfig, extras: dict[str, Any], directory: Path) -> BagEncoder:
        """The bag with the vocabulary that was saved."""
        content = json.loads((directory / _FILE).read_text(encoding="utf-8"))
        return cls(config, content["words"], content["idf"])

    @property
    def vocabulary(self) -> list[str]:
        """The words in column order."""
        return self.bags.words

    def _learn(self, vocabulary: Sequence[str], idf: Sequence[float]) -> None:
        self.bags = Bags(self.config.name, width=self.width, words=vocabulary, idf=idf)
