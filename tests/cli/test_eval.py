"""``hashret eval``: codes from elsewhere, other code bases' numbers, reports."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from hashret.data import open_dataset
from hashret.evaluation import draw_protocol, evaluate_codes, evaluate_labels, reproduce
from hashret.model import CrossModalHasher
from hashret.model.config import RerankerConfig


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    """Twelve pictures with two captions each, as one number a bit and packed, with owners and classes."""
    folder = tmp_path_factory.mktemp("codes")
    rng = np.random.default_rng(0)
    images = rng.normal(size=(12, 32)) > 0
    owner = np.repeat(np.arange(12), 2)
    texts = images[owner] ^ (rng.random((24, 32)) > 0.8)
    made = {
        "images": images.astype(np.int64), "texts": texts * 2.0 - 1.0, "owner": owner, "labels": np.arange(12) % 3,
        "packed": np.packbits(images, axis=1), "packed_texts": np.packbits(texts, axis=1),
    }  # fmt: skip
    for name, array in made.items():
        np.save(folder / f"{name}.npy", array)
    return folder, made


def test_codes_from_elsewhere_are_measured_the_same_way(arrays, run_cli):
    folder, made = arrays
    code, out, err = run_cli(
        "eval", "--codes", folder / "images.npy", folder / "texts.npy", "--owner", folder / "owner.npy",
        "--labels", folder / "labels.npy", "--as", "dchmt", "--cut", 3, "--json",
        "--measures", "AP@all,P@H<=2,NDCG(gain=linear)@5",
    )  # fmt: skip
    assert code == 0, err
    figures = json.loads(out)
    expected = evaluate_codes(made["packed"], made["packed_texts"], made["owner"], n_bits=32)
    assert figures["codes"]["32"]["rSum"] == expected.r_sum
    assert figures["files"] == [str(folder / "images.npy"), str(folder / "texts.npy")]
    labels = made["labels"], made["labels"][made["owner"]]
    theirs = evaluate_labels(made["packed"], made["packed_texts"], *labels, n_bits=32, **reproduce("dchmt", cut=3))
    assert figures["as"]["numbers"][0]["theirs"] == theirs["AP(norm=first)@3"]
    assert "as a stable sort leaves them" in figures["as"]["difference"]
    assert "split" not in figures  # none was read
    assert {"i2t P@H<=2, 32 bits", "t2i NDCG(gain=linear)@5, chance"} <= figures["labels"].keys()


def test_packed_codes_a_prefix_and_a_database_apart(arrays, run_cli, tmp_path):
    folder, _ = arrays
    page = tmp_path / "report.html"
    codes = (folder / "packed.npy", folder / "packed_texts.npy")
    code, out, err = run_cli(
        "eval", "--codes", *codes, "--owner", folder / "owner.npy", "--labels", folder / "labels.npy",
        "--database-codes", *codes, "--database-owner", folder / "owner.npy",
        "--database-labels", folder / "labels.npy", "--bits", "8,32", "--as", "trec", "--html", page,
    )  # fmt: skip
    assert code == 0, err
    lines = out.splitlines()
    assert any(line.startswith("8 bits") for line in lines) and "trec" in out and "i2t AP@all" in out
    assert lines[-1].startswith("trec takes tied items by document name, descending, rows counting as names")
    assert "AP@all" in page.read_text(encoding="utf-8")
    code, out, err = run_cli("eval", "--codes", *codes, "--owner", folder / "owner.npy", "--bits", 8)
    assert code == 0, err  # the prefix alone
    assert [line.split("  ")[0] for line in out.splitlines()] == [lines[0], "", "8 bits", "chance"]


def test_queries_that_nothing_is_relevant_to(arrays, run_cli, tmp_path):
    folder, _ = arrays
    np.save(tmp_path / "others.npy", np.arange(12) % 3 + (np.arange(12) == 5) * 7)
    codes = (folder / "packed.npy", folder / "packed_texts.npy")
    code, out, err = run_cli(
        "eval", "--codes", *codes, "--owner", folder / "owner.npy", "--labels", tmp_path / "others.npy",
        "--database-codes", *codes, "--database-owner", folder / "owner.npy",
        "--database-labels", folder / "labels.npy", "--measures", "AP@all,MedR",
    )  # fmt: skip
    assert code == 0, err
    assert out.splitlines()[-1].endswith("is searched; they count as 0 and are left out of MedR")


def test_codes_are_measured_without_torch(arrays):
    folder, _ = arrays
    script = (
        "import sys; from hashret.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(code or ('torch' in sys.modules) * 9)"
    )
    arguments = ["eval", "--codes", str(folder / "packed.npy"), str(folder / "packed.npy")]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "12 pictures, 12 captions" in done.stdout


def test_a_report_shows_the_words_that_were_encoded(arrays, run_cli, tmp_path):
    folder, made = arrays
    lines = ({"image": f"{n}.png", "captions": ["a", "b"], "split": "test"} for n in range(12))
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for n in range(12):
        (tmp_path / f"{n}.png").write_bytes(b"")
    order = np.concatenate([np.arange(0, 24, 2), np.arange(1, 24, 2)])  # every first caption, then every second
    for name in ("packed_texts", "owner"):
        np.save(tmp_path / f"{name}.npy", made[name][order])
    arguments = (
        "eval", "--codes", folder / "packed.npy", tmp_path / "packed_texts.npy", "--owner", tmp_path / "owner.npy",
        "--data", tmp_path / "pairs.jsonl",
    )  # fmt: skip
    assert run_cli(*arguments)[0] == 0
    code, out, err = run_cli(*arguments, "--html", tmp_path / "report.html")
    assert (code, out) == (2, "") and "text code 1 to picture 1" in err and "a caption of picture 0" in err


BAD = {
    "nothing to measure": ([], "or --codes IMAGES TEXTS"),
    "a model without data": (["model"], "--data is missing"),
    "both": (["model", "--codes", "{images}", "{texts}"], "not both"),
    "labels for a model": (["model", "--data", "x", "--labels", "{labels}"], "--labels belongs to --codes"),
    "a cut alone": (["--codes", "{images}", "{texts}", "--cut", "5"], "--cut belongs to --as"),
    "a cut of nothing": (["--codes", "{images}", "{images}", "--as", "dchmt", "--cut", "0"], "1 or more, and not 0"),
    "no measures": (["--codes", "{images}", "{images}", "--measures", ""], "--measures names none"),
    "a folder as file": (["--codes", "{images}", "{images}", "--out", "{folder}"], "name a file in a folder that can"),
    "a report nowhere": (["--codes", "{images}", "{images}", "--html", "{images}/x.html"], "in a folder that can"),
    "a protocol of codes": (["--codes", "{images}", "{images}", "--protocol", "x"], "--protocol names"),
    "a split beside a protocol": (["m", "--data", "x", "--protocol", "x", "--split", "val"], "leave --split out"),
    "splits beside a protocol": (["m", "--data", "x", "--protocol", "x", "--splits", "x"], "leave --splits out"),
    "a seed beside a protocol": (["m", "--data", "x", "--protocol", "x", "--split-seed", "3"], "leave --split-seed"),
    "a device for codes": (["--codes", "{images}", "{images}", "--device", "cpu"], "--device belongs to a model"),
    "a cache for codes": (["--codes", "{images}", "{images}", "--cache", "x"], "--cache belongs to a model"),
    "codes again": (["--codes", "{images}", "{images}", "--again"], "--again belongs to a model"),
    "a split of no data": (["--codes", "{images}", "{images}", "--split", "val"], "--split belongs to --data"),
    "splits of no data": (["--codes", "{images}", "{images}", "--splits", "x"], "--splits belongs to --data"),
    "a seed of no data": (["--codes", "{images}", "{images}", "--split-seed", "3"], "--split-seed belongs to --data"),
    "strict with no data": (["--codes", "{images}", "{images}", "--strict"], "--strict belongs to --data"),
    "no owner": (["--codes", "{images}", "{texts}"], "--owner"),
    "no labels": (["--codes", "{images}", "{images}", "--as", "dchmt"], "the data have no labels"),
    "unknown convention": (["--codes", "{images}", "{images}", "--as", "dcmht"], "'dchmt'"),
    "unknown measure": (["--codes", "{images}", "{images}", "--measures", "mAP"], "no measure 'mAP'"),
    "an open measure": (["--codes", "{images}", "{images}", "--measures", "AP@50"], "AP(norm=min)@50"),
    "unknown ties": (["--codes", "{images}", "{images}", "--ties", "stabel"], "'stable'"),
    "no such file": (["--codes", "{images}", "none.npy"], "none.npy"),
    "too many bits": (["--codes", "{images}", "{images}", "--bits", "64"], "32 wide"),
    "other data": (["--codes", "{images}", "{images}", "--data", "{csv}", "--split", "test"], "the split 'test'"),
    "a split as database": (["--codes", "{images}", "{images}", "--database", "train"], "--database-codes"),
    "a database without labels": (["--codes", "{images}", "{images}", "--database-codes", "{images}", "{images}"],
                                  "--database-labels"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_go_together_is_a_sentence(case, arrays, run_cli, tmp_path):
    folder, made = arrays
    (tmp_path / "two.jsonl").write_text(
        "".join(json.dumps({"image": f"{n}.png", "captions": ["a"], "split": "test"}) + "\n" for n in range(2))
    )
    for n in range(2):
        (tmp_path / f"{n}.png").write_bytes(b"")
    places = {name: str(folder / f"{name}.npy") for name in made} | {
        "csv": str(tmp_path / "two.jsonl"),
        "folder": str(tmp_path),
    }
    arguments, words = BAD[case]
    code, out, err = run_cli("eval", *(argument.format(**places) for argument in arguments))
    assert (code, out) == (2, "")
    assert words in err and "Traceback" not in err


def test_a_model_is_set_beside_another_code_base_in_a_report(world, run_cli, tmp_path):
    page = tmp_path / "report.html"
    code, out, err = run_cli(
        "eval", world.model, "--data", world.captions, "--split", "val", "--database", "train", "--as", "ucch",
        "--cut", 5, "--ties", "pessimistic", "--html", page, "--cache", world.folder / "cache",
    )  # fmt: skip
    assert code == 0, err
    assert "float32, 32 wide" in out and "leaves out queries that found nothing" in out
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/") >= 6 and "AP(norm=found)@5" in text and "Searched: 16 pictures" in text


def test_what_a_run_learned_from_is_not_measured_as_its_test(world, run_cli, tmp_path):
    lines = [json.loads(line) for line in world.captions.read_text().splitlines()]
    undivided = world.folder / "undivided.jsonl"  # beside the pictures
    undivided.write_text("".join(json.dumps({**line, "split": None}) + "\n" for line in lines))
    run = tmp_path / "a run"  # that is over: a model beside its splits
    shutil.copytree(world.model, run / "model")
    splits = shutil.copy(world.run / "splits.json", run / "splits.json")
    arguments = ("eval", run / "model", "--data", undivided, "--cache", world.folder / "cache")
    for split, used in (("test", "train or val"), ("val", "train")):
        code, out, err = run_cli(*arguments, "--split", split)
        assert (code, out) == (2, "")
        assert f"are in the run's {used} split" in err and f"--splits '{splits}'" in err
        code, out, err = run_cli(*arguments, "--split", split, "--splits", splits)
        assert code == 0, err
        code, out, err = run_cli(*arguments[:3], world.captions, *arguments[4:], "--split", split)
        assert code == 0, err  # data with the same splits of their own
    assert run_cli(*arguments, "--split", "train")[0] == 0  # called what it is
    draw_protocol([line["id"] for line in lines if line["split"] == "train"], name="mine", dataset="shapes", n_query=4,
                  n_train=0, relevance="instance").save(tmp_path / "protocol.json")  # fmt: skip
    code, out, err = run_cli(*arguments, "--protocol", tmp_path / "protocol.json")
    assert code == 2 and "4 of the 4 items to measure" in err and "among the run's test split" in err


def test_a_protocol_names_what_is_asked_and_what_is_searched(world, run_cli, tmp_path):
    ids = [record.id for record in open_dataset(world.captions) if record.captions]
    cache = ("--data", world.captions, "--cache", world.folder / "cache", "--json")
    shutil.copytree(world.model, tmp_path / "run" / "model")
    (tmp_path / "run" / "checkpoints").mkdir()
    figures = {}
    for relevance in ("labels", "instance"):
        path = tmp_path / f"{relevance}.json"
        drawn = draw_protocol(
            ids, name="mine", dataset="shapes", n_query=6, n_train=4, relevance=relevance, exclude_train=True
        )
        drawn.save(path)
        arguments = ("eval", tmp_path / "run" / "model", *cache, "--protocol", path)
        code, out, err = run_cli(*arguments, *(("--again",) if figures else ()))
        assert code == 0, err
        figures[relevance] = json.loads(out)
        assert figures[relevance]["protocol"] == drawn.checksum and figures[relevance]["n_images"] == 6
        assert drawn.checksum in (tmp_path / "run" / "test-read.json").read_text()
    code, out, err = run_cli(*arguments)
    assert code == 2 and "--again" in err  # a protocol's queries are read once as well
    lines = [json.loads(line) for line in world.captions.read_text().splitlines()]
    asked = next(line for line in lines if line["id"] == drawn.query[0])
    asked["captions"] = []
    missing = world.folder / "missing.jsonl"  # beside the pictures
    missing.write_text("".join(json.dumps(line) + "\n" for line in lines if line["id"] not in drawn.train))
    alone = shutil.copytree(world.model, tmp_path / "alone" / "model")  # of no run, so that nothing is guarded
    code, out, err = run_cli("eval", alone, "--data", missing, "--protocol", path, "--cache", tmp_path / "cache")
    assert code == 2 and "no readable picture or no caption" in err  # what was learned from need not be there


def test_what_a_re_ranker_makes_of_the_nearest_items(world, run_cli, tmp_path):
    plain = CrossModalHasher.load(world.model, device="cpu")
    small = RerankerConfig(kind="fusion", width=8, layers=1, heads=2, ffn=8)
    encoders = {modality: plain.tower(modality).encoder for modality in ("image", "text")}
    model = CrossModalHasher(replace(plain.config, reranker=small), encoders)
    model.load_state_dict(plain.state_dict(), strict=False)
    model.save(tmp_path / "model")
    data = ("--data", world.captions, "--split", "val", "--cache", world.folder / "cache")
    code, out, err = run_cli("eval", tmp_path / "model", *data, "--bits", "8,16", "--rerank", 3)
    assert code == 0, err
    lines = out.splitlines()
    head = next(number for number, line in enumerate(lines) if "the nearest 3 by 16 bits" in line)
    assert [line[:22].strip() for line in lines[head + 1 : head + 4]] == ["codes", "float vectors", "the re-ranker"]
    page = tmp_path / "report.html"
    code, out, err = run_cli("eval", tmp_path / "model", *data, "--rerank", 3, "--json", "--html", page)
    figures = json.loads(out)["rerank"]
    _, section = page.read_text(encoding="utf-8").split("<h2>Retrieval after re-ranking</h2>")
    last = section.split("</table>")[0].split("the re-ranker")[-1]
    assert f">{figures['after']['i2t']['R@1']:.1f}<" in last and f">{figures['after']['rSum']:.1f}<" in last
    assert (figures["k"], figures["n_bits"]) == (3, model.n_bits)
    assert figures["after"]["rSum"] == figures["floats"]["rSum"]  # it has learnt nothing yet

    code, out, err = run_cli("eval", world.model, *data, "--rerank", 3)
    assert (code, out) == (2, "") and "no re-ranker" in err
    code, out, err = run_cli("eval", tmp_path / "model", *data, "--rerank", 0)
    assert (code, out) == (2, "") and "1 or more, and not 0" in err
