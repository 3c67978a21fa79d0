"""Wrong input: a sentence on stderr, exit code 2, no traceback, and nothing lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

CASES = {
    # the command line itself
    "unknown command": (["serach", "x"], "did you mean 'search'"),
    "no arguments": (["search"], "required"),
    "k is no number": (["search", "{collection}", "red", "-k", "many"], "invalid int"),
    # searching
    "no collection": (["search", "{folder}/none.hashret", "red"], "there is no collection"),
    "a file as collection": (["search", "{captions}", "red"], "there is no collection"),
    "a folder that is none": (["search", "{folder}", "red"], "there is no collection"),
    "no query": (["search", "{collection}"], "give words, --image FILE or --id ID"),
    "two queries": (["search", "{collection}", "red", "--id", "s1"], "text and id"),
    "empty words": (["search", "{collection}", "  "], "empty"),
    "k is zero": (["search", "{collection}", "red", "-k", "0"], "at least 1"),
    "k is negative": (["search", "{collection}", "red", "-k", "-3"], "at least 1"),
    "negative radius": (["search", "{collection}", "red", "--radius", "-1"], "at least 0"),
    "relaxed with a radius": (["search", "{collection}", "red", "--relaxed", "--radius", "3"], "takes no radius"),
    "relaxed with an id": (["search", "{collection}", "--id", "s1", "--relaxed"], "needs words or a picture"),
    "unknown id": (["search", "{collection}", "--id", "nobody"], "does not hold the id"),
    "filter is no JSON": (["search", "{collection}", "red", "--where", "{year: 2000"], "JSON"),
    "filter is a list": (["search", "{collection}", "red", "--where", "[1]"], "JSON object"),
    "a filter that is too deep": (
        ["search", "{collection}", "red", "--where", '{"and":[' * 20_000 + "]}" * 20_000],
        "JSON object such as",
    ),
    "a filter with too long a number": (
        ["search", "{collection}", "red", "--where", '{"year":' + "1" * 5000 + "}"],
        "JSON object such as",
    ),
    "unknown operator": (["search", "{collection}", "red", "--where", '{"year": {"gt3": 1}}'], "did you mean 'gt'"),
    "query picture is missing": (["search", "{collection}", "--image", "{folder}/none.png"], "there is no picture"),
    "query picture is text": (["search", "{collection}", "--image", "{captions}"], "is not a picture"),
    "query picture is a folder": (["search", "{collection}", "--image", "{folder}"], "is a folder; give"),
    "another model": (["search", "{collection}", "red", "--model", "{other}"], "were made by the model"),
    "model is missing": (["search", "{collection}", "red", "--model", "{folder}/nothing"], "there is no directory"),
    "a server without its model": (["serve", "{collection}", "--model", "{folder}/nothing"], "there is no directory"),
    # encoding and indexing
    "no model": (["encode", "{folder}/none", "--data", "{captions}", "--out", "{tmp}/c.npy"], "there is no directory"),
    "data are missing": (
        ["encode", "{model}", "--data", "{folder}/none.jsonl", "--out", "{tmp}/c.npy"],
        "there is no data",
    ),
    "an unknown built-in": (
        ["encode", "{model}", "--data", "emojis", "--out", "{tmp}/c.npy"],
        "a built-in name (emoji)",
    ),
    "an empty folder": (
        ["index", "{model}", "--data", "{empty}", "--out", "{tmp}/x.hashret"],
        "there are no pictures in",
    ),
    "an unknown split": (
        ["encode", "{model}", "--data", "{captions}", "--split", "tset", "--out", "{tmp}/c.npy"],
        "did you mean 'test'",
    ),
    "too many bits": (
        ["encode", "{model}", "--data", "{captions}", "--n-bits", "64", "--out", "{tmp}/c.npy"],
        "the model's 32",
    ),
    "out exists": (["index", "{model}", "--data", "{captions}", "--out", "{collection}"], "exists"),
    "out cannot be made": (
        ["encode", "{model}", "--data", "{captions}", "--split", "test", "--out", "{captions}/x/c.npy"],
        "cannot be written",
    ),
    "corrupt picture, strict": (
        ["index", "{model}", "--data", "{broken}", "--strict", "--out", "{tmp}/x.hashret"],
        "truncated",
    ),
    "only corrupt pictures": (["index", "{model}", "--data", "{allbad}", "--out", "{tmp}/x.hashret"], "bad.png"),
    "pictures under another key": (
        ["encode", "{model}", "--data", "{paths}", "--out", "{tmp}/c.npy"],
        "under 'image', and the first one has 'path'",
    ),
    "captions are no UTF-8": (["encode", "{model}", "--data", "{latin}", "--out", "{tmp}/c.npy"], "UTF-8"),
    "a line is no JSON": (["encode", "{model}", "--data", "{nojson}", "--out", "{tmp}/c.npy"], "line 2"),
    "duplicate ids": (["encode", "{model}", "--data", "{twice}", "--out", "{tmp}/c.npy"], "s0"),
    # training
    "no configuration": (
        ["train", "{folder}/none.yaml", "--data", "{captions}", "--out", "{tmp}/r"],
        "there is no configuration",
    ),
    "unknown configuration": (["train", "hashrat", "--data", "{captions}", "--out", "{tmp}/r"], "'hashret'"),
    "configuration is no YAML": (["train", "{badyaml}", "--data", "{captions}", "--out", "{tmp}/r"], "YAML"),
    "an unknown key": (
        ["train", "{config}", "--data", "{captions}", "--out", "{tmp}/r", "--set", "stages.heads.epocs=3"],
        "'epochs'",
    ),
    "a wrong value": (
        ["train", "{config}", "--data", "{captions}", "--out", "{tmp}/r", "--set", "stages.heads.lr=fast"],
        "number",
    ),
    "an unknown loss": (
        [
            "train",
            "{config}",
            "--data",
            "{captions}",
            "--out",
            "{tmp}/r",
            "--set",
            "stages.heads.losses.joint.kind=infonse",
        ],
        "infonce",
    ),
    "an override without value": (
        ["train", "{config}", "--data", "{captions}", "--out", "{tmp}/r", "--set", "seed"],
        "KEY=VALUE",
    ),
    "an unknown encoder": (
        [
            "train",
            "{config}",
            "--data",
            "{captions}",
            "--out",
            "{tmp}/r",
            "--set",
            "model.towers.image.encoder.name=test_vti",
        ],
        "did you mean 'test_vit'",
    ),
    "no captions": (["train", "{config}", "--data", "{bare}", "--out", "{tmp}/r"], "caption"),
    "the run exists": (["train", "{config}", "--data", "{captions}", "--out", "{run}"], "resume"),
    "resume with another configuration": (
        ["train", "{config}", "--data", "{captions}", "--out", "{run}", "--resume", "--seed", "5"],
        "configuration",
    ),
    "no such device": (
        ["train", "{config}", "--data", "{captions}", "--out", "{tmp}/r", "--device", "cuda:7"],
        "cannot be used here",
    ),
    # measuring and looking
    "bits are no numbers": (["eval", "{model}", "--data", "{captions}", "--bits", "64;256"], "64,256"),
    "bits above the model's": (["eval", "{model}", "--data", "{captions}", "--bits", "64"], "the model's 32 bits"),
    "eval of a run": (["eval", "{run}", "--data", "{captions}"], "did you mean"),
    "eval of a missing split": (["eval", "{model}", "--data", "{captions}", "--split", "dev"], "has no split 'dev'"),
    "info of nothing": (["info", "{folder}/none"], "nothing at"),
    "info of something else": (["info", "{captions}"], "is no model, export, collection"),
    "a damaged model": (["info", "{damaged}"], "model.json"),
    "an id of odd digits": (["search", "{collection}", "--id=²"], "does not hold the id"),
    "an id of signs": (["search", "{collection}", "--id=--5"], "does not hold the id"),
    "an id of a number as Python writes it": (["search", "{collection}", "--id=1_0"], "does not hold the id '1_0'"),
    "an id of other digits": (["search", "{collection}", "--id=٧"], "does not hold the id '٧'"),
    "a split of no data": (["export", "{model}", "--out", "{tmp}/onnx", "--split", "val"], "--split belongs to a data"),
    "a seed of no data": (
        ["export", "{model}", "--out", "{tmp}/onnx", "--split-seed", "3", "--strict", "--splits", "{captions}"],
        "--splits and --split-seed and --strict belongs to",
    ),
    "too many bits to index": (
        ["index", "{model}", "--data", "{captions}", "--n-bits", "64", "--out", "{tmp}/x.hashret"],
        "the model's 32",
    ),
    "info of an empty file": (["info", "{emptycodes}"], "is no .npy file of codes"),
    "info of several arrays": (["info", "{archive}"], "no .npy file of codes: it holds several arrays"),
    "info of half an archive": (["info", "{halfarchive}"], "is no .npy file of codes"),
    "a model nested too deep": (["info", "{deep}"], "model.json' cannot be read: maximum recursion"),
    "an export measured without captions": (
        ["export", "{model}", "--out", "{tmp}/onnx", "--data", "{nocaptions}"],
        "no record of split 'val' of 'nocaptions' has a caption",
    ),
    "a negative seed": (
        ["train", "{config}", "--data", "{captions}", "--out", "{tmp}/r", "--seed", "-1"],
        "a seed is 0 or more",
    ),
    "splits are missing": (
        ["eval", "{model}", "--data", "{captions}", "--splits", "{folder}/none.json"],
        "none.json' cannot be read",
    ),
    "a name that is too long": (["info", "x" * 300], "File name too long"),
    "a model's name that is too long": (["encode", "x" * 300, "--data", "x", "--out", "{tmp}/c.npy"], "too long"),
    "a run without figures": (["info", "{nofigures}"], "incomplete or damaged (KeyError"),
    "a model without towers": (["info", "{notowers}"], "incomplete or damaged (KeyError"),
    "a model of other facts": (["info", "{nomodel}"], "incomplete or damaged (TypeError"),
    "codes for a folder": (["encode", "{folder}/none", "--data", "x", "--out", "{folder}"], "cannot be written"),
    "codes of another name": (
        ["encode", "{folder}/none", "--data", "x", "--out", "{tmp}/codes.text"],
        "--out names a .npy file",
    ),
    "codes for here": (["encode", "{folder}/none", "--data", "x", "--out", "."], "cannot be written"),
    "a value of no date": (
        ["train", "{config}", "--data", "x", "--out", "x", "--set", "seed=2020-13-45"],
        "valid YAML",
    ),
    "a value of no number": (
        ["train", "{config}", "--data", "x", "--out", "x", "--set", "seed=!!int abc"],
        "valid YAML",
    ),
    "a position that is none": (
        ["train", "{config}", "--data", "x", "--out", "x", "--set", "stages.².lr=1"],
        "there is no entry '²'",
    ),
    "a model with cut weights": (
        ["encode", "{cut}", "--data", "{captions}", "--out", "{tmp}/c.npy"],
        "cannot be rebuilt",
    ),
}


@pytest.fixture(scope="session")
def places(world, tmp_path_factory) -> dict[str, Path]:
    """The world, and broken variants of its files."""
    root = tmp_path_factory.mktemp("bad")
    lines = world.captions.read_text().splitlines()
    made = {name: getattr(world, name) for name in ("folder", "captions", "config", "run", "model", "collection")}
    for name in ("empty", "broken", "allbad", "bare"):
        made[name] = root / name
        made[name].mkdir()
    shutil.copy(world.folder / "0.png", made["broken"] / "good.png")
    for name in ("broken", "allbad"):
        (made[name] / "bad.png").write_bytes((world.folder / "1.png").read_bytes()[:60])
    shutil.copy(world.folder / "0.png", made["bare"] / "0.png")
    texts = {
        "latin": "\n".join(lines).replace("red", "rött").encode("latin-1"),
        "nojson": "\n".join([lines[0], "{no", *lines[1:]]).encode(),
        "nocaptions": "\n".join(json.dumps({**json.loads(line), "captions": []}) for line in lines).encode(),
        "paths": b'{"path": "0.png", "caption": "red"}\n',
        "twice": "\n".join([lines[0].replace("0.png", "1.png"), *lines]).encode(),
    }
    for name, content in texts.items():
        made[name] = world.folder / f"{name}.jsonl"  # beside the pictures that the lines name
        made[name].write_bytes(content)
    made["emptycodes"] = root / "empty.npy"
    made["emptycodes"].touch()
    for name, cut in (("archive", 0), ("halfarchive", 100)):
        made[name] = root / f"{name}.npy"
        with made[name].open("wb") as file:
            np.savez(file, codes=np.zeros((3, 2), np.uint8))
            file.truncate(file.tell() - cut)
    made["badyaml"] = root / "bad.yaml"
    made["badyaml"].write_text("model: [unclosed")
    for name in ("other", "damaged", "cut"):
        made[name] = root / name
        shutil.copytree(world.model, made[name])
    (made["damaged"] / "model.json").write_text("{")
    for name, file, facts in (
        ("nofigures", "figures.json", {"selection": {}}),
        ("notowers", "model.json", {"config": {"n_bits": 8}, "fingerprint": "0"}),
        ("nomodel", "model.json", {"config": "tiny", "fingerprint": "0"}),
    ):
        made[name] = root / name
        made[name].mkdir()
        (made[name] / file).write_text(json.dumps(facts))
    made["deep"] = root / "deep"
    made["deep"].mkdir()
    (made["deep"] / "model.json").write_text("[" * 20_000)
    weights = made["cut"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    _reseed(world, made["other"])
    return made


def _reseed(world, target: Path) -> None:
    """Put an intact model with other weights at ``target``."""
    import torch

    from hashret.model import CrossModalHasher

    model = CrossModalHasher.load(world.model)
    with torch.no_grad():
        next(model.tower("text").head.parameters()).add_(1.0)
    model.save(target)


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_told_in_a_sentence(case, places, run_cli, tmp_path):
    arguments, expected = CASES[case]
    filled = [_fill(argument, {**places, "tmp": tmp_path}) for argument in arguments]
    before = _stored(places["collection"])

    code, _, err = run_cli(*filled)

    assert code == 2
    assert "Traceback" not in err
    assert expected in err
    assert not any(expected in argument for argument in arguments)  # an echo would be no reason
    assert _stored(places["collection"]) == before
    assert not list(tmp_path.glob("*.part*"))


def _stored(collection: Path) -> dict[str, bytes]:
    """The files of a collection, without SQLite's shared memory, which every reader makes anew."""
    return {path.name: path.read_bytes() for path in collection.iterdir() if not path.name.endswith(("-shm", "-wal"))}


