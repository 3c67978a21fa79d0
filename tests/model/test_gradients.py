"""Every learning part's gradient against differences of its value, in float64, for inputs and parameters alike.

The parts come from their registries, so a new one is checked by being registered.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from hashret.model import RerankerConfig, TowerOutput
from hashret.model.adapters import ADAPTERS
from hashret.model.config import HeadConfig, MixerConfig
from hashret.model.heads import HEADS
from hashret.model.mixers import CrossMixer, SelfMixer
from hashret.model.poolers import POOLERS
from hashret.model.rerankers import RERANKERS
from hashret.model.rerankers.fusion import FusionBlock

MASK = torch.tensor([[True, True, True], [True, True, False]])


def randn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def check(part: nn.Module, value: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Raises where a gradient is not that of the value, or that of an input or a weight is 0 everywhere."""
    named = dict(part.named_parameters())
    checked = (*inputs, *named.values())  # gradcheck moves parameters where they are
    out = value(*inputs)
    gradients = torch.autograd.grad((randn(*out.shape, seed=9).detach() * out).sum(), checked)
    for name, gradient in zip((*map(str, range(len(inputs))), *named), gradients):
        # a softmax takes a bias of its keys away again, and a batch norm every bias before it
        assert gradient.abs().max() > 0 or name.endswith("bias"), name
    assert torch.autograd.gradcheck(lambda *tensors: value(*tensors[: len(inputs)]), checked, fast_mode=True)


@pytest.mark.parametrize("name", POOLERS.names())
def test_a_pooler(drawn, name):
    pooler = drawn(POOLERS.load(name)(4)).train()
    check(pooler, lambda tokens: pooler(tokens, MASK), randn(2, 3, 4))


@pytest.mark.parametrize("name", ADAPTERS.names())
def test_an_adapter(name):
    adapter = ADAPTERS.load(name)(4).double()
    adapter.fit([randn(9, 4, seed=5)])
    check(adapter, adapter, randn(3, 4))


@pytest.mark.parametrize("own", [(), (2,)])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", HEADS.names())
def test_a_head(drawn, name, batch_norm, own):
    config = HeadConfig(name, hidden=3, dropout=0.0, batch_norm=batch_norm, own=own)
    head = drawn(HEADS.load(name)(config, width=4, n_bits=5)).train()
    check(head, head, randn(6, 4))
    check(head.eval(), head, randn(1, 4))  # with the statistics of those six, as a code is made


@pytest.mark.parametrize("n_bits", [3, None])
def test_the_float_view(n_bits):
    check(nn.Module(), lambda logits: TowerOutput(logits, logits).float_(n_bits), randn(3, 5))


@pytest.mark.parametrize("training", [False, True])
def test_a_self_mixer(drawn, training):
    mixer = drawn(SelfMixer(MixerConfig(heads=2, ffn=3, dropout=0.0), width=4)).train(training)
    check(mixer, lambda tokens: mixer(tokens, MASK)[MASK], randn(2, 3, 4))


def test_a_cross_mixer(drawn):
    mixer = drawn(CrossMixer(4, heads=2)).train()
    looking = torch.tensor([[True, True], [False, True]])
    check(mixer, lambda x, y: mixer(x, y, looking, MASK), randn(2, 2, 4), randn(2, 3, 4, seed=3))


def test_a_fusion_block(drawn):
    block = drawn(FusionBlock(RerankerConfig("fusion", width=4, heads=2, ffn=3, dropout=0.0))).train()
    words = torch.tensor([[True, True], [True, False]])
    check(block, lambda x, y: block(x, y, words, MASK), randn(2, 2, 4), randn(2, 3, 4, seed=3))


@pytest.mark.parametrize("kind", RERANKERS.names())
def test_a_reranker(drawn, kind):
    """Without the float32 that its score ends in; what follows the evidence is a sum of three."""
    config = RerankerConfig(kind, width=4, heads=2, ffn=3, similarity_width=3, steps=2, sharpness=2.0, dropout=0.0)
    made = drawn(RERANKERS.load(kind)(config, widths={"image": 3, "text": 2}, n_bits=5)).train()
    words = torch.tensor([[True, True], [True, False]])

    def evidence(image: Tensor, text: Tensor, image_logits: Tensor, text_logits: Tensor) -> Tensor:
        sides = TowerOutput(image_logits, image_logits, image, MASK), TowerOutput(text_logits, text_logits, text, words)
        projected = [made.project(modality, side) for modality, side in zip(("image", "text"), sides)]
        vectors = (projected[0].vector * projected[1].vector).sum(dim=1)
        return made.evidence(*projected) + made.scale * vectors + made.bias

    check(made, evidence, randn(2, 3, 3), randn(2, 2, 2, seed=3), randn(2, 5, seed=4), randn(2, 5, seed=5))
