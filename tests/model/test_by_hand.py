"""Whole parts worked out in numpy from their weights, item by item and without masks: padding is simply left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import erf, expit, softmax
from torch import nn

from hashret.model import RerankerConfig, TowerOutput
from hashret.model.config import MixerConfig
from hashret.model.mixers import SelfMixer
from hashret.model.poolers import POOLERS
from hashret.model.rerankers import RERANKERS

IMAGES, TEXTS = (3, 2), (1, 3)  # tokens of each item


def items(
    lengths: tuple[int, ...], width: int, *, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, list[np.ndarray]]:
    """Tokens with large numbers for padding, their mask, and each item's own tokens."""
    rng = np.random.default_rng(seed)
    held = [rng.normal(size=(length, width)) for length in lengths]
    tokens = np.full((len(lengths), max(lengths), width), 1e4)
    for row, own in enumerate(held):
        tokens[row, : len(own)] = own
    mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
    return torch.from_numpy(tokens), torch.from_numpy(mask), held


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def affine(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    return x @ array(layer.weight).T + array(layer.bias)


def normed(layer: nn.LayerNorm, x: np.ndarray) -> np.ndarray:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * array(layer.weight) + array(layer.bias)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def attention(layer: nn.MultiheadAttention, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What tokens x find in tokens y, head by head."""
    width = x.shape[1]
    weights, biases = array(layer.in_proj_weight), array(layer.in_proj_bias)
    q, k, v = (
        side @ weights[i * width : (i + 1) * width].T + biases[i * width : (i + 1) * width]
        for i, side in enumerate((x, y, y))
    )
    size = width // layer.num_heads
    found = []
    for head in range(layer.num_heads):
        part = slice(head * size, (head + 1) * size)
        found.append(softmax(q[:, part] @ k[:, part].T / math.sqrt(size), axis=1) @ v[:, part])
    return affine(layer.out_proj, np.concatenate(found, axis=1))


@pytest.mark.parametrize("training", [False, True])
def test_a_self_mixer(drawn, training):
    mixer = drawn(SelfMixer(MixerConfig(layers=2, heads=2, ffn=5, dropout=0.0), width=4)).train(training)
    tokens, mask, held = items((3, 1, 2), 4)
    mixed = array(mixer(tokens, mask))
    for row, x in enumerate(held):
        for block in mixer.blocks.layers:
            looked = normed(block.norm1, x)
            x = x + attention(block.self_attn, looked, looked)
            x = x + affine(block.linear2, gelu(affine(block.linear1, normed(block.norm2, x))))
        np.testing.assert_allclose(mixed[row, : len(x)], normed(mixer.blocks.norm, x), rtol=1e-9)


def test_attention_pooling(drawn):
    pooler = drawn(POOLERS.load("attention")(4, hidden=3))
    inner, outer = pooler.score[0], pooler.score[2]
    tokens, mask, held = items((3, 1, 2), 4)
    pooled = array(pooler(tokens, mask))
    for row, x in enumerate(held):
        scores = [np.tanh(affine(inner, token)) @ array(outer.weight)[0] for token in x]  # a softmax takes b away
        np.testing.assert_allclose(pooled[row], softmax(scores) @ x, rtol=1e-9)


def gru(layer: nn.GRU, inputs: np.ndarray, suffix: str) -> list[np.ndarray]:
    """The states of one direction of a GRU over ``inputs``, in the order in which it reads them."""
    w_x, w_h, b_x, b_h = (
        np.split(array(getattr(layer, f"{name}_l0{suffix}")), 3)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    state, states = np.zeros(layer.hidden_size), []
    for x in inputs:
        from_x, from_h = ([w[i] @ v + b[i] for i in range(3)] for w, v, b in ((w_x, x, b_x), (w_h, state, b_h)))
        reset, keep = expit(from_x[0] + from_h[0]), expit(from_x[1] + from_h[1])
        state = (1 - keep) * np.tanh(from_x[2] + reset * from_h[2]) + keep * state
        states.append(state)
    return states


def test_generalised_pooling(drawn):
    """Sinusoidal positions → BiGRU → mean of directions → linear → softmax at 0.1, over as many ranks as tokens."""
    pooler = drawn(POOLERS.load("gpo")(4, hidden=6))
    tokens, mask, held = items((3, 1, 5), 4)
    pooled = array(pooler(tokens, mask))
    for row, x in enumerate(held):
        positions = np.empty((len(x), 6))
        for place in range(len(x)):
            for i in range(0, 6, 2):
                angle = place / 10000 ** (i / 6)
                positions[place, i : i + 2] = math.sin(angle), math.cos(angle)
        forwards = gru(pooler.gru, positions, "")
        backwards = gru(pooler.gru, positions[::-1], "_reverse")[::-1]
        scores = [float(array(pooler.score.weight)[0] @ (a + b)) / 2 / 0.1 for a, b in zip(forwards, backwards)]
        expected = softmax(scores) @ -np.sort(-x, axis=0)
        np.testing.assert_allclose(pooled[row], expected, rtol=1e-9)


def pair_of_sides(bits: int) -> tuple[list[TowerOutput], list[list[np.ndarray]], list[np.ndarray]]:
    """Two pictures and two texts: what towers give of them, and their tokens and unit vectors."""
    rng = np.random.default_rng(7)
    sides, tokens, vectors = [], [], []
    for lengths, width, seed in ((IMAGES, 3, 1), (TEXTS, 2, 2)):
        padded, mask, held = items(lengths, width, seed=seed)
        logits = rng.normal(size=(2, bits))
        sides.append(TowerOutput(torch.from_numpy(logits), torch.zeros(2, width), padded, mask))
        tokens.append(held)
        vectors.append(unit(logits))
    return sides, tokens, vectors


def reranker(kind: str) -> nn.Module:
    config = RerankerConfig(kind, width=4, layers=2, heads=2, ffn=5, steps=2, similarity_width=3, sharpness=2.0)
    return RERANKERS.load(kind)(config, widths={"image": 3, "text": 2}, n_bits=5)


def fusion(made: nn.Module, image: np.ndarray, text: np.ndarray, vectors: list[np.ndarray]) -> float:
    """What a learnt token before the words has read when it and they looked at each other and at the picture."""
    x = np.concatenate([array(made.first)[None], text])
    for block in made.blocks:
        looked = normed(block.norm, x)
        x = x + attention(block.attention, looked, looked)
        update = attention(block.cross.attention, normed(block.cross.norm, x), image)
        x = x + expit(affine(block.cross.gate, np.concatenate([x, update], axis=1))) * update
        x = x + affine(block.ffn[4], gelu(affine(block.ffn[1], normed(block.ffn[0], x))))
    return affine(made.read, normed(made.norm, x[0]))[0]


def graph(made: nn.Module, image: np.ndarray, text: np.ndarray, vectors: list[np.ndarray]) -> float:
    """The node of the whole after two steps; the other nodes are those of the words."""
    regions, words = unit(image), unit(text)
    cosines = regions @ words.T
    leaky = unit(np.where(cosines > 0, cosines, 0.1 * cosines))  # over words
    nodes = [unit(affine(made.whole.project, (vectors[0] - vectors[1]) ** 2))]
    for number, word in enumerate(words):
        found = unit(softmax(2.0 * leaky[:, number]) @ regions)
        nodes.append(unit(affine(made.words.project, (word - found) ** 2)))
    state = np.array(nodes)
    for step in made.steps:
        edges = softmax(affine(step.query, state) @ affine(step.key, state).T, axis=1)
        state = np.maximum(affine(step.out, edges @ state), 0)
    return affine(made.read, state[0])[0]


@pytest.mark.parametrize("evidence", [fusion, graph])
def test_a_reranker(drawn, evidence):
    """Evidence + scale · cosine + bias, of every picture with every text."""
    made = drawn(reranker(evidence.__name__))
    sides, tokens, vectors = pair_of_sides(5)
    rows, columns = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    scores = array(made.matcher(*sides)(rows, columns))
    for pair, (i, j) in enumerate(zip(rows, columns)):
        image, text = (
            affine(made.inputs[modality][1], normed(made.inputs[modality][0], held))
            for modality, held in (("image", tokens[0][i]), ("text", tokens[1][j]))
        )
        own = [vectors[0][i], vectors[1][j]]
        said = evidence(made, image, text, own)
        assert abs(said) > 1e-3
        expected = said + made.scale.item() * own[0] @ own[1] + made.bias.item()
        assert scores[pair] == pytest.approx(expected, rel=1e-5)
