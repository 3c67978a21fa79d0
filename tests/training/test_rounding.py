"""A rounding: learned of both modalities at the end of a run, and what is measured afterwards is of its codes."""

from __future__ import annotations

import numpy as np
import torch

from hashret.codes import pack
from hashret.config import build, override, plain
from hashret.rounding import learn_coupling
from hashret.training import RunConfig, Trainer
from hashret.training.features import calibrate
from hashret.training.measure import encode_pairs, measure_pairs
from hashret.training.validation import logits_of, validate

ROUNDING = {"weight": 0.3, "size": 0.75}


def test_it_is_learned_of_both_modalities_and_measured(config, hasher, tables):
    plainly = plain(config(stage={"epochs": 5, "batch_size": 64}))
    made = build(RunConfig, override(plainly, [f"model.rounding.{key}={value}" for key, value in ROUNDING.items()]))
    train, val = tables(256, seed=1), tables(64, seed=2)
    trainer = Trainer(hasher(made), made, train=train, val=val, out=None)
    trainer.run()
    model = trainer.hasher
    signs = validate(model, val, made.selection)
    assert signs.value == trainer.best["value"]
    np.testing.assert_array_equal(model.coupling.numpy(), np.eye(64))  # signs, until it is learned

    calibrate(model, train)
    relaxed = [
        np.tanh(np.float32(float(model.tower(modality).beta)) * logits_of(model, modality, getattr(train, modality)))
        for modality in ("image", "text")
    ]
    expected = learn_coupling(*relaxed, **ROUNDING, code_lengths=(16, 64))
    assert (expected != np.eye(64)).any()
    np.testing.assert_allclose(model.coupling.numpy(), expected, atol=1e-6)

    coded = encode_pairs(model, val)
    for modality, codes, floats in zip(("image", "text"), (coded.images, coded.texts), coded.floats):
        items = getattr(val, modality).batch(torch.arange(len(codes))).pooled.numpy()
        np.testing.assert_array_equal(codes, model.encode(modality, list(items), batch_size=1024))
        assert (codes != pack(floats > 0)).any()
    rounded = validate(model, val, made.selection)
    assert rounded.value > signs.value
    measured = measure_pairs(model, val).to_dict()["codes"]
    assert rounded.figures["rSum@64"] == measured["64"]["rSum"]
    assert rounded.figures["float.rSum"] == signs.figures["float.rSum"]
