"""The commands on a small world, as a user would call them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hashret.cli import COMMANDS
from hashret.collection import Collection
from hashret.engine import Engine


def test_the_overview_names_every_command(run_cli):
    code, out, _ = run_cli()
    assert code == 0
    assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_by_example(run_cli, command):
    code, out, _ = run_cli(command, "--help")
    assert code == 0
    assert f"hashret {command}" in out.split("examples:")[1]


def test_version(run_cli):
    assert run_cli("--version")[1].startswith("hashret ")


def test_a_run_keeps_what_it_came_from(world):
    assert {"config.yaml", "splits.json", "curves.csv", "figures.json", "model"} <= {
        p.name for p in world.run.iterdir()
    }


def test_words_find_pictures(world, run_cli):
    code, out, _ = run_cli("search", world.collection, "a red circle", "-k", 3)
    assert code == 0
    assert len(out.splitlines()) == 4  # a header and three hits


def test_options_may_stand_between_the_arguments(world, run_cli):
    expected = run_cli("search", world.collection, "a red circle", "-k", 3)
    assert run_cli("search", world.collection, "-k", 3, "a red circle") == expected
    assert run_cli("search", world.collection, "-k", 3, "--", "-red")[0] == 0  # words that begin with a dash
    assert run_cli("search", "-k", 3, "--", world.collection, "-red")[0] == 0


def test_json_of_a_search_is_json(world, run_cli):
    _, out, _ = run_cli("search", world.collection, "a red circle", "-k", 4, "--json")
    hits = json.loads(out)["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4]
    assert [hit["distance"] for hit in hits] == sorted(hit["distance"] for hit in hits)
    assert all(hit["metadata"]["captions"] for hit in hits)


def test_a_picture_finds_itself(world, run_cli):
    _, out, _ = run_cli("search", world.collection, "--image", world.folder / "7.png", "--json")
    hits = json.loads(out)["hits"]
    assert hits[0]["distance"] == 0
    assert "s7" in {hit["id"] for hit in hits if hit["distance"] == 0}


def test_an_item_finds_itself(world, run_cli):
    _, out, _ = run_cli("search", world.collection, "--id", "s7", "--radius", 0, "--json")
    assert "s7" in {hit["id"] for hit in json.loads(out)["hits"]}


def test_a_filter_narrows_the_hits(world, run_cli):
    where = json.dumps({"year": {"gte": 2040}})
    _, out, _ = run_cli("search", world.collection, "a bar", "--where", where, "-k", 48, "--json")
    hits = json.loads(out)["hits"]
    assert len(hits) == 8
    assert all(hit["metadata"]["year"] >= 2040 for hit in hits)


def test_a_relaxed_search_is_the_engines(world, run_cli):
    query = ("search", world.collection, "a red circle", "-k", 5)
    code, out, _ = run_cli(*query, "--relaxed", "--json")
    with Engine.open(world.collection) as engine:
        hits = engine.search("a red circle", k=5, relaxed=True)
    found = json.loads(out)["hits"]
    assert code == 0 and [hit["rank"] for hit in found] == [1, 2, 3, 4, 5]
    assert [hit["id"] for hit in found] == hits.ids[0].tolist()
    assert [hit["distance"] for hit in found] == hits.distances[0].tolist()
    assert len(run_cli(*query, "--relaxed")[1].splitlines()) == 6
    assert run_cli("search", world.collection, "--image", world.folder / "7.png", "--relaxed")[0] == 0


def test_a_page_of_hits_shows_pictures(world, run_cli, tmp_path):
    page = tmp_path / "hits.html"
    assert run_cli("search", world.collection, "a bar", "-k", 3, "--html", page)[0] == 0
    assert page.read_text().count("data:image/") >= 3


@pytest.mark.parametrize(("modality", "count"), [("image", 16), ("text", 32)])
def test_encode_writes_codes_and_ids(world, run_cli, tmp_path, modality, count):
    out = tmp_path / "codes.npy"
    arguments = ("--data", world.captions, "--split", "test", "--modality", modality, "--n-bits", 16)
    code, _, _ = run_cli("encode", world.model, *arguments, "--out", out)
    assert code == 0
    assert np.load(out).shape == (count, 2)
    assert len(json.loads((tmp_path / "codes.ids.json").read_text())) == count


def test_captions_can_be_indexed(world, run_cli, tmp_path):
    out = tmp_path / "names.hashret"
    arguments = ("--data", world.captions, "--split", "test", "--modality", "text", "--out", out)
    assert run_cli("index", world.model, *arguments)[0] == 0
    _, found, _ = run_cli("search", out, "--image", world.folder / "40.png", "-k", 2, "--json")
    assert all("#" in hit["id"] for hit in json.loads(found)["hits"])


def test_eval_gives_codes_floats_and_chance(world, run_cli):
    code, out, _ = run_cli(
        "eval", world.model, "--data", world.captions, "--json", "--again", "--cache", world.folder / "cache"
    )
    assert code == 0
    figures = json.loads(out)
    assert (figures["n_images"], figures["n_captions"]) == (16, 32)
    assert set(figures["codes"]) == set(figures["asymmetric"]) == {"16", "32"}
    assert figures["codes"]["32"]["t2i"]["R@10"] >= figures["codes"]["32"]["t2i"]["R@1"]
    assert figures["codes"]["32"]["chance"]["t2i"]["R@1"] == pytest.approx(100 / 16)
    assert {"i2t AP@all, 16 bits", "t2i AP@all, 32 bits"} <= set(figures["labels"])


def test_eval_at_chosen_lengths(world, run_cli):
    _, out, _ = run_cli("eval", world.model, "--data", world.captions, "--bits", "16", "--again")
    assert "16 bits" in out
    assert "32 bits" not in out


@pytest.mark.parametrize(("part", "kind"), [("run", "training run"), ("model", "model"), ("collection", "collection")])
def test_info_knows_what_a_path_is(world, run_cli, part, kind):
    code, out, _ = run_cli("info", getattr(world, part), "--json")
    assert code == 0
    assert json.loads(out)["kind"] == kind


def test_resume_of_a_finished_run_changes_nothing(world, run_cli):
    before = (world.run / "model" / "model.safetensors").read_bytes()
    arguments = (world.config, "--data", world.captions, "--out", world.run, "--cache", world.folder / "cache")
    assert run_cli("train", *arguments, "--resume")[0] == 0
    assert (world.run / "model" / "model.safetensors").read_bytes() == before


def test_module_is_the_command_line(world):
    command = [sys.executable, "-m", "hashret", "info", str(world.model)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "fingerprint" in answer.stdout


def test_splits_do_not_depend_on_the_seed_of_the_training(world, run_cli, tmp_path):
    """A model is measured on pictures that it never saw, whatever it was trained with."""
    lines = [json.loads(line) for line in world.captions.read_text().splitlines()]
    data = world.folder / "unsplit.jsonl"
    data.write_text("\n".join(json.dumps({k: v for k, v in line.items() if k != "split"}) for line in lines))
    cache = ("--cache", world.folder / "cache")
    for seed in (1, 2):
        run = tmp_path / f"run{seed}"
        assert run_cli("train", world.config, "--data", data, "--out", run, "--seed", seed, *cache)[0] == 0
        splits = json.loads((run / "splits.json").read_text())["splits"]
        out = tmp_path / f"{seed}.npy"
        assert run_cli("encode", run / "model", "--data", data, "--split", "test", "--out", out)[0] == 0
        assert sorted(json.loads(out.with_suffix(".ids.json").read_text())) == sorted(splits["test"])
        chosen = ("--splits", run / "splits.json", "--split-seed", 7)
        assert run_cli("eval", run / "model", "--data", data, *chosen, *cache)[0] == 0


def test_an_index_that_fails_leaves_nothing(world, run_cli, tmp_path):
    out = tmp_path / "x.hashret"
    arguments = ("--data", world.captions, "--out", out)
    assert run_cli("index", world.model, *arguments, "--n-bits", 64)[0] == 2
    assert not list(tmp_path.iterdir())
    assert run_cli("index", world.model, *arguments, "--n-bits", 16)[0] == 0


def test_info_tells_the_best_figure_as_it_was_measured(world, run_cli, tmp_path):
    given = ("--set", "selection.metric=t2i.MeanR", "--set", "stages.heads.epochs=1", "--cache", world.folder / "cache")
    _, said, _ = run_cli("train", world.config, "--data", world.captions, "--out", tmp_path / "run", *given)
    best = json.loads(run_cli("info", tmp_path / "run", "--json")[1])["best"]
    assert best.startswith("t2i.MeanR ") and "-" not in best
    assert best.removesuffix(" on validation").split()[1] in said


def test_a_sweep_trains_every_combination_and_tells_what_came_out(world, run_cli, tmp_path):
    def arguments(out: str, *sweeps: str) -> list[object]:
        given = ("--set", "stages.heads.epochs=1", "--cache", world.folder / "cache")
        axes = [part for axis in sweeps for part in ("--sweep", axis)]
        return ["train", world.config, "--data", world.captions, "--out", tmp_path / out, *given, *axes]

    code, out, _ = run_cli(*arguments("sweep", "seed=0,1", "n_bits=16"))
    assert code == 0
    assert out.splitlines()[:2] == ["done: seed=0, n_bits=16", "done: seed=1, n_bits=16"]
    assert out.endswith((tmp_path / "sweep" / "sweep.md").read_text()) and out.endswith("| 2 |\n")
    runs = [tmp_path / "sweep" / f"seed={seed},n_bits=16" for seed in (0, 1)]
    models = [json.loads(run_cli("info", run / "model", "--json")[1]) for run in runs]
    assert [model["n_bits"] for model in models] == [16, 16]
    assert models[0]["fingerprint"] != models[1]["fingerprint"]
    assert all("epochs: 1\n" in (run / "config.yaml").read_text() for run in runs)
    code, _, err = run_cli(*arguments("wrong", "seed"))
    assert code == 2 and "seed=0,1,2" in err and not (tmp_path / "wrong").exists()


def test_info_of_codes_is_json(world, run_cli, tmp_path):
    np.save(tmp_path / "codes.npy", np.zeros((3, 2), np.uint8))
    code, out, _ = run_cli("info", tmp_path / "codes.npy", "--json")
    assert (code, json.loads(out)["kind"]) == (0, "codes")


def test_the_test_split_of_a_run_is_read_once(world, run_cli, tmp_path, monkeypatch):
    run = tmp_path / "a run"
    cache = ("--cache", world.folder / "cache")
    code, out, _ = run_cli("train", world.config, "--data", world.captions, "--out", run, *cache)
    assert code == 0 and f"hashret eval '{run}/model' --data {world.captions} --splits '{run}/splits.json'" in out
    arguments = ("eval", run / "model", "--data", world.captions, *cache)
    assert run_cli(*arguments, "--split", "val")[0] == 0
    assert run_cli(*arguments)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr("hashret.model.CrossModalHasher.load", None)  # refused before there is any work
        code, out, err = run_cli(*arguments)
    assert (code, out) == (2, "")
    assert "--again" in err
    assert run_cli(*arguments, "--again")[0] == 0
    assert len(json.loads((run / "test-read.json").read_text())) == 2


def test_dead_rows_are_removed(tmp_path, run_cli):
    path = tmp_path / "c.hashret"
    with Collection.create(path, n_bits=16) as collection:
        for _ in range(2):
            collection.upsert(np.zeros((3000, 2), np.uint8), range(3000))
        assert "open for writing" in run_cli("compact", path)[2]
    code, out, _ = run_cli("compact", path)
    assert code == 0 and out.startswith("3,000 dead rows removed, 3,000 items left; ")
    assert run_cli("compact", path)[1] == "0 dead rows removed, 3,000 items left; 0 bytes freed\n"
    assert run_cli("compact", tmp_path / "none")[0] == 2


def test_ids_and_captions_cannot_steer_the_terminal(tmp_path, run_cli):
    ids, path = ["a\x1b[2Jb", "c\nd", "e\u202ef", "g\u3000犬"], tmp_path / "c.hashret"
    with Collection.create(path, n_bits=16) as collection:
        collection.add(np.zeros((4, 2), np.uint8), ids, [{"captions": ["h\x9bi\nj"]}] * 4)
    out = run_cli("search", path, "--id", ids[1])[1]
    assert all(id in out for id in (r" a\x1b[2Jb  ", r" c\nd  ", r" e\u202ef  "))
    assert "g\u3000犬" in out and out.count(r"h\x9bi\nj") == 4 and len(out.splitlines()) == 5


@pytest.mark.parametrize("command", [[], ["search", "--help"], ["search", "{path}", "--id", "0", "--json"]])
def test_a_reader_that_leaves_early_is_no_failure_and_a_full_disk_is_told(tmp_path, command):
    path = tmp_path / "c.hashret"
    with Collection.create(path, n_bits=16) as collection:
        collection.add(np.zeros((1, 2), np.uint8))
    whole = [sys.executable, "-m", "hashret", *(part.format(path=path) for part in command)]
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as gone:  # noqa: PTH123
        left = subprocess.run([*whole, *(["-v"] if command else [])], stdout=gone, stderr=subprocess.PIPE, text=True)
    assert (left.returncode, left.stderr) == (0, "")
    if Path("/dev/full").exists():
        with Path("/dev/full").open("wb") as full:
            told = subprocess.run(whole, stdout=full, stderr=subprocess.PIPE, text=True)
        assert told.returncode == 2
        assert told.stderr.startswith("hashret: the output cannot be written: No space left")
        assert len(told.stderr.splitlines()) == 1  # Python says nothing more at the exit


@pytest.mark.parametrize("charset", ["ascii", "latin-1"])
def test_letters_that_the_output_lacks_are_escaped(tmp_path, charset):
    with Collection.create(tmp_path / "café 🐶.hashret", n_bits=8) as collection:
        collection.add(np.zeros((1, 1), np.uint8), ids=["犬"], metadata=[{"captions": ["犬"]}])
    environment = {**os.environ, "PYTHONIOENCODING": charset}

    def printed(*arguments):
        command = [sys.executable, "-m", "hashret", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, check=True).stdout.decode(charset)

    assert json.loads(printed("info", collection.path, "--json"))["path"] == str(collection.path)
    assert r"\U0001f436" in printed("info", collection.path)
    assert r"\u72ac" in printed("search", collection.path, "--id", "犬")


def test_codes_are_kept_where_their_ids_cannot_be_written(world, run_cli, tmp_path):
    out = tmp_path / "codes.npy"
    arguments = ("encode", world.model, "--data", world.captions, "--split", "test", "--out", out)
    assert run_cli(*arguments, "--n-bits", 16)[0] == 0
    before = out.read_bytes()
    (tmp_path / "codes.ids.json").unlink()
    (tmp_path / "codes.ids.json").mkdir()
    code, _, err = run_cli(*arguments)
    assert (code, "codes.ids.json' cannot be written" in err) == (2, True)
    assert out.read_bytes() == before


def test_hints_can_be_typed_as_they_are_printed(world, run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(world.model, "my model")
    data = ("--data", world.captions, "--split", "test")
    assert "hashret search 'my photos' \"" in run_cli("index", "my model", *data, "--out", "my photos")[1]
    assert 'hashret search ./-dash "' in run_cli("index", "my model", *data, "--out=-dash")[1]
