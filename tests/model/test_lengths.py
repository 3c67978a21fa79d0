"""Batches that training takes apart by length: the same values as those of the whole."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from hashret.model import Projected
from hashret.model.config import MixerConfig
from hashret.model.lengths import length_groups
from hashret.model.mixers import SelfMixer


@given(st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=1, max_size=40))
def test_groups_hold_every_row_once_and_every_token(masks):
    mask = torch.tensor(masks)
    groups = length_groups(mask)
    assert sorted(torch.cat([rows for rows, _ in groups]).tolist()) == list(range(len(mask)))
    for rows, length in groups:
        assert 1 <= length <= 9 and not mask[rows, length:].any()


def test_a_batch_without_padding_stays_whole():
    (rows, length), *others = length_groups(torch.ones(50, 7, dtype=torch.bool))
    assert rows.tolist() == list(range(50)) and length == 7 and not others


def test_a_mixer_learns_from_groups_what_it_learns_from_the_whole():
    torch.manual_seed(0)
    mixer = SelfMixer(MixerConfig(layers=2, heads=2, ffn=16, width=12, dropout=0.0), width=12)
    tokens = torch.randn(30, 11, 12)
    mask = torch.arange(11)[None, :] < torch.randint(1, 12, (30, 1))
    found = []
    for mode in (True, False):
        mixer.train(mode).zero_grad()
        mixed = mixer(tokens, mask)
        assert mixed.shape == (30, 11, 12)
        mixed[mask].square().sum().backward()
        found.append((mixed[mask].detach(), *(p.grad.clone() for p in mixer.parameters())))
    for grouped, whole in zip(*found):
        torch.testing.assert_close(grouped, whole, rtol=1e-4, atol=1e-4)


def test_projected_items_are_picked_by_row_and_cut():
    tokens, mask = torch.arange(12.0).reshape(3, 2, 2), torch.ones(3, 2, dtype=torch.bool)
    picked = Projected(tokens, mask, torch.eye(3)).rows(torch.tensor([2, 0, 2]))
    assert picked.tokens[:, 0, 0].tolist() == [8, 0, 8] and picked.vector.argmax(1).tolist() == [2, 0, 2]
    cut = picked.cut(1)
    assert cut.tokens.shape == (3, 1, 2) and cut.mask.shape == (3, 1) and torch.equal(cut.vector, picked.vector)
