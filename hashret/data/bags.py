"""Words to bags of words over a known vocabulary, in numpy.

What a text weighs, word by word. Knows no torch, so that a query can be weighed without it; learning a vocabulary is
the work of the encoder of bags.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from hashret.arrays import l2_normalised
from hashret.errors import DataError, InputError

_WORD = re.compile(r"\w+")


class Bags:
    """A vocabulary, and texts as vectors over it.

    ``tfidf`` weighs a word by (1 + log count) * idf; ``bow`` by 1 where it occurs.

    *Source:* Salton and Buckley, "Term-weighting approaches in automatic text retrieval", 1988.

    Args:
        weighting: "tfidf" or "bow".
        width: columns of a vector; those beyond the vocabulary stay zero.
        words: the vocabulary in column order.
        idf: (len(words),) weight of each word.
    """

    def __init__(self, weighting: str, *, width: int, words: Sequence[str] = (), idf: Sequence[float] = ()) -> None:
        self.weighting, self.width = weighting, width
        self.words, self.idf = list(words), list(idf)
        self._columns = {word: column for column, word in enumerate(self.words)}

    def vectors(self, items: Sequence[Any]) -> np.ndarray:
        """Texts as (N, width) float32, l2-normalised; a text without a known word is zero.

        Raises:
            InputError: no vocabulary was learned yet.
            DataError: an item is no string.
        """
        if not self._columns:
            raise InputError("this bag of words has no vocabulary yet: call fit(captions) with the training captions")
        bag = np.zeros((len(items), self.width), dtype=np.float32)
        for row, item in enumerate(items):
            for word, count in Counter(words_of(item)).items():
                column = self._columns.get(word)
                if column is not None:
                    bag[row, column] = (1 + np.log(count)) * self.idf[column] if self.weighting == "tfidf" else 1.0
        return l2_normalised(bag)


def words_of(item: Any) -> list[str]:
    """The words of a text in lower case.

    Raises:
        DataError: the item is no string.
    """
    if not isinstance(item, str):
        raise DataError(f"a bag of words takes strings, and was given {type(item).__name__}: {str(item)[:60]!r}")
    text = unicodedata.normalize("NFC", item.casefold())
    if text.isascii():
        return _WORD.findall(text)
    # a mark belongs to its letter: the vowels of Hindi are marks, and \w has none of them
    return "".join(c if c.isalnum() or c == "_" or unicodedata.category(c)[0] == "M" else " " for c in text).split()
