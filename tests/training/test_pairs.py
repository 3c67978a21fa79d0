"""Which rows a batch holds."""

from __future__ import annotations

import pytest
import torch

from hashret.errors import TrainingError
from hashret.training import PairFeatures
from hashret.training.pairs import Draw, VectorTable, draws, images_of, mixtures, steps_of

OWNER = torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 4])


def drawn(**options: int) -> list[Draw]:
    seed = options.pop("seed", 0)
    settings = {"batch_size": 2, "captions": 1, "passes": 1, **options}
    return list(draws(OWNER, generator=torch.Generator().manual_seed(seed), **settings))


@pytest.mark.parametrize("captions", [1, 2])
def test_every_caption_belongs_to_its_image(captions):
    batches = drawn(batch_size=4, captions=captions, passes=20)
    assert len(batches) == steps_of(5, batch_size=4, captions=captions, passes=20)
    for draw in batches:
        assert torch.equal(OWNER[draw.text], draw.image)
    texts = torch.cat([draw.text for draw in batches])
    assert set(texts.tolist()) == set(range(11))  # every caption comes sooner or later


@pytest.mark.parametrize(("batch_size", "captions", "images"), [(2, 1, 2), (5, 2, 2), (100, 1, 5), (100, 2, 5)])
def test_a_batch_has_as_many_images_as_fit(batch_size, captions, images):
    assert images_of(5, batch_size=batch_size, captions=captions) == images
    assert {len(draw.image) for draw in drawn(batch_size=batch_size, captions=captions)} == {images * captions}


def test_a_pass_shows_an_image_once():
    for seed in range(5):
        images = torch.cat([draw.image for draw in drawn(batch_size=5, seed=seed)])
        assert sorted(images.tolist()) == [0, 1, 2, 3, 4]


def test_two_captions_of_an_image_differ_where_it_has_two():
    for draw in drawn(batch_size=4, captions=2, passes=10):
        first, second = draw.text.view(-1, 2).unbind(1)
        several = torch.bincount(OWNER)[OWNER[first]] > 1
        assert (first[several] != second[several]).all()


def test_a_small_set_gives_one_short_batch_a_pass():
    assert [len(draw.image) for draw in drawn(batch_size=64, passes=2)] == [5, 5]


def test_draws_follow_from_the_generator():
    same = zip(drawn(seed=3, passes=3), drawn(seed=3, passes=3))
    assert all(torch.equal(a.text, b.text) and torch.equal(a.image, b.image) for a, b in same)
    assert any(not torch.equal(a.image, b.image) for a, b in zip(drawn(seed=3, passes=3), drawn(seed=4, passes=3)))


def test_mixtures_weigh_the_captions_of_one_image():
    torch.manual_seed(0)
    draw = Draw(torch.tensor([0, 1, 3]), torch.tensor([1, 3, 7]))
    rows, weights = mixtures(OWNER, draw, share=1.0)
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    assert (weights >= 0).all()
    for row, image in enumerate(draw.image):
        used = rows[row][weights[row] > 0]
        assert (OWNER[used] == image).all() and len(used.unique()) == int((image == OWNER).sum())
    rows, weights = mixtures(OWNER, draw, share=0.0)
    vectors = torch.randn(11, 4)
    torch.testing.assert_close(VectorTable(vectors).mixtures(rows, weights).pooled, vectors[draw.text])


def test_pairs_must_fit():
    table = VectorTable(torch.zeros(3, 2))
    for owner in (torch.tensor([0, 1]), torch.tensor([0, 0, 1]), torch.tensor([0, 2, 1]), torch.tensor([0, 1, 3])):
        with pytest.raises(TrainingError):
            PairFeatures(table, table, owner)
