"""Adapters, poolers, mixers and heads, each against its formula, and none of them across items."""

from __future__ import annotations

import pytest
import torch

from hashret.config import build
from hashret.encoders import Encoded
from hashret.errors import ConfigError
from hashret.model import CrossModalHasher, ModelConfig
from hashret.model.adapters import ADAPTERS
from hashret.model.config import HeadConfig, MixerConfig
from hashret.model.heads import HEADS
from hashret.model.mixers import Mixing, SelfMixer
from hashret.model.outputs import TowerOutput, sign
from hashret.model.poolers import POOLERS


def tokens(batch: int = 4, count: int = 6, width: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of items with 6, 5, 4, … tokens; what is masked out holds large numbers."""
    generator = torch.Generator().manual_seed(5)
    values = torch.randn(batch, count, width, generator=generator)
    mask = torch.arange(count)[None, :] < torch.arange(count, count - batch, -1)[:, None]
    return torch.where(mask[..., None], values, torch.tensor(1e4)), mask


def test_sign_follows_the_packed_bit_and_passes_the_gradient():
    x = torch.tensor([-0.5, 0.0, 1e-30, 0.7], requires_grad=True)
    hard = sign(x)
    assert hard.tolist() == [-1, -1, 1, 1]
    (hard * torch.tensor([1.0, 2, 3, 4])).sum().backward()
    assert x.grad.tolist() == [1, 2, 3, 4]


def test_an_output_has_three_views():
    logits = torch.tensor([[3.0, -4.0, 0.1], [0.0, 0.0, 0.0]])
    output = TowerOutput(logits=logits, pooled=logits, beta=2.0)
    torch.testing.assert_close(output.relaxed, torch.tanh(2 * logits))
    torch.testing.assert_close(output.float_(2), torch.tensor([[0.6, -0.8], [0.0, 0.0]]))
    assert output.code(2).tolist() == [[1, -1], [-1, -1]]


def test_centre_takes_the_mean_away_and_normalises():
    batches = [torch.randn(7, 5) + 3, torch.randn(9, 5) + 3]
    adapter = ADAPTERS.load("centre")(5)
    adapter.fit(batches)
    rows = torch.cat(batches)
    torch.testing.assert_close(adapter.mean, rows.mean(0))
    centred = rows - rows.mean(0)
    torch.testing.assert_close(adapter(rows), centred / centred.norm(dim=1, keepdim=True))


def test_standardise_gives_every_dimension_the_same_variance():
    rows = torch.randn(500, 4) * torch.tensor([1.0, 10, 0.1, 0]) + 5
    adapter = ADAPTERS.load("standardise")(4)
    adapter.fit([rows])
    made = adapter(rows)
    torch.testing.assert_close(made.std(0, unbiased=False)[:3], torch.full((3,), 0.5), atol=1e-4, rtol=1e-3)
    assert made[:, 3].abs().max() < 1e-2  # a constant stays small


def test_poolers_against_loops():
    values, mask = tokens()
    for row in range(len(values)):
        held = values[row][mask[row]]
        expected = {
            "first": held[0],
            "mean": held.mean(0),
            "max": held.max(0).values,
            "first_mean": torch.cat([held[0], held[1:].mean(0)]),
        }
        for name, vector in expected.items():
            torch.testing.assert_close(POOLERS.load(name)(8)(values, mask)[row], vector)


def test_gpo_can_be_mean_and_max():
    values, mask = tokens()
    pooler = POOLERS.load("gpo")(8)
    with torch.no_grad():
        for parameter in pooler.parameters():
            parameter.zero_()
        torch.testing.assert_close(pooler(values, mask), POOLERS.load("mean")(8)(values, mask))
        for direction in ("", "_reverse"):  # states that keep nothing hold the tanh of a cosine, largest at rank 0
            getattr(pooler.gru, f"bias_ih_l0{direction}")[32:64] = -50.0
            getattr(pooler.gru, f"weight_ih_l0{direction}")[64, 1] = 1.0
        pooler.score.weight[0, 0] = 100.0
        torch.testing.assert_close(pooler(values, mask), POOLERS.load("max")(8)(values, mask))


@pytest.mark.parametrize("name", POOLERS.names())
def test_a_pooler_sees_one_item_and_no_padding(name):
    torch.manual_seed(0)
    pooler = POOLERS.load(name)(8).eval()
    values, mask = tokens()
    together = pooler(values, mask)
    for row in range(len(values)):
        alone = pooler(values[row : row + 1, mask[row]], mask[row : row + 1, mask[row]])
        torch.testing.assert_close(together[row], alone[0], rtol=1e-5, atol=1e-6)
    loss = pooler(values.clone().requires_grad_(), mask)[0].sum()
    assert loss.isfinite()


def test_gradients_of_poolers_are_finite_and_reach_no_padding():
    for name in POOLERS.names():
        values, mask = tokens()
        values = values.double().requires_grad_()
        pooler = POOLERS.load(name)(8).double()
        pooler(values, mask).square().sum().backward()
        assert values.grad.isfinite().all(), name
        assert values.grad[~mask].abs().max() == 0, name


def test_a_mixer_sees_one_item_and_no_padding():
    torch.manual_seed(0)
    mixing = Mixing(SelfMixer(MixerConfig(layers=2, heads=2, ffn=16, width=12), width=12), width=8).eval()
    values, mask = tokens()
    together = mixing(values, mask)
    assert together.shape == (4, 6, 12)
    for row in range(len(values)):
        alone = mixing(values[row : row + 1, mask[row]], mask[row : row + 1, mask[row]])
        torch.testing.assert_close(together[row][mask[row]], alone[0], rtol=1e-4, atol=1e-5)


def test_heads_against_their_formula():
    torch.manual_seed(0)
    x = torch.randn(5, 6)
    linear = HEADS.load("linear")(HeadConfig(kind="linear"), width=6, n_bits=9)
    torch.testing.assert_close(linear(x), x @ linear.linear.weight.T + linear.linear.bias)
    head = HEADS.load("residual_mlp")(HeadConfig(hidden=7), width=6, n_bits=9).eval()
    hidden = torch.nn.functional.gelu(x @ head.mlp[1].weight.T + head.mlp[1].bias)
    direct = x @ head.linear.weight.T + head.linear.bias
    torch.testing.assert_close(head(x), direct + hidden @ head.mlp[4].weight.T + head.mlp[4].bias)


def test_batch_norm_centres_bits_in_training_and_sees_one_item_afterwards():
    torch.manual_seed(0)
    head = HEADS.load("linear")(HeadConfig(kind="linear", batch_norm=True), width=6, n_bits=9)
    x = torch.randn(64, 6)
    assert head(x).mean(0).abs().max() < 1e-5
    head.eval()
    torch.testing.assert_close(head(x)[3], head(x[3:4])[0])


@pytest.mark.parametrize(
    ("tower", "output", "said"),
    [
        ({"pooler": "gpo"}, "pooled", "output to tokens"),
        ({"mixers": [{}]}, "pooled", "output to tokens"),
        ({"pooler": "gpoo"}, "tokens", "did you mean 'gpo'"),
        ({"adapter": "center"}, "pooled", "did you mean 'centre'"),
        ({"head": {"kind": "mlp"}}, "pooled", "residual_mlp"),
        ({"head": {"dropout": 1.5}}, "pooled", "dropout"),
        ({"head": {"hiden": 5}}, "pooled", "did you mean 'hidden'"),
        ({"mixers": [{"heads": 5}]}, "tokens", "cannot have 5 heads"),
    ],
)
def test_parts_that_do_not_fit_are_named(make, tower, output, said):
    with pytest.raises(ConfigError, match=said):
        make(tower=tower, output=output)


def test_shared_mixers_are_one_module(make):
    hasher = make(tower={"mixers": [{"heads": 2, "width": 8}, {"heads": 2, "shared": True}]}, output="tokens")
    image, text = (hasher.tower(m).mixers for m in ("image", "text"))
    assert image[1].mixer is text[1].mixer
    assert image[0].mixer is not text[0].mixer
    follows = make(tower={"mixers": [{"heads": 2, "shared": True}]}, output="tokens")
    assert follows.tower("text").mixers[0].width == 12  # the text tokens, 10 wide, are projected


def test_a_shared_mixer_is_configured_once():
    encoder = {"kind": "features", "name": "own", "width": 8, "output": "tokens"}
    towers = {
        "image": {"encoder": {**encoder, "modality": "image"}, "mixers": [{"shared": True, "layers": 2}]},
        "text": {"encoder": {**encoder, "modality": "text"}, "mixers": [{"shared": True, "layers": 1}]},
    }
    with pytest.raises(ConfigError, match="configured alike"):
        CrossModalHasher.build(build(ModelConfig, {"n_bits": 8, "towers": towers}))


def test_noise_moves_features_only_when_asked_for(make):
    tower = make().tower("image")
    encoded = Encoded(torch.randn(3, 1, 12), torch.ones(3, 1, dtype=torch.bool), torch.randn(3, 12))
    still, again, moved = tower(encoded), tower(encoded), tower(encoded, noise=0.5)
    assert torch.equal(still.pooled, again.pooled)
    moves = (moved.pooled - still.pooled).norm(dim=1)
    assert (moves > 0.1).all() and (moves < 1.2).all()


def test_a_prefix_with_a_hidden_layer_of_its_own_shares_nothing():
    torch.manual_seed(0)
    head = HEADS.load("residual_mlp")(HeadConfig(hidden=7, own=(4,)), width=6, n_bits=9).eval()
    x = torch.randn(5, 6)
    parts = [head.linear(x)[:, :4] + head.mlp[0](x), head.linear(x)[:, 4:] + head.mlp[1](x)]
    torch.testing.assert_close(head(x), torch.cat(parts, dim=1))
    head(x)[:, 4:].sum().backward()
    assert all(not weight.grad.any() for weight in head.mlp[0].parameters())
    assert all(weight.grad.any() for weight in head.mlp[1].parameters())
    with pytest.raises(ConfigError, match="ascend"):
        HeadConfig(own=(8, 4))