def _fill(argument: str, places: dict[str, Path]) -> str:
    for name, path in places.items():
        argument = argument.replace("{" + name + "}", str(path))
    return argument


def test_a_corrupt_picture_among_good_ones_is_named_and_left_out(places, run_cli, tmp_path):
    code, out, err = run_cli("index", places["model"], "--data", places["broken"], "--out", tmp_path / "x.hashret")
    assert code == 0
    assert "1 items" in out
    (told,) = (line for line in err.splitlines() if "skipped" in line)  # once: by the log, and by nothing else
    assert told.startswith("WARNING") and "bad.png" in told


def test_k_above_the_number_of_items_gives_them_all(places, run_cli):
    _, out, _ = run_cli("search", places["collection"], "red", "-k", 10**20, "--json")
    assert len(json.loads(out)["hits"]) == 48


def test_an_empty_collection_finds_nothing(places, run_cli, tmp_path):
    from hashret import Collection, CrossModalHasher

    fingerprint = CrossModalHasher.load(places["model"]).fingerprint
    path = tmp_path / "empty.hashret"
    Collection.create(path, n_bits=32, fingerprint=fingerprint, model=places["model"]).close()
    code, out, _ = run_cli("search", path, "red")
    assert (code, out.strip()) == (0, "nothing found")
