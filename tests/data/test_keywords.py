"""Content words of captions as labels."""

from __future__ import annotations

import numpy as np
import pytest

from hashret.data import open_dataset
from hashret.data.keywords import keyword_matrix, keywords
from hashret.errors import DataError

CAPTIONS = [
    "A dog is jumping over a fence", "the dog jumps high",
    "Two dogs jump in the water", "dogs and a man near a building",
    "a man parks his bike by the water", "men with bikes",
    "a park with tall buildings", "women in the park, looking at a building",
]  # fmt: skip
OWNER = np.repeat(np.arange(4), 2)


def test_words_are_counted_by_images():
    words = keywords(CAPTIONS, OWNER, count=20, least=1, most=1.0)
    assert set(words) >= {"dog", "man", "water", "building", "park", "bike", "fence", "women"}
    assert not set(words) & {"the", "with", "two", "jump", "jumps", "jumping", "dogs", "men", "buildings", "his"}
    # two images each, in alphabetical order; the rest occurs in one
    assert words[:5] == ("building", "dog", "man", "park", "water")


def test_limits_and_count():
    assert keywords(CAPTIONS, OWNER, count=2, least=1) == ("building", "dog")
    assert keywords(CAPTIONS, OWNER, count=99, least=2, most=0.5) == ("building", "dog", "man", "park", "water")
    for limits in ({"least": 3}, {"least": 1, "most": 0.1}):
        with pytest.raises(DataError, match="no content word"):
            keywords(CAPTIONS, OWNER, count=5, **limits)


def test_the_matrix_says_which_image_has_which_word():
    matrix = keyword_matrix(CAPTIONS, OWNER, ("dog", "man", "women", "cat"))
    expected = [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert matrix.dtype == bool and matrix.tolist() == np.array(expected, dtype=bool).tolist()


def test_frequent_words_of_flickr8k_are_things(shared_data):
    train = open_dataset(shared_data / "flickr8k" / "captions.jsonl").split("train").subset(range(1500))
    captions, owner = train.captions_flat()
    words = keywords(captions, owner, count=50)
    assert {"man", "dog", "boy", "woman", "girl", "water", "grass", "ball", "snow", "shirt"} <= set(words)
    assert not {"the", "and", "with", "while", "running", "jumps", "standing", "wearing"} & set(words)
    matrix = keyword_matrix(captions, owner, words)
    assert matrix.shape == (1500, 50) and matrix.any(axis=1).mean() > 0.97
