"""``hashret index FOLDER``: what it prints, what it refuses, and that its metadata filter a search."""

from __future__ import annotations

import json
import shutil

import pytest


@pytest.fixture
def photos(world, tmp_path, monkeypatch):
    root = tmp_path / "photos"
    (root / "old").mkdir(parents=True)
    for number in range(8):
        shutil.copy(world.folder / f"{number}.png", root if number < 5 else root / "old")
    (root / "notes.txt").write_text("words")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HASHRET_MODEL", str(world.model))
    return root


def test_a_folder_is_indexed_and_searched_in_two_commands(photos, tmp_path, run_cli):
    code, out, err = run_cli("index", photos)
    assert (code, err) == (0, "")
    assert "8 added (8 encoded" in out
    assert "1 files that are no pictures by their name (.txt 1)" in out
    where = json.dumps({"folder": "old", "width": 64})
    code, out, _ = run_cli("search", "photos.hashret", "a red circle", "--where", where, "--json")
    hits = json.loads(out)["hits"]
    assert sorted(hit["id"] for hit in hits) == ["old/5.png", "old/6.png", "old/7.png"]


def test_a_second_run_reports_what_is_gone_and_prunes_it(photos, run_cli):
    run_cli("index", photos)
    (photos / "0.png").unlink()
    _, out, _ = run_cli("index", photos)
    assert "7 unchanged (0 encoded" in out
    assert "still in the collection: 0.png; --prune removes them" in out
    assert "1 removed" in run_cli("index", photos, "--prune")[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{photos}/none"], "does not exist"),
        (["{photos}/notes.txt"], "is a file"),
        (["{empty}"], "there are no pictures in"),
        (["{model}"], "--data"),
        (["{photos}", "--model", "{empty}"], "holds no model"),
        (["{photos}", "--split", "test"], "--split belongs to a data set"),
        (["{photos}", "--split-seed", "3"], "--split-seed belongs to a data set"),
        (["{empty}/../circle"], "circle"),
        (["{photos}", "--modality", "text"], "--modality text"),
        (["{photos}", "--n-bits", "64"], "32"),
        (["{photos}", "--out", "{collection}"], "not made from a folder"),
        (["{photos}", "--out", "{photos}/notes.txt"], "notes.txt"),
        (["{photos}", "--out", "{empty}"], "empty/photos.hashret"),
        (["{model}", "--data", "{photos}"], "--out"),
        (["{model}", "--data", "{photos}", "--prune"], "belong to a folder"),
    ],
)
def test_wrong_input_is_told_and_nothing_is_made(world, photos, tmp_path, run_cli, arguments, sentence):
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "circle").symlink_to("circle")
    places = {"photos": photos, "empty": empty, "model": world.model, "collection": world.collection}
    code, _, err = run_cli("index", *(argument.format(**places) for argument in arguments))
    assert code == 2
    assert sentence in err
    assert not list(tmp_path.glob("*.hashret"))


def test_an_interval_that_cannot_be_waited_is_refused_before_anything_is_made(photos, tmp_path, run_cli):
    code, out, err = run_cli("watch", photos, "--interval", 0)
    assert (code, out) == (2, "") and "the interval is a number of seconds above 0" in err and "watching" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_names_of_files_and_folders_are_printed_safely(photos, tmp_path, run_cli):
    (photos / "0.png").rename(photos / "0\x1b[2J.png")
    (photos / "a.tx\x1b[2Jt").touch()
    odd = photos.rename(tmp_path / "my photos")
    out = run_cli("index", odd)[1]
    assert "hashret search 'my photos.hashret' \"" in out and r"(.tx\x1b[2jt 1, .txt 1)" in out
    (odd / "0\x1b[2J.png").unlink()
    out = run_cli("index", odd)[1]
    assert r"still in the collection: 0\x1b[2J.png; --prune" in out and "\x1b" not in out


def test_credits_are_kept_and_shown(world, photos, tmp_path, run_cli):
    thanks = "Photos: A. Photographer, CC BY 4.0"
    assert run_cli("index", photos, "--credits", thanks)[0] == 0
    assert run_cli("index", photos, "--credits", thanks)[0] == 0
    code, _, err = run_cli("index", photos, "--credits", "somebody else")
    assert (code, thanks in err) == (2, True)
    assert thanks in run_cli("info", "photos.hashret")[1]
    assert run_cli("search", "photos.hashret", "--id", "1.png", "--html", "hits.html")[0] == 0
    assert thanks in (tmp_path / "hits.html").read_text()
    run_cli("index", world.model, "--data", world.captions, "--out", "data.hashret", "--credits", thanks)
    assert json.loads(run_cli("info", "data.hashret", "--json")[1])["credits"] == thanks


def test_two_cards_with_the_same_folder_do_not_share_a_collection(world, tmp_path, run_cli, monkeypatch):
    """The collection is called as the folder, so a second card would take over that of the first, which is away."""
    monkeypatch.chdir(tmp_path)
    for card, first in (("one", 0), ("two", 10)):
        (tmp_path / card / "DCIM").mkdir(parents=True)
        for number in range(2):
            shutil.copy(world.folder / f"{first + number}.png", tmp_path / card / "DCIM" / f"{number}.png")
    assert run_cli("index", "one/DCIM", "--model", world.model)[0] == 0
    (tmp_path / "one").rename("away")
    code, out, err = run_cli("index", "two/DCIM", "--prune")
    assert (code, out) == (2, "")
    assert f"follows another folder ({tmp_path}/one/DCIM/), which is not there now" in err and "(--out)" in err
    assert "2 with new metadata (0 encoded" in run_cli("index", "away/DCIM")[1]
