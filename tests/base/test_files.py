"""Files are written whole or not at all, whatever interrupts the writing."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hashret._files import cache_home, replacing_directory, whole_file, write_whole
from hashret.errors import StorageError

KILLED = """
import os, signal, sys
from hashret._files import whole_file
with whole_file(sys.argv[1]) as file:
    file.write(b"new " * 100_000)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_cache_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for named, meant in (("", ".cache/hashret"), ("~/mine", "mine"), (str(tmp_path / "there"), "there")):
        monkeypatch.setenv("HASHRET_CACHE", named)
        assert cache_home() == tmp_path / meant


def test_a_file_is_replaced_with_the_rights_of_any_new_file(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "new" / "folder" / "wörter.json", "old")
    assert write_whole(path, "neu ✓").read_text(encoding="utf-8") == "neu ✓"
    assert write_whole(path, b"\x00\xff").read_bytes() == b"\x00\xff"
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    longest = tmp_path / ("ä" * 120)
    assert write_whole(longest, "x").exists()
    assert names(path.parent) == ["wörter.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a.txt", "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # Python ignores the signal, and the write fails
    try:
        with pytest.raises(StorageError, match=r"the figures '.*a\.txt' cannot be written: .*unchanged"):
            write_whole(path, "new" * 100, what="the figures")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (path.read_text(), names(tmp_path)) == ("old", ["a.txt"])


def test_an_error_in_the_midst_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a.txt", "old")
    for error in (ValueError("the content cannot be made"), KeyboardInterrupt()):
        with pytest.raises(type(error)), whole_file(path) as file:
            file.write(b"half of it")
            raise error
    assert (path.read_text(), names(tmp_path)) == ("old", ["a.txt"])


def test_a_kill_in_the_midst_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_whole(tmp_path / "a.txt", "old")
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)]).returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert write_whole(path, "new").read_text() == "new"


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for place in (tmp_path / "file" / "a.txt", tmp_path / "folder"):
        with pytest.raises(StorageError, match="cannot be written"):
            write_whole(place, "x")
    with pytest.raises(StorageError, match="cannot be written"), whole_file(tmp_path / "none" / "a.txt"):
        raise AssertionError("there is no file to write to")
    assert names(tmp_path) == ["file", "folder"] and not names(tmp_path / "folder")


def test_a_directory_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for content in ("old", "new"):
        with replacing_directory(tmp_path / "deep" / "model") as part:
            (part / "inside").mkdir()
            (part / "inside" / content).write_text(content)
        assert names(tmp_path / "deep") == ["model"] and names(tmp_path / "deep" / "model" / "inside") == [content]
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "model")
    with replacing_directory(tmp_path / "link") as part:
        (part / "file").touch()
    assert names(tmp_path / "deep" / "model") == ["file"] and names(tmp_path) == ["deep", "link"]


def test_a_directory_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, sync = [], os.fsync

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with replacing_directory(tmp_path / "model") as part:
        (part / "inside").mkdir()
        (part / "inside" / "weights").write_text("x")
    assert synced == [part.name, "weights", "inside", tmp_path.name]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("moment", ["in the block", ".part", "after"])
def test_a_directory_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, moment: str
) -> None:
    """``after``: an interrupt that comes when the old one is moved away and nothing else has happened yet."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text("old")
    rename = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self.suffix == moment:
            raise error
        done = rename(self, target)
        if moment == "after" and target.suffix == ".old":
            raise error
        return done

    monkeypatch.setattr(Path, "replace", fail)
    expected = StorageError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected), replacing_directory(model, what="the model") as part:
        (part / "weights").write_text("new")
        if moment == "in the block":
            raise error
    assert (model / "weights").read_text() == "old" and names(tmp_path) == ["model"]


def test_an_old_directory_that_cannot_be_put_back_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").write_text("old")
    rename = Path.replace

    def fail(self: Path, target: Path) -> Path:
        if self != model:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StorageError, match=r"is now '.*\.old': give it its name back"), replacing_directory(model):
        pass
    (left,) = tmp_path.glob(".model.*.old")
    assert (left / "weights").read_text() == "old"
