"""The modality probe on codes whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hashret.errors import InputError
from hashret.training import modality_probe, modality_report
from hashret.training.features import fit_adapters

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


def test_a_report_shows_the_gap_and_its_null(config, hasher, tables):
    """A bias on one modality's bits: told at once, and gone when the medians are subtracted."""
    model = hasher(config())
    fit_adapters(model, tables(200, seed=4))
    with torch.no_grad():
        model.tower("text").head.linear.bias[:32] += 5
    # 8 bits: more would span directions that 18 features cannot fill, where any rest of a shift tells
    found = modality_report(model, tables(200, seed=3), tables(200, seed=4), n_bits=8)
    assert found.probe.accuracy == 1.0
    assert found.null_probe.accuracy < 0.7
    assert found.null_r_sum > 0 and found.r_sum > 0
    assert found.probe.count == 200


@pytest.mark.parametrize("shapes", [((3, 4), (3, 4)), ((8, 4), (9, 4)), ((8,), (8,))])
def test_what_cannot_be_probed_is_said(shapes):
    with pytest.raises(InputError, match="as many texts as images"):
        modality_probe(np.zeros(shapes[0]), np.zeros(shapes[1]))
