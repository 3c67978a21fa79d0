"""The engine by torch and by onnxruntime: which one it takes, and that it does not matter."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hashret import CrossModalHasher, Engine
from hashret import engine as engine_module
from hashret.cli import main
from hashret.engine import open_model
from hashret.errors import CorruptError, InputError, MismatchError, MissingExtraError, StorageError
from hashret.onnx import OnnxHasher
from hashret.onnx.files import replacing

SEARCH = """
import sys
for name in ("torch", "transformers", "timm", "torchvision"):
    sys.modules[name] = None
from hashret.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def model(world, tmp_path_factory):
    """The world's model with its export, by the command."""
    path = shutil.copytree(world.model, tmp_path_factory.mktemp("exported") / "model")
    assert main(["export", str(path), "--onnx", "--data", str(world.captions), "--split", "val"]) == 0
    return path


@pytest.fixture
def copy(model, tmp_path):
    """The model and its export, to be changed."""
    return shutil.copytree(model, tmp_path / "model")


def test_both_find_the_same(world, model):
    found = []
    for runtime, kind in (("onnx", OnnxHasher), ("torch", CrossModalHasher)):
        with Engine.open(world.collection, model=model, runtime=runtime) as engine:
            assert isinstance(engine.model, kind)
            hits = engine.search("a red square", k=8), engine.search(image=world.folder / "7.png", k=8)
        found.append([(part.ids.tolist(), part.distances.tolist()) for part in hits])
    assert found[0] == found[1]


def test_both_search_with_relaxed_queries(world, model):
    """Their floats differ in the last digits, and so may scores; each finds what its own floats say."""
    picture, found = world.folder / "7.png", []
    for runtime in ("onnx", "torch"):
        with Engine.open(world.collection, model=model, runtime=runtime) as engine:
            encoder, asked = engine.model, engine.collection
            floats = (
                encoder.encode_texts(["a red square"], relaxed=True),
                encoder.encode_images([picture], relaxed=True),
            )
            hits = engine.search("a red square", k=8, relaxed=True), engine.search(image=picture, k=8, relaxed=True)
            scored = [asked.search_asymmetric(query, 8) for query in floats]
        assert [part.ids.tolist() for part in hits] == [part.ids.tolist() for part in scored]
        found.append([part.scores for part in scored])
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-3)


def test_auto_takes_the_export_where_there_is_one(world, model):
    assert isinstance(open_model(model), OnnxHasher)
    assert isinstance(open_model(world.model), CrossModalHasher)
    assert isinstance(open_model(model, runtime="torch"), CrossModalHasher)
    assert isinstance(open_model(model / "onnx"), OnnxHasher)  # an app may carry the export alone


def test_auto_goes_on_with_torch_when_the_export_is_damaged_or_old(copy, caplog):
    facts = json.loads((copy / "onnx" / "export.json").read_text())
    facts["fingerprint"] = "0" * 64
    for content, error in (("{", CorruptError), (json.dumps(facts), MismatchError)):
        (copy / "onnx" / "export.json").write_text(content)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert isinstance(open_model(copy), CrossModalHasher)
        assert "torch is used instead" in caplog.text
        with pytest.raises(error, match="again"):
            open_model(copy, runtime="onnx")


def test_auto_goes_on_with_torch_when_a_file_of_the_export_is_cut_off(world, copy, caplog):
    """A query of words would work for a while, and the first picture would fail."""
    graph = copy / "onnx" / "image.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    with Engine.open(world.collection, model=copy) as engine, caplog.at_level(logging.WARNING):
        assert engine.search(image=world.folder / "7.png", k=1).distances.tolist() == [[0]]
    assert "image.onnx" in caplog.text and "torch is used instead" in caplog.text
    with pytest.raises(CorruptError, match="again"):
        open_model(copy, runtime="onnx")


