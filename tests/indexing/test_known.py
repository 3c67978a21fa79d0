"""Which folder a collection follows: moved, restored and emptied it is the same, and another one is refused."""

from __future__ import annotations

import shutil

import pytest

from hashret.collection import Collection
from hashret.errors import MismatchError
from hashret.indexing import FolderIndex


def update(photos, out, **options):
    with FolderIndex.open(photos, out) as index:
        return index.update(**options)


def test_a_folder_restored_elsewhere_is_known_again_by_what_its_pictures_are(world, photos, indexed, tmp_path):
    """Their times are new, some are gone, and some were changed since."""
    restored = tmp_path / "restored"
    shutil.copytree(photos, restored, copy_function=shutil.copyfile)
    shutil.rmtree(photos)
    shutil.rmtree(restored / "trips")
    for number in (0, 1):
        shutil.copy(world.folder / f"{30 + number}.png", restored / f"{number}.png")
    changes = update(restored, indexed)
    assert (changes.touched, changes.changed, changes.encoded, len(changes.gone)) == (4, 2, 2, 6)


def test_codes_of_a_client_say_nothing_against_a_folder(world, photos, indexed, tmp_path):
    with Collection.open(indexed, mode="w") as collection:
        items = collection.get(list(collection)[:9])
        collection.upsert(items.codes, items.ids, [{**about, "content": ""} for about in items.metadata])
    restored = tmp_path / "restored"
    shutil.copytree(photos, restored, copy_function=shutil.copyfile)
    shutil.rmtree(photos)
    assert update(restored, indexed).encoded == 9  # whose codes are not their files'


@pytest.mark.parametrize("mine", [0, 1, 2])
def test_another_folder_is_refused_while_the_first_is_away(world, photos, indexed, tmp_path, mine):
    """Also where a picture or two are in both; of six namesakes, the others are others."""
    other, away = tmp_path / "other", tmp_path / "away"
    other.mkdir()
    for number in range(6):
        shutil.copy2(world.folder / f"{number if number < mine else number + 20}.png", other / f"{number}.png")
    photos.rename(away)
    for place in (other, world.run):
        with pytest.raises(MismatchError, match=r"photos/.*which is not there now, and .* does not hold its pictures"):
            FolderIndex.open(place, indexed)
    with FolderIndex.open(away, indexed) as index:
        assert len(index.collection) == 12


def test_a_folder_is_the_same_whatever_lies_there_today(world, photos, indexed):
    shutil.rmtree(photos)
    photos.mkdir()
    shutil.copy(world.folder / "20.png", photos / "0.png")
    changes = update(photos, indexed, prune=True)
    assert (changes.changed, changes.removed) == (1, 11)


def test_a_folder_of_links_is_the_same_where_what_they_lead_to_is_away(world, photos, tmp_path):
    links, out, away = tmp_path / "links", tmp_path / "links.hashret", tmp_path / "away"
    links.mkdir()
    (links / "a.png").symlink_to(photos / "0.png")
    with FolderIndex.open(links, out, model=world.model) as index:
        index.update()
    photos.rename(away)
    assert update(links, out).gone == ("a.png",)
    away.rename(photos)
    assert update(links, out, prune=True).unchanged == 1
