"""The modality probe on codes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from hashret.codes import unpack
from hashret.errors import InputError
from hashret.training import median_codes, modality_probe

RNG = np.random.default_rng(0)


def test_codes_of_one_distribution_cannot_be_told_apart():
    image, text = RNG.normal(size=(2, 800, 16))
    found = modality_probe(np.tanh(image), np.tanh(text))
    assert 0.42 < found.accuracy < 0.58 and found.count == 800


def test_a_shift_of_some_bits_is_found():
    image, text = RNG.normal(size=(2, 400, 16))
    image[:, :3] += 4
    found = modality_probe(np.tanh(image), np.tanh(text))
    assert found.accuracy > 0.97 and found.train_accuracy > 0.97


def test_the_probe_does_not_report_what_it_learnt_by_heart():
    """More bits than pairs: perfect on its own half, chance on the other."""
    image, text = RNG.normal(size=(2, 40, 256))
    found = modality_probe(image, text)
    assert found.train_accuracy == 1.0 and found.accuracy < 0.75


def test_pairs_are_kept_together_and_the_seed_decides():
    image = RNG.normal(size=(50, 8))
    assert modality_probe(image, image, seed=1).accuracy == 0.5
    assert modality_probe(image, image + 1, seed=2) == modality_probe(image, image + 1, seed=2)


def test_median_codes_are_balanced_in_their_modality():
    logits = RNG.normal(size=(101, 12)) + np.linspace(-5, 5, 12)
    bits = unpack(median_codes(logits, reference=logits), n_bits=12)
    np.testing.assert_array_equal(bits.sum(0), np.full(12, 50))
    image, text = RNG.normal(size=(2, 400, 16))
    told = modality_probe(np.sign(image + 2), np.sign(text - 2)).accuracy
    null = [2.0 * unpack(median_codes(x, reference=x), n_bits=16) - 1 for x in (image + 2, text - 2)]
    assert told > 0.95 and modality_probe(*null).accuracy < 0.6


@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((8, 4), (9, 4)), ((8,), (8,))])
def test_what_cannot_be_probed_is_said(shapes):
    with pytest.raises(InputError, match="as many texts as images"):
        modality_probe(np.zeros(shapes[0]), np.zeros(shapes[1]))
