"""Labels for data without any: the content words of its captions.

Knows English words only through the two short lists below and the endings -s, -ing and -ed; no tagger, no model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from hashret.errors import DataError

_FUNCTION_WORDS = """
    about above across after against ahead all along alongside also amid among amongst and another any anyone are
    area around away back background because been before behind being below beneath beside besides between beyond
    big both but can close color colored could couple different does doing down during each edge eight either else
    enough every everyone few first five for foreground four from front full get gets getting group had half has
    have having her here hers herself him himself his how however image inside into its itself just kind large like
    little long lot lots made many may middle more most much near nearby next nine nobody none nor not nothing off
    once one ones onto open other others our out outside over own pair part past photo photograph picture piece pile
    row scene set several she shot should side sideways six small some somebody someone something sort such ten than
    that the their them themselves then there these they thing things this those though three through throughout
    together top toward towards two type under underneath until upon upward upwards various very view was way were
    what when where whether which while whilst who whom whose will with within without would yet you young your
"""
_SINGULARS = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot", "teeth": "tooth",
    "leaves": "leaf", "knives": "knife", "wolves": "wolf", "geese": "goose", "mice": "mouse",
}  # fmt: skip
_NO_SINGULAR = frozenset(("bus", "clothes", "glasses", "goggles", "jeans", "pants", "shorts", "sunglasses"))
# from so many -ing forms a plain form on, a word is a verb: jump and jumping, but park and parking
_VERB_SHARE = 0.35


def keywords(
    captions: Sequence[str], owner: np.ndarray, *, count: int, least: int = 5, most: float = 0.5
) -> tuple[str, ...]:
    """The content words that occur in the captions of the most images, the most frequent one first.

    Function words and words of size and place are left out by a list, verbs by their -ing forms, words that nearly
    every image has by ``most``. A plural counts as its singular where that occurs, too. Fewer than ``count`` words
    come back where the captions hold no more.

    Args:
        captions: M captions in English.
        owner: (M,) the image of each.
        count: number of words.
        least: images in which a word occurs at least.
        most: share of the images in which it occurs at most.

    Raises:
        DataError: no word is left.
    """
    images: dict[str, set[int]] = {}
    for caption, image in zip(captions, owner, strict=True):
        for word in _words(caption):
            images.setdefault(word, set()).add(int(image))
    seen = Counter({word: len(where) for word, where in images.items()})
    dropped = set(_FUNCTION_WORDS.split()) | _verbs(seen)
    folded: dict[str, set[int]] = {}
    for word, where in images.items():
        single = _single(word, seen)
        if not dropped & {word, single}:
            folded.setdefault(single, set()).update(where)
    n_images = len(set(map(int, owner)))
    kept = {word: len(where) for word, where in folded.items() if least <= len(where) <= most * n_images}
    if not kept:
        raise DataError(
            f"no content word occurs in {least} or more and at most {most:.0%} of {n_images} images; give labels with "
            f"the data, or train without them"
        )
    return tuple(sorted(kept, key=lambda word: (-kept[word], word))[:count])


def keyword_matrix(captions: Sequence[str], owner: np.ndarray, words: Sequence[str]) -> np.ndarray:
    """(N, C) bool: whether one of ``words`` (or its plural) occurs in any caption of an image.

    Args:
        captions: M captions.
        owner: (M,) the row of each caption's image; N is the largest plus one.
        words: C words of ``keywords``.
    """
    column = {word: number for number, word in enumerate(words)}
    matrix = np.zeros((int(np.max(owner, initial=-1)) + 1, len(column)), dtype=bool)
    for caption, row in zip(captions, owner, strict=True):
        for word in _words(caption):
            found = column.get(word, column.get(_single(word, column)))
            if found is not None:
                matrix[row, found] = True
    return matrix


def _words(caption: str) -> set[str]:
    return {word for word in re.findall(r"[^\W\d_]+", caption.lower()) if len(word) > 2}


def _single(word: str, known: Collection[str]) -> str:
    """The singular of ``word`` if it is among ``known``, else ``word``."""
    if word in _NO_SINGULAR or word.endswith("ss"):
        return word
    guesses = [_SINGULARS.get(word, word)]
    if word.endswith("ies"):
        guesses.append(word[:-3] + "y")
    if word.endswith("s"):
        guesses.append(word[:-1])
    if word.endswith("es"):
        guesses.append(word[:-2])
    return next((guess for guess in guesses if guess != word and guess in known), word)


def _verbs(seen: Counter[str]) -> set[str]:
    """All forms of words whose -ing form is common beside the plain ones; -ed forms of any word."""
    verbs = set()
    for word in seen:
        if word.endswith("ed"):
            verbs |= {word for base in _bases(word[:-2]) if base in seen}
        if not word.endswith("ing") or seen[word + "s"] * 10 > seen[word]:  # a building, buildings
            continue
        for base in _bases(word[:-3]):
            plain = {base, base + "s", base + "es"}
            if base in seen and seen[word] >= _VERB_SHARE * sum(seen[form] for form in plain):
                verbs |= plain | {word}
    return verbs


def _bases(stem: str) -> list[str]:
    """What a word can be of which ``stem`` is left without its ending: jump, rid(e), run(n)."""
    if len(stem) < 3:
        return []
    return [stem, stem + "e"] + ([stem[:-1]] if stem[-1] == stem[-2] else [])
