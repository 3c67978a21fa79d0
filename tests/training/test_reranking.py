"""What re-ranking is worth: against brute force, at prefixes, and after learning from tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from hashret.codes import pack
from hashret.config import build, plain
from hashret.encoders import Encoded
from hashret.errors import InputError
from hashret.evaluation import evaluate_codes
from hashret.kernels import hamming
from hashret.model import CrossModalHasher, ModelConfig
from hashret.training import PairFeatures, RunConfig, Trainer
from hashret.training.reranking import rerank_figures
from hashret.training.validation import batches, logits_of

KINDS = ("fusion", "graph")


class Tokens:
    """Padded tokens in memory, as the cache gives them."""

    def __init__(self, tokens: torch.Tensor, lengths: torch.Tensor) -> None:
        self.tokens, self.mask = tokens, torch.arange(tokens.shape[1]) < lengths[:, None]

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: torch.Tensor) -> Encoded:
        longest = int(self.mask[rows].sum(1).max())
        return Encoded(self.tokens[rows, :longest], self.mask[rows, :longest], None)


@pytest.fixture
def pairs() -> PairFeatures:
    """24 pictures of 4 tokens; a caption holds one of them among others, which their mean hardly shows."""
    torch.manual_seed(0)
    pictures = torch.randn(24, 4, 12)
    captions = torch.randn(48, 3, 12)
    owner = torch.arange(24).repeat_interleave(2)
    captions[:, 0] = pictures[owner, torch.arange(48) % 2]
    return PairFeatures(Tokens(pictures, torch.full((24,), 4)), Tokens(captions, 1 + torch.arange(48) % 3), owner)


def model(kind: str | None, *, output: str = "tokens", **more: Any) -> CrossModalHasher:
    encoder = {"kind": "features", "name": "own", "width": 12, "output": output}
    towers = {m: {"encoder": {**encoder, "modality": m}, "head": {"hidden": 8}} for m in ("image", "text")}
    sizes = {"fusion": {"layers": 1, "heads": 2, "ffn": 16}, "graph": {"similarity_width": 16}}
    reranker = None if kind is None else {"kind": kind, "width": 16, "dropout": 0.0, **sizes[kind]}
    torch.manual_seed(0)
    return CrossModalHasher.build(build(ModelConfig, {"n_bits": 24, "towers": towers, "reranker": reranker, **more}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_bits", [None, 9])
def test_the_figures_are_those_of_the_order_made_by_hand(pairs, kind, n_bits):
    hasher = model(kind)
    torch.nn.init.normal_(hasher.reranker.read.weight, std=3)
    found = rerank_figures(hasher, pairs, n_bits=n_bits, k=5)
    logits = logits_of(hasher, "image", pairs.image), logits_of(hasher, "text", pairs.text)
    distances = hamming(*(pack(part[:, :n_bits]) for part in logits))
    image, text = (
        next(hasher.project(m, batches(table))) for m, table in (("image", pairs.image), ("text", pairs.text))
    )
    every = np.indices(distances.shape).reshape(2, -1)
    scores = hasher.rerank(image, text, *every).reshape(distances.shape)
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in logits]
    correct = pairs.owners == np.arange(24)[:, None]
    for name, points in (("after", scores), ("floats", unit[0] @ unit[1].T)):
        for way, turn in (("i2t", lambda a: a), ("t2i", np.transpose)):
            near, point, right = turn(distances), turn(points), turn(correct)
            order = np.argsort(near, axis=1, kind="stable")
            head = np.take_along_axis(order[:, :5], np.argsort(-np.take_along_axis(point, order[:, :5], 1), axis=1), 1)
            whole = np.concatenate([head, order[:, 5:]], axis=1)
            expected = np.take_along_axis(right, whole, axis=1).argmax(axis=1) + 1
            np.testing.assert_array_equal(getattr(getattr(found, name), way).per_query["rank"], expected)
    assert (found.k, found.n_bits) == (5, n_bits or 24)
    assert found.after.i2t.per_query["rank"].shape == (24,)
    assert found.to_dict()["before"]["rSum"] == found.before.r_sum != found.after.r_sum


def test_candidates_are_found_by_the_codes_that_are_stored(pairs):
    hasher = model("graph", rounding={"weight": 0.9, "size": 0.8})
    logits = {"image": logits_of(hasher, "image", pairs.image), "text": logits_of(hasher, "text", pairs.text)}
    hasher.learn_rounding(logits)
    stored = {modality: pack(hasher.relaxed_of(modality, part)) for modality, part in logits.items()}
    assert (stored["text"] != pack(logits["text"])).any()
    before = rerank_figures(hasher, pairs, k=5).before
    expected = evaluate_codes(stored["image"], stored["text"], pairs.owners, n_bits=24, ties="stable")
    assert before.to_dict() == expected.to_dict()


@pytest.mark.parametrize("output", ["tokens", "pooled"])
def test_an_untrained_one_is_the_float_side(pairs, output):
    if output == "pooled":  # one vector an item, which stands for its tokens
        tables = [Tokens(t.tokens[:, :1], torch.ones(len(t), dtype=torch.int64)) for t in (pairs.image, pairs.text)]
        for table in tables:
            table.batch = lambda rows, t=table: Encoded(t.tokens[rows], t.mask[rows], t.tokens[rows, 0])
        pairs = PairFeatures(*tables, pairs.owner)
    found = rerank_figures(model("fusion", output=output), pairs, k=100)
    assert found.after.to_dict() == found.floats.to_dict() != found.before.to_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_learnt_from_tokens_shows(pairs, kind):
    hasher = model(kind)
    reranker = hasher.reranker
    optimiser = torch.optim.Adam(reranker.parameters(), lr=5e-3)
    image, text = (
        next(hasher.project(m, batches(table))) for m, table in (("image", pairs.image), ("text", pairs.text))
    )
    for step in range(60):  # six captions a step against all pictures
        captions = torch.arange(step, step + 48, 8) % 48
        logits = reranker.matcher(image, text)(torch.arange(24).repeat(6), captions.repeat_interleave(24))
        loss = functional.cross_entropy(logits.reshape(6, 24), pairs.owner[captions])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = rerank_figures(hasher, pairs, k=48)
    assert found.after.r_sum > max(found.before.r_sum, found.floats.r_sum) + 50


def test_what_cannot_be_re_ranked_is_said(pairs):
    with pytest.raises(InputError, match="no re-ranker"):
        rerank_figures(model(None), pairs)
    for wrong in ({"k": 0}, {"n_bits": 25}, {"n_bits": 0}):
        with pytest.raises(InputError, match="1 to 24"):
            rerank_figures(model("fusion"), pairs, **wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_trains_the_re_ranker_alone_and_leaves_codes_alone(pairs, kind):
    stages = [{"name": "matching", "epochs": 2, "batch_size": 8, "train": ["reranker"], "lr": 5e-3}]
    stages[0]["losses"] = {"matching": {"kind": "matching"}}
    hasher = model(kind)
    run = build(RunConfig, {"name": "tiny", "model": plain(hasher.config), "stages": stages})
    before, scale = hasher.fingerprint, hasher.reranker.scale.item()
    Trainer(hasher, run, train=pairs, val=pairs, out=None).run()
    assert hasher.fingerprint == before
    assert hasher.reranker.scale.item() != scale and hasher.reranker.read.weight.abs().max() > 0
