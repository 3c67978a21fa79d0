"""Made-up items to compare a model and its export by, where no data are at hand. Knows no model."""

from __future__ import annotations

import numpy as np

_SIZES = ((320, 240), (240, 320), (224, 224), (97, 61), (640, 200), (31, 400), (500, 375), (256, 257))
_WHO = ("a dog", "two children", "a woman in a red coat", "an old man", "people", "A BLACK CAT", "the café's owner")
_DOES = ("runs", "is sitting and reading a book", "jumps over a fallen tree", "plays the guitar, smiling,", "sleeps")
_WHERE = ("on the beach", "in front of a large building while it rains", "in deep snow", "at night", "")


def pictures(count: int = 32) -> list[np.ndarray]:
    """Pictures (H, W, 3) uint8 of several sizes: patches of colour under noise."""
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        width, height = _SIZES[number % len(_SIZES)]
        coarse = random.integers(0, 256, (2 + number % 7, 2 + number % 5, 3))
        rows, columns = np.arange(height) * len(coarse) // height, np.arange(width) * coarse.shape[1] // width
        noise = random.integers(-30, 31, (height, width, 3))
        made.append((coarse[rows][:, columns] + noise).clip(0, 255).astype(np.uint8))
    return made


def texts() -> list[str]:
    """Sentences of 2 to 40 words, and a few that are none."""
    sentences = [
        " ".join(part for part in (who, does, where) if part) for who in _WHO for does in _DOES for where in _WHERE
    ]
    return [*sentences, "?", "1234 !!", "und ein Hund läuft", "犬が走る", " and ".join(sentences[:6])]