def test_an_export_of_another_model_is_refused(world, copy):
    facts = json.loads((copy / "onnx" / "export.json").read_text())
    facts["fingerprint"] = "0" * 64
    (copy / "onnx" / "export.json").write_text(json.dumps(facts))
    with Engine.open(world.collection, model=copy / "onnx") as engine, pytest.raises(MismatchError):
        engine.search("red")


def test_what_is_missing_is_told_with_both_install_lines(world, model, monkeypatch):
    monkeypatch.setattr(engine_module, "available", lambda module: False)
    for path in (model, world.model):
        with pytest.raises(
            MissingExtraError, match=r"pip install 'hashret\[onnx\]' or pip install 'hashret\[learn\]'$"
        ):
            open_model(path)


def test_a_model_without_export_and_an_unknown_runtime_are_told(world):
    with pytest.raises(StorageError, match="hashret export"):
        open_model(world.model, runtime="onnx")
    for call in (lambda: open_model(world.model, runtime="onx"), lambda: Engine.open(world.collection, runtime="onx")):
        with pytest.raises(InputError, match="did you mean 'onnx'"):
            call()


def test_the_command_searches_where_torch_cannot_be_imported(world, model):
    query = ["search", str(world.collection), "a red square", "-k", "5", "--json", "--model", str(model)]
    command = [sys.executable, "-c", SEARCH, *query]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["hits"]
    with Engine.open(world.collection, model=world.model, runtime="torch") as engine:
        hits = engine.search("a red square", k=5)
    assert [hit["id"] for hit in found] == hits.ids[0].tolist()
    assert np.array_equal([hit["distance"] for hit in found], hits.distances[0])


def test_the_command_encodes_where_torch_cannot_be_imported(world, model, tmp_path):
    query = ["--data", str(world.captions), "--split", "test", "--out", str(tmp_path / "c.npy")]
    command = [sys.executable, "-c", SEARCH, "encode", str(model), *query]
    subprocess.run(command, capture_output=True, text=True, check=True)
    pictures = [world.folder / f"{number}.png" for number in range(32, 48)]
    assert np.array_equal(np.load(tmp_path / "c.npy"), open_model(model).encode_images(pictures))


def test_a_directory_that_is_not_there_is_told_before_what_to_install(world, monkeypatch):
    monkeypatch.setattr(engine_module, "available", lambda module: False)
    with pytest.raises(StorageError, match=r"there is no directory '.*nowhere'"):
        open_model(world.folder / "nowhere")


def test_the_command_reports_what_it_costs(world, tmp_path, capsys):
    command = ["export", str(world.model), "--onnx", "--int8", "--out", str(tmp_path / "small")]
    assert main([*command, "--data", str(world.captions), "--split", "val"]) == 0
    out = capsys.readouterr().out
    assert "MB of" in out and "rSum of 16 pictures and 32 captions" in out and "16 bits" in out


def test_a_damaged_export_without_its_model_is_told_as_such(copy):
    """Torch could not help: what the export was made from is not there."""
    (copy / "onnx" / "export.json").write_text("{")
    with pytest.raises(CorruptError, match=r"export\.json"):
        open_model(copy / "onnx")


def test_info_describes_an_export_and_names_it_with_its_model(model, run_cli):
    facts = json.loads(run_cli("info", model / "onnx", "--json")[1])
    assert (facts["kind"], facts["n_bits"], facts["precision"]) == ("ONNX export", 32, "float32")
    assert facts["fingerprint"] == open_model(model).fingerprint
    assert facts["bytes"] > 1000
    assert str(model / "onnx") in run_cli("info", model)[1]


def test_an_export_that_cannot_be_put_in_place_leaves_the_old_one(copy, monkeypatch):
    before, rename = (copy / "onnx" / "export.json").read_text(), Path.replace

    def full(self, target):
        if self.suffix == ".part":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match="No space left"), replacing(copy / "onnx") as part:
        (part / "export.json").write_text("new")
    assert (copy / "onnx" / "export.json").read_text() == before
    assert not [path for path in copy.iterdir() if path.name.startswith(".")]
