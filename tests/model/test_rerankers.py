"""Re-rankers: formulas, masks, independence of the batch, learning, saving; and what they leave alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from hashret.config import build
from hashret.errors import ConfigError, CorruptError, InputError
from hashret.model import CrossModalHasher, ModelConfig, RerankerConfig, TowerOutput
from hashret.model.mixers import CrossMixer
from hashret.model.rerankers import RERANKERS, Reranker
from hashret.model.rerankers.graph import ReasoningStep, Similarity, attended
from hashret.model.rescoring import project_all, score_pairs

KINDS = RERANKERS.names()
WIDTHS = {"image": 10, "text": 6}
N_BITS = 16
SMALL = {"fusion": {"heads": 2, "ffn": 12}, "graph": {"similarity_width": 8}}


def reranker(kind: str, **options: Any) -> Reranker:
    """A small one in evaluation mode that says something, as after training."""
    torch.manual_seed(3)
    config = RerankerConfig(kind, **{"width": 8, **SMALL[kind], **options})
    made = RERANKERS.load(kind)(config, widths=WIDTHS, n_bits=N_BITS).eval()
    torch.nn.init.normal_(made.read.weight)
    return made


def output(modality: str, lengths: tuple[int, ...], *, seed: int = 0) -> TowerOutput:
    """Items with so many tokens, padded with large numbers."""
    generator = torch.Generator().manual_seed(seed + (modality == "text"))
    count, width = len(lengths), WIDTHS[modality]
    tokens = torch.randn(count, max(lengths), width, generator=generator)
    mask = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    return TowerOutput(
        logits=torch.randn(count, N_BITS, generator=generator),
        pooled=torch.randn(count, width, generator=generator),
        tokens=torch.where(mask[..., None], tokens, torch.tensor(1e4)),
        mask=mask,
    )


def pairs(count: int = 5) -> tuple[TowerOutput, TowerOutput]:
    return output("image", (4, 2, 1, 4, 3)[:count]), output("text", (1, 5, 3, 2, 6)[:count])


def rows_of(side: TowerOutput, rows: torch.Tensor) -> TowerOutput:
    tokens, mask = (None if part is None else part[rows] for part in (side.tokens, side.mask))
    return TowerOutput(side.logits[rows], side.pooled[rows], tokens, mask, side.beta)


def pooled_only(side: TowerOutput) -> TowerOutput:
    return TowerOutput(logits=side.logits, pooled=side.pooled)


def test_a_cross_mixer_against_its_formula_by_hand():
    """One head, two tokens that look at three, the last of them padding."""
    torch.manual_seed(0)
    mixer = CrossMixer(4, heads=1).eval()
    torch.nn.init.normal_(mixer.attention.in_proj_bias)
    x, y = torch.randn(1, 2, 4), torch.randn(1, 3, 4)
    y_mask = torch.tensor([[True, True, False]])
    w_q, w_k, w_v = mixer.attention.in_proj_weight.chunk(3)
    b_q, b_k, b_v = mixer.attention.in_proj_bias.chunk(3)
    expected = torch.empty(2, 4)
    for i in range(2):
        normed = (x[0, i] - x[0, i].mean()) / (x[0, i].var(unbiased=False) + 1e-5).sqrt()
        query = w_q @ normed + b_q
        looks = [float((query @ (w_k @ y[0, j] + b_k)).detach()) / 4**0.5 for j in range(2)]
        total = sum(np.exp(looks))
        taken = sum(np.exp(look) / total * (w_v @ y[0, j] + b_v) for j, look in enumerate(looks))
        update = mixer.attention.out_proj.weight @ taken + mixer.attention.out_proj.bias
        gate = 1 / (1 + torch.exp(-(mixer.gate.weight @ torch.cat([x[0, i], update]) + mixer.gate.bias)))
        expected[i] = x[0, i] + gate * update
    torch.testing.assert_close(mixer(x, y, torch.ones(1, 2, dtype=torch.bool), y_mask)[0], expected)


def test_a_cross_mixer_leaves_what_is_masked_out():
    torch.manual_seed(0)
    mixer = CrossMixer(4, heads=2)
    x, y = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4, requires_grad=True)
    x_mask = torch.tensor([[True, False, True], [True, True, True]])
    y_mask = torch.tensor([[True, True, False], [False, False, False]])
    mixed = mixer(x, y, x_mask, y_mask)
    assert torch.equal(mixed[0, 1], x[0, 1])
    assert torch.equal(mixed[1], x[1])  # there is nothing to look at
    assert (mixed[0, 0] != x[0, 0]).any()
    mixed.square().sum().backward()
    assert x.grad.isfinite().all() and y.grad.isfinite().all()
    assert (y.grad[~y_mask] == 0).all()
    with pytest.raises(ConfigError, match="cannot have 3 heads"):
        CrossMixer(4, heads=3)


def test_what_a_word_finds_against_loops():
    generator = torch.Generator().manual_seed(1)
    image, text = (functional.normalize(torch.randn(2, n, 5, generator=generator), dim=2) for n in (4, 3))
    image_mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    text_mask = torch.tensor([[True, True, False], [True, True, True]])
    found = attended(image, text, image_mask, text_mask, sharpness=9.0)
    for pair in range(2):
        regions, words = np.flatnonzero(image_mask[pair]), np.flatnonzero(text_mask[pair])
        cosines = (image[pair, regions] @ text[pair, words].T).numpy()
        leaky = np.where(cosines > 0, cosines, 0.1 * cosines)
        scaled = leaky / np.sqrt((leaky**2).sum(axis=1, keepdims=True))
        weights = np.exp(9 * scaled) / np.exp(9 * scaled).sum(axis=0)
        context = weights.T @ image[pair, regions].numpy()
        expected = context / np.linalg.norm(context, axis=1, keepdims=True)
        np.testing.assert_allclose(found[pair, words].numpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_similarity_against_its_formula():
    similarity = Similarity(5, 3)
    x, y = torch.randn(2, 5), torch.randn(2, 5)
    raw = (x - y) ** 2 @ similarity.project.weight.T + similarity.project.bias
    torch.testing.assert_close(similarity(x, y), raw / raw.norm(dim=1, keepdim=True))


def test_a_step_of_reasoning_against_loops():
    torch.manual_seed(0)
    step = ReasoningStep(4)
    nodes = torch.randn(2, 3, 4)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    after = step(nodes, mask)
    for pair in range(2):
        for i in range(3):
            query = step.query(nodes[pair, i])
            known = [j for j in range(3) if mask[pair, j]]
            edges = np.exp([float((query @ step.key(nodes[pair, j])).detach()) for j in known])
            taken = sum(float(edge) * nodes[pair, j] for edge, j in zip(edges / edges.sum(), known))
            torch.testing.assert_close(after[pair, i], step.out(taken).clamp_min(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_untrained_one_orders_pairs_by_the_cosine_of_floats(kind):
    made = RERANKERS.load(kind)(RerankerConfig(kind, width=8), widths=WIDTHS, n_bits=N_BITS).eval()
    image, text = pairs()
    cosine = (image.float_() * text.float_()).sum(1)
    torch.testing.assert_close(made(image, text), 10 * cosine)


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_depends_on_its_own_pair_alone(kind):
    made = reranker(kind)
    image, text = pairs()
    scores = made(image, text)
    assert scores.shape == (5,) and scores.dtype == torch.float32 and scores.std() > 0.1
    for row in range(5):  # alone, and without its padding
        one, other = (rows_of(side, torch.tensor([row])) for side in (image, text))
        cut = [
            TowerOutput(s.logits, s.pooled, s.tokens[:, s.mask[0]], s.mask[:, s.mask[0]], s.beta) for s in (one, other)
        ]
        torch.testing.assert_close(made(*cut)[0], scores[row], rtol=1e-4, atol=1e-5)
    order = torch.tensor([2, 0, 0, 4, 1])
    torch.testing.assert_close(made(rows_of(image, order), rows_of(text, order)), scores[order], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.matcher(image, text)(order, order), scores[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_training_scores_the_same_in_groups_of_one_length(kind):
    made = reranker(kind, dropout=0.0)
    image, text = pairs()
    scores = made(image, text)
    torch.testing.assert_close(made.train()(image, text), scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_padding_holds_never_matters(kind):
    made = reranker(kind)
    image, text = pairs()
    scores = made(image, text)
    for value in (0.0, -7.0, float("nan")):
        sides = [
            TowerOutput(s.logits, s.pooled, s.tokens.masked_fill(~s.mask[..., None], value), s.mask, s.beta)
            for s in (image, text)
        ]
        assert torch.equal(made(*sides), scores)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", ["neither", "text", "image"])
def test_a_pooled_vector_stands_for_tokens_that_are_not_there(kind, which):
    made = reranker(kind)
    image, text = pairs()
    image = image if which == "image" else pooled_only(image)
    text = text if which == "text" else pooled_only(text)
    scores = made(image, text)
    assert scores.isfinite().all() and scores.std() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter_and_both_towers(kind):
    made = reranker(kind, dropout=0.1).train()
    image, text = pairs()
    tokens = [side.tokens.clone().requires_grad_() for side in (image, text)]
    logits = [side.logits.clone().requires_grad_() for side in (image, text)]
    sides = [TowerOutput(ls, s.pooled, ts, s.mask) for ls, s, ts in zip(logits, (image, text), tokens)]
    made(*sides).square().sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # what a softmax over keys takes away again has no gradient but rounding
        assert parameter.grad.abs().max() > 0 or "in_proj_bias" in name, name
    for side, values, outputs in zip((image, text), tokens, logits):
        assert values.grad.abs().sum(2)[side.mask].min() > 0 and outputs.grad.abs().max() > 0
        assert (values.grad[~side.mask] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_one_learns_to_tell_true_pairs_from_false(kind):
    """Pairs share a token that neither the pooled vectors nor the logits know of."""
    torch.manual_seed(0)
    count = 12
    made = RERANKERS.load(kind)(
        RerankerConfig(kind, width=32, layers=1, heads=2, ffn=32, similarity_width=32, dropout=0.0),
        widths={"image": 16, "text": 16},
        n_bits=N_BITS,
    )
    shared = torch.randn(count, 16)
    sides = [
        TowerOutput(
            logits=torch.randn(count, N_BITS),
            pooled=torch.randn(count, 16),
            tokens=torch.cat([torch.randn(count, 2, 16), shared[:, None]], dim=1),
            mask=torch.ones(count, 3, dtype=torch.bool),
        )
        for _ in range(2)
    ]
    rows = torch.arange(count)
    image_rows, text_rows = rows.repeat_interleave(count), rows.repeat(count)
    target = (image_rows == text_rows).float()

    def right() -> float:
        with torch.no_grad():
            scores = made.matcher(*sides)(image_rows, text_rows).reshape(count, count)
        return float((scores.argmax(1) == rows).float().mean())

    assert right() < 0.4
    optimiser = torch.optim.Adam(made.parameters(), lr=5e-3)
    for _ in range(120):
        logits = made.matcher(*sides)(image_rows, text_rows)
        loss = functional.binary_cross_entropy_with_logits(logits, target, pos_weight=torch.tensor(float(count)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert right() > 0.9


# ---- in a model


ITEMS = {
    "image": [np.random.default_rng(i).normal(size=(1 + i % 4, 12)).astype(np.float32) for i in range(7)],
    "text": [np.random.default_rng(9 + i).normal(size=(1 + i % 5, 10)).astype(np.float32) for i in range(9)],
}


def outputs_of(hasher: CrossModalHasher, modality: str) -> TowerOutput:
    encoder = hasher.tower(modality).encoder
    return next(hasher.project(modality, [encoder.prefix(encoder.prepare(ITEMS[modality]))]))


def small(kind: str) -> dict[str, Any]:
    return {"kind": kind, "width": 8, **SMALL[kind]}


def speaking(hasher: CrossModalHasher) -> CrossModalHasher:
    torch.nn.init.normal_(hasher.reranker.read.weight)
    return hasher


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("output", ["tokens", "pooled"])
def test_a_model_scores_pairs_of_rows(make, kind, output):
    hasher = speaking(make(reranker=small(kind), output=output))
    image, text = outputs_of(hasher, "image"), outputs_of(hasher, "text")
    image_rows, text_rows = [6, 0, 0, 3, 5], np.array([8, 1, 0, 3, 3])
    hasher.reranker.train()
    scores = hasher.rerank(image, text, image_rows, text_rows)
    assert scores.dtype == np.float32 and scores.shape == (5,)
    assert hasher.reranker.training and not hasher.training
    hasher.eval()
    with torch.no_grad():
        expected = hasher.reranker(rows_of(image, torch.tensor(image_rows)), rows_of(text, torch.from_numpy(text_rows)))
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    again = hasher.rerank(image, text, image_rows, text_rows, batch_size=2)
    np.testing.assert_allclose(again, scores, rtol=1e-4, atol=1e-5)
    assert hasher.rerank(image, text, [], []).shape == (0,)


def test_kept_items_of_several_batches_give_the_same_scores(make):
    hasher = speaking(make(reranker=small("fusion"), output="tokens"))
    kept = {}
    for modality, items in ITEMS.items():
        encoder = hasher.tower(modality).encoder
        parts = [encoder.prefix(encoder.prepare(items[i : i + 2])) for i in range(0, len(items), 2)]
        kept[modality] = project_all(hasher, modality, hasher.project(modality, parts))
        assert kept[modality].tokens.dtype == torch.float16 and len(kept[modality].mask) == len(items)
    rows = np.arange(7), np.arange(7)[::-1].copy()
    expected = hasher.rerank(outputs_of(hasher, "image"), outputs_of(hasher, "text"), *rows)
    np.testing.assert_allclose(score_pairs(hasher, kept["image"], kept["text"], *rows), expected, atol=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_has_its_re_ranker(make, kind, tmp_path):
    hasher = speaking(make(reranker=small(kind), output="tokens"))
    hasher.save(tmp_path / "model")
    again = CrossModalHasher.load(tmp_path / "model", device="cpu")
    assert again.config == hasher.config and again.fingerprint == hasher.fingerprint
    rows = [0, 1, 2], [3, 4, 5]
    scores = [h.rerank(outputs_of(h, "image"), outputs_of(h, "text"), *rows) for h in (hasher, again)]
    np.testing.assert_array_equal(*scores)


def test_codes_and_fingerprint_do_not_know_the_re_ranker(make):
    plain, fusion, graph = make(), make(reranker=small("fusion")), make(reranker=small("graph"))
    assert plain.fingerprint == fusion.fingerprint == graph.fingerprint == speaking(graph).fingerprint
    vectors = [item[0] for item in ITEMS["image"]]
    np.testing.assert_array_equal(plain.encode_images(vectors), fusion.encode_images(vectors))


def test_a_changed_re_ranker_is_refused(make, tmp_path):
    from safetensors.torch import load_file, save_file

    hasher = make(reranker=small("graph"))
    hasher.save(tmp_path / "model")
    state = load_file(tmp_path / "model" / "model.safetensors")
    state["reranker.read.bias"] += 1
    save_file(state, tmp_path / "model" / "model.safetensors")
    with pytest.raises(CorruptError, match="changed since"):
        CrossModalHasher.load(tmp_path / "model")


def test_a_model_saved_before_there_were_re_rankers_loads_and_keeps_its_fingerprint(tmp_path):
    encoder = {"kind": "features", "name": "own", "width": 4, "output": "tokens"}
    mixers = [{"heads": 2, "shared": True, "width": 4, "ffn": 3}]
    towers = {
        modality: {"encoder": {**encoder, "modality": modality}, "mixers": mixers, "head": {"hidden": 3}}
        for modality in ("image", "text")
    }
    hasher = CrossModalHasher.build(build(ModelConfig, {"n_bits": 6, "towers": towers}))
    with torch.no_grad():
        for tensor in hasher.state_dict().values():
            tensor.copy_((torch.arange(tensor.numel()).reshape(tensor.shape) - 3) / 8)
    known = "b3ffa83045701c3faff5ab8ac45db2b5e79c6252d6428f005d6453228cc6c362"  # as it was without the key
    assert hasher.fingerprint == known
    hasher.save(tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    facts = json.loads(path.read_text())
    del facts["config"]["reranker"]
    path.write_text(json.dumps(facts))
    again = CrossModalHasher.load(tmp_path / "model")
    assert again.fingerprint == known and again.reranker is None


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda h, i, t: h.rerank(i, t, [0], [9]), "0 … 8"),
        (lambda h, i, t: h.rerank(i, t, [-1], [0]), "image_rows"),
        (lambda h, i, t: h.rerank(i, t, [0.5], [0]), "whole numbers"),
        (lambda h, i, t: h.rerank(i, t, [0, 1], [0]), "2 and 1"),
        (lambda h, i, t: h.rerank(i, t, [0], [0], batch_size=0), "batch_size"),
        (lambda h, i, t: project_all(h, "image", []), "no images"),
    ],
)
def test_wrong_arguments_are_said(make, call, said):
    hasher = make(reranker=small("fusion"), output="tokens")
    with pytest.raises(InputError, match=said):
        call(hasher, outputs_of(hasher, "image"), outputs_of(hasher, "text"))


def test_a_model_without_a_re_ranker_says_so(make):
    hasher = make(output="tokens")
    with pytest.raises(InputError, match="no re-ranker"):
        hasher.rerank(outputs_of(hasher, "image"), outputs_of(hasher, "text"), [0], [0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"kind": "fusion", "heads": 3}, "cannot have 3 heads"),
        ({"kind": "graf"}, "did you mean 'graph'"),
        ({"kind": "graph", "steps": 0}, "steps"),
        ({"kind": "graph", "sharpness": 0.0}, "sharpness"),
        ({"kind": "graph", "wdth": 8}, "did you mean 'width'"),
    ],
)
def test_wrong_configurations_are_said(make, content, said):
    with pytest.raises(ConfigError, match=said):
        make(reranker=content)
