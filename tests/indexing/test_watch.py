"""Watching a folder: real files change, a real process follows them and ends when it is asked to."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from hashret import Collection
from hashret.errors import InputError
from hashret.indexing import FolderIndex, watch_folder
from hashret.indexing.watch import _looks


def until(condition, what):
    """Poll with a deadline."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.fixture
def photos(world, tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(4):
        shutil.copy2(world.folder / f"{number}.png", root)
    return root


@pytest.mark.parametrize("events", [True, False], ids=["events", "polling"])
def test_every_kind_of_change_is_followed(world, photos, tmp_path, monkeypatch, events):
    if events:
        pytest.importorskip("watchfiles", reason="pip install 'hashret[watch]'")
    else:
        monkeypatch.setattr("hashret.indexing.watch.available", lambda module: False)
    monkeypatch.setattr("hashret.indexing.watch.SETTLE", 0.05)
    out, stop, seen = tmp_path / "c.hashret", threading.Event(), []
    with FolderIndex.open(photos, out, model=world.model) as index, Collection.open(out) as reader:
        options = {"interval": 0.05, "stop": stop, "on_change": seen.append}
        thread = threading.Thread(target=watch_folder, args=(index,), kwargs=options)
        thread.start()
        try:
            until(lambda: len(reader) == 4, "the first update")
            old = reader.codes(["1.png"])
            shutil.copy(world.folder / "20.png", photos / "new.png")
            until(lambda: "new.png" in reader, "a new picture")
            (photos / "1.png").rename(photos / "renamed.png")
            until(lambda: "renamed.png" in reader and "1.png" not in reader, "a renamed picture")
            assert (reader.codes(["renamed.png"]) == old).all()
            before = reader.get(["2.png"]).metadata[0]["content"]
            shutil.copy(world.folder / "21.png", photos / "2.png")
            until(lambda: reader.get(["2.png"]).metadata[0]["content"] != before, "a changed picture")
            (photos / "3.png").unlink()
            until(lambda: "3.png" not in reader, "a deleted picture")
            photos.rename(tmp_path / "away")
            (tmp_path / "away").rename(photos)
            shutil.copy(world.folder / "22.png", photos / "after.png")
            until(lambda: "after.png" in reader, "a folder that was away for a moment")
        finally:
            stop.set()
            thread.join(60)
        assert not thread.is_alive()
        assert sorted(reader) == ["0.png", "2.png", "after.png", "new.png", "renamed.png"]
        assert sum(changes.encoded for changes in seen) == 4 + 3  # the renamed one kept its code


def test_a_change_during_the_first_update_is_seen_at_once(world, photos, tmp_path, monkeypatch):
    pytest.importorskip("watchfiles", reason="pip install 'hashret[watch]'")
    monkeypatch.setattr("hashret.indexing.watch.SETTLE", 0.05)
    out, stop = tmp_path / "c.hashret", threading.Event()

    def copy_once(changes):  # after the folder was looked through
        if changes.added == 4:
            shutil.copy(world.folder / "20.png", photos / "new.png")

    with FolderIndex.open(photos, out, model=world.model) as index, Collection.open(out) as reader:
        options = {"interval": 1000, "stop": stop, "on_change": copy_once}
        thread = threading.Thread(target=watch_folder, args=(index,), kwargs=options)
        thread.start()
        try:
            until(lambda: "new.png" in reader, "a picture that came before the folder was watched")
        finally:
            stop.set()
            thread.join(60)
        assert not thread.is_alive()


def test_a_system_without_watches_to_give_is_polled(tmp_path, monkeypatch, caplog):
    class Full:
        @staticmethod
        def watch(*places, **options):
            raise OSError("OS file watch limit reached")
            yield

    monkeypatch.setattr("hashret.indexing.watch.available", lambda module: True)
    monkeypatch.setattr("hashret.indexing.watch.require", lambda module, extra: Full)
    looks = _looks(tmp_path, 0.01, threading.Event())
    for _ in range(3):
        next(looks)
    assert [record.message.count("limit reached") for record in caplog.records] == [1]


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_the_command_ends_cleanly(world, photos, tmp_path, how):
    out = tmp_path / "c.hashret"
    command = [sys.executable, "-m", "hashret", "watch", str(photos), "--out", str(out), "--model", str(world.model)]
    process = subprocess.Popen(
        [*command, "--interval", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # tests that run in a script's background inherit that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout.readline().startswith("pictures: 4 added")
    finally:
        process.send_signal(how)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert errors.endswith("what was encoded is stored\n")
    with Collection.open(out, mode="w") as collection:  # the lock is free
        assert collection.verify().count == 4


@pytest.mark.parametrize("place", ["x" * 300, "circle"])
def test_a_folder_that_cannot_be_looked_at_is_waited_for(tmp_path, place):
    (tmp_path / "circle").symlink_to("circle")
    looks = _looks(tmp_path / place, 0.01, threading.Event())
    for _ in range(3):
        next(looks)


def test_an_interval_that_is_none_is_refused(world, photos, tmp_path):
    with FolderIndex.open(photos, tmp_path / "c.hashret", model=world.model) as index:
        for interval in (0, -1, float("inf"), float("nan"), 1e12):
            with pytest.raises(InputError, match="interval"):
                watch_folder(index, interval=interval)
