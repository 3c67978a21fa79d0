"""A collection that follows a folder: what is encoded, what is not, what is refused."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hashret import Collection, CrossModalHasher
from hashret.errors import DataError, InputError, LockedError, MismatchError, StorageError
from hashret.indexing import FolderIndex, Found, default_model, walk_folder
from hashret.indexing.facts import facts_of


def update(photos, out, **options):
    with FolderIndex.open(photos, out) as index:
        return index.update(**options)


def test_a_folder_is_walked_and_what_is_left_out_is_counted(world, photos, tmp_path):
    with FolderIndex.open(photos, tmp_path / "c.hashret", model=world.model) as index:
        changes = index.update()
        assert (changes.added, changes.encoded, changes.unchanged) == (12, 12, 0)
        assert changes.skipped.names == ("broken.jpg",)
        assert "broken.jpg" in changes.skipped.reasons[0]
        assert changes.others == {".txt": 1, ".mp4": 1}
        assert {"3.png", "trips/2019/7.png"} <= set(index.collection)


def test_codes_are_those_of_the_model(world, photos, indexed):
    with Collection.open(indexed) as collection:
        stored = collection.codes(["3.png", "trips/2019/7.png"])
        model = CrossModalHasher.load(world.model)
        collection.check_model(model.fingerprint)
    expected = model.encode_images([photos / "3.png", photos / "trips/2019/7.png"])
    assert np.unpackbits(stored ^ expected).sum() <= 1  # batches of other sizes round otherwise


def test_a_second_update_reads_nothing_and_loads_no_torch(photos, indexed):
    code = (
        "import sys; from hashret.cli import main\n"
        "main(['index', sys.argv[1], '--out', sys.argv[2]])\n"
        "print('torch' in sys.modules)"
    )
    (photos / "broken.jpg").unlink()
    answer = subprocess.run(
        [sys.executable, "-c", code, str(photos), str(indexed)], capture_output=True, text=True, check=True
    )
    assert "12 unchanged" in answer.stdout
    assert answer.stdout.endswith("False\n")


def test_only_what_changed_is_encoded(world, photos, indexed):
    os.utime(photos / "1.png", ns=(1, 10**18))  # touched
    shutil.copy(world.folder / "30.png", photos / "2.png")  # other content
    shutil.copy(world.folder / "31.png", photos / "new.png")
    (photos / "3.png").rename(photos / "moved.png")
    shutil.copy(photos / "4.png", photos / "twin.png")
    changes = update(photos, indexed)
    assert (changes.touched, changes.changed, changes.added, changes.encoded) == (1, 1, 3, 2)
    assert changes.gone == ("3.png",)
    with Collection.open(indexed) as collection:
        assert (collection.codes(["moved.png"]) == collection.codes(["3.png"])).all()
        assert (collection.codes(["twin.png"]) == collection.codes(["4.png"])).all()
        assert collection.get(["1.png"]).metadata[0]["mtime_ns"] == 10**18


def test_prune_removes_what_is_gone(photos, indexed):
    (photos / "3.png").unlink()
    shutil.rmtree(photos / "trips")
    assert len(update(photos, indexed).gone) == 7
    assert update(photos, indexed, prune=True).removed == 7
    with Collection.open(indexed) as collection:
        assert sorted(collection) == ["0.png", "1.png", "2.png", "4.png", "5.png"]


def test_a_picture_that_cannot_be_looked_at_is_not_taken_for_gone(photos, indexed):
    """As on a disk that fails, or in a folder without the right to enter; here a link that leads to itself."""
    (photos / "3.png").unlink()
    (photos / "3.png").symlink_to(photos / "3.png")
    changes = update(photos, indexed, prune=True)
    assert changes.removed == 0
    assert "3.png" in changes.skipped.names
    with Collection.open(indexed) as collection:
        assert "3.png" in collection


def test_dead_rows_do_not_pile_up(photos, indexed, monkeypatch):
    monkeypatch.setattr("hashret.collection.results._MANY", 20)
    with FolderIndex.open(photos, indexed) as index, Collection.open(indexed) as reader:
        before = reader.codes(["3.png"])
        for turn, dead in enumerate((12, 0, 12)):  # 12 live: only the second time more are dead than live
            for number in range(12):
                os.utime(photos / ("" if number < 6 else "trips/2019") / f"{number}.png", ns=(1, 10**18 + turn))
            assert index.update().touched == 12
            assert index.collection.info().dead == dead
        assert (reader.codes(["3.png"]) == before).all() and reader.verify().rows == 24


def test_a_compaction_that_cannot_be_done_is_no_failure(photos, indexed, monkeypatch, caplog):
    monkeypatch.setattr("hashret.collection.results._MANY", 1)
    codes = next(indexed.glob("codes-*.bin"))
    data = bytearray(codes.read_bytes())
    data[-1] ^= 1  # damage, which a compaction refuses
    codes.write_bytes(data)
    shutil.rmtree(photos / "trips")
    for number in range(5):
        (photos / f"{number}.png").unlink()
    assert update(photos, indexed, prune=True).removed == 11
    assert "is not compacted" in caplog.text and "damaged" in caplog.text


def test_an_empty_folder_prunes_nothing(photos, indexed):
    shutil.rmtree(photos)
    photos.mkdir()
    with pytest.raises(DataError, match="holds no picture any more"):
        update(photos, indexed, prune=True)
    with Collection.open(indexed) as collection:
        assert len(collection) == 12


def test_a_moved_folder_is_not_encoded_again(photos, indexed, tmp_path):
    moved = photos.rename(tmp_path / "elsewhere")
    changes = update(moved, indexed)
    assert (changes.touched, changes.encoded) == (12, 0)
    with Collection.open(indexed) as collection:
        assert collection.get(["3.png"]).metadata[0]["image"] == str(moved / "3.png")


def test_another_folder_and_another_kind_of_collection_are_refused(world, photos, indexed, tmp_path):
    copy = shutil.copytree(photos, tmp_path / "copy")
    with pytest.raises(MismatchError, match="follows another folder"):
        update(copy, indexed)
    with pytest.raises(MismatchError, match="not made from a folder"):
        update(photos, world.collection)


def test_another_model_or_length_is_refused(world, photos, indexed, tmp_path):
    import torch

    other = CrossModalHasher.load(world.model)
    with torch.no_grad():
        next(other.tower("text").head.parameters()).mul_(2)
    other.save(tmp_path / "other")
    with pytest.raises(MismatchError, match="model"):
        FolderIndex.open(photos, indexed, model=tmp_path / "other")
    with pytest.raises(InputError, match="32 bits"):
        FolderIndex.open(photos, indexed, n_bits=16)
    with pytest.raises(InputError, match="batch_size"):
        FolderIndex.open(photos, indexed, batch_size=0)
    with pytest.raises(InputError, match="directory of a model"):
        FolderIndex.open(photos, tmp_path / "none.hashret")
    with FolderIndex.open(photos, indexed):  # none of the refusals left a lock behind
        pass


def test_two_indexers_at_once(photos, indexed):
    with FolderIndex.open(photos, indexed), pytest.raises(LockedError, match="open for writing"):
        FolderIndex.open(photos, indexed)


def test_a_collection_in_the_folder_is_not_walked(world, photos):
    out = photos / "photos.hashret"
    with FolderIndex.open(photos, out, model=world.model) as index:
        shutil.copy(world.folder / "1.png", out / "inside.png")
        assert index.update().added == 12


def test_a_sub_folder_that_cannot_be_read_is_told_and_kept(photos, indexed, tmp_path):
    """Rights do not bind root, as whom the tests may run, but a path has a longest length for everybody."""
    longest = os.pathconf(tmp_path, "PC_PATH_MAX") - 1
    deep = tmp_path
    while (left := longest - len(str(deep)) - len("/trips/2019")) > 0:
        deep /= "d" * min(left, 200)
    deep.parent.mkdir(parents=True)
    photos.rename(deep)  # and trips/2019 is one letter too far away
    with FolderIndex.open(deep, indexed) as index:
        changes = index.update(prune=True)
        assert (changes.removed, changes.touched) == (0, 6)
        assert "trips/2019" in changes.skipped.names and "trips/2019/7.png" in index.collection
    (deep / "trips").rename(tmp_path / "near")
    assert update(deep, indexed, prune=True).removed == 6


def test_what_is_no_folder_is_told(world, tmp_path):
    with pytest.raises(DataError, match="is a file"):
        walk_folder(world.captions)
    with pytest.raises(DataError, match="does not exist"):
        walk_folder(tmp_path / "none")
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        walk_folder(tmp_path / ("x" * 300))
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(DataError, match="cannot be read: Too many levels"):
        FolderIndex.open(tmp_path / "circle", tmp_path / "c.hashret", model=world.model)


def test_a_name_that_is_no_text_and_a_dead_link_are_skipped(photos):
    Path(os.fsdecode(os.fsencode(photos) + b"/\xff.png")).write_bytes(b"x")
    (photos / "link.png").symlink_to(photos / "nothing.png")
    (photos / "odd.png").symlink_to(os.fsdecode(os.fsencode(photos) + b"/\xff.png"))
    Path(os.fsdecode(os.fsencode(photos) + b"/a.\xff")).write_bytes(b"x")
    walk = walk_folder(photos)
    reasons = dict(zip(walk.skipped.names, walk.skipped.reasons))
    assert list(reasons) == ["link.png", "odd.png", "\udcff.png"] and not walk.unreadable
    assert "nothing.png" in reasons["link.png"]
    assert "odd.png' links to" in reasons["odd.png"] and "not UTF-8" in reasons["odd.png"]
    assert "not UTF-8" in reasons["\udcff.png"]
    assert walk.others[".?"] == 1  # it is printed


def test_a_folder_whose_path_is_no_text_is_refused(world, photos, tmp_path):
    parent = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    parent.mkdir()
    photos.rename(parent / "photos")
    with pytest.raises(DataError, match=r"udcff/photos' is not UTF-8; rename it"):
        FolderIndex.open(parent / "photos", tmp_path / "c.hashret", model=world.model)
    assert not (tmp_path / "c.hashret").exists()


def test_a_pipe_that_is_called_like_a_picture_is_skipped(photos):
    os.mkfifo(photos / "pipe.jpg")
    walk = walk_folder(photos)
    assert "pipe.jpg" not in {found.id for found in walk.found}
    assert walk.skipped.names == ("pipe.jpg",) and "pipe" in walk.skipped.reasons[0]


def test_a_time_beyond_all_calendars_is_left_out():
    facts = facts_of(Found("a.png", Path("a.png"), 1, 10**21), b"", "")
    assert facts["mtime_ns"] == 10**21 and "modified" not in facts
    assert facts_of(Found("a.png", Path("a.png"), 1, 10**9), b"", "")["modified"] == "1970-01-01T00:00:01Z"


def test_a_linked_picture_is_stored_where_it_lies(world, photos, indexed):
    (photos / "link.png").symlink_to(world.folder / "20.png")
    assert update(photos, indexed).added == 1
    with Collection.open(indexed) as collection:
        assert collection.get(["link.png"]).metadata[0]["image"] == str(world.folder / "20.png")
    os.utime(photos / "trips/2019/7.png", ns=(1, 10**18))  # the last item now
    changes = update(photos, indexed)
    assert (changes.unchanged, changes.touched) == (12, 1)
    (photos / "link.png").unlink()
    for number in range(12):  # of what is known the link's picture comes first that is there, and it is elsewhere
        if number != 7:
            (photos / ("" if number < 6 else "trips/2019") / f"{number}.png").unlink()
    assert update(photos, indexed, prune=True).removed == 12


def test_exif_becomes_metadata(world, tmp_path):
    from PIL import Image

    root = tmp_path / "photos"
    root.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010F], exif[0x0110] = "Canon\0", "Canon EOS 5D"
    exif.get_ifd(0x8769)[0x9003] = "2019:07:04 12:30:15"
    Image.new("RGB", (80, 40), "navy").save(root / "a.jpg", exif=exif)
    Image.new("RGB", (30, 20), "red").save(root / "b.png")
    with FolderIndex.open(root, tmp_path / "c.hashret", model=world.model) as index:
        index.update()
        photo, drawing = index.collection.get(["a.jpg", "b.png"]).metadata
        hits = index.collection.search(index.collection.codes(["a.jpg"]), where={"taken": {"gte": "2019-07"}})
    assert (photo["width"], photo["height"]) == (40, 80)
    assert (photo["taken"], photo["year"], photo["camera"]) == ("2019-07-04T12:30:15", 2019, "Canon EOS 5D")
    assert photo["bytes"] == (root / "a.jpg").stat().st_size
    assert (drawing["width"], drawing["height"]) == (30, 20)
    assert "taken" not in drawing
    assert [id for id in hits.ids[0] if id is not None] == ["a.jpg"]


def test_a_picture_that_is_being_written_waits(world, photos, indexed):
    shutil.copy(world.folder / "33.png", photos / "fresh.png")
    os.utime(photos / "fresh.png")
    with FolderIndex.open(photos, indexed) as index:
        assert index.update(settle=1000).waiting >= 1
        assert "fresh.png" not in index.collection
        assert index.update().added == 1


KILLED = """
import sys
import hashret.indexing.folder as folder
from hashret.cli import main
folder.COMMIT = 16
raise SystemExit(main(["index", *sys.argv[1:]]))
"""


def test_a_killed_run_goes_on_where_it_was(world, tmp_path):
    """kill -9 in the middle of real indexing; nothing that was stored is encoded again."""
    from PIL import Image

    root, out = tmp_path / "many", tmp_path / "many.hashret"
    root.mkdir()
    for number in range(200):
        Image.new("RGB", (64, 64), (number, number // 2, 7)).save(root / f"{number}.bmp")
    command = [sys.executable, "-c", KILLED, str(root), "--out", str(out), "--model", str(world.model)]
    process = subprocess.Popen([*command, "--batch-size", "4"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    stored = 0
    deadline = time.monotonic() + 120
    while stored < 16 and process.poll() is None and time.monotonic() < deadline:
        if (out / "catalogue.sqlite").exists():
            with Collection.open(out) as collection:
                stored = len(collection)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Collection.open(out) as collection:
        collection.verify()
        stored = len(collection)
    assert 16 <= stored < 200
    changes = update(root, out)
    assert (changes.unchanged, changes.encoded) == (stored, 200 - stored)
    with Collection.open(out) as collection:
        assert len(collection) == collection.verify().count == 200


def test_a_full_disk_is_told_and_keeps_what_is_committed(world, photos, indexed, monkeypatch):
    shutil.copy(world.folder / "40.png", photos / "40.png")
    with FolderIndex.open(photos, indexed) as index:
        _ = index._engine.model
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))  # no file may grow beyond so many bytes
        try:
            with pytest.raises(StorageError):
                index.update()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert index.update().added == 1
        assert len(index.collection) == 13


def test_the_default_model_is_the_one_that_is_named(world, monkeypatch, tmp_path):
    monkeypatch.setenv("HASHRET_MODEL", str(world.model))
    assert default_model() == world.model
    for name in ("none", "x" * 300):
        monkeypatch.setenv("HASHRET_MODEL", str(tmp_path / name))
        with pytest.raises(StorageError, match="HASHRET_MODEL"):
            default_model()


@pytest.mark.slow
def test_the_default_model_is_trained_once(tmp_path):
    said: list[str] = []
    model = default_model(cache_dir=tmp_path, say=said.append)
    assert json.loads((model / "model.json").read_text())["fingerprint"]
    assert default_model(cache_dir=tmp_path, say=said.append) == model
    assert len(said) == 1
