"""Codes of any origin measured by the same lines: lengths, labels, floats, chance, and other code bases' numbers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hashret.codes import pack, prefix
from hashret.data import Dataset, Record
from hashret.errors import CodeError, DataError, InputError
from hashret.evaluation import evaluate_codes, evaluate_labels, evaluate_labels_floats, recall_curve, reproduce
from hashret.evaluation.coded import Coded
from hashret.evaluation.eval_report import evaluation_report
from hashret.evaluation.examples import galleries
from hashret.evaluation.foreign import as_coded, as_codes, length_of, read_array
from hashret.evaluation.measured import measure_coded
from hashret.evaluation.published import as_published
from hashret.evaluation.report import render
from hashret.evaluation.summary import (
    TIES,
    bytes_plots,
    curve_plots,
    first_facts,
    interval_table,
    label_table,
    quantile_plots,
    rank_plots,
)


def coded(n_images: int = 40, *, n_bits: int = 32, seed: int = 0, labels: bool = True, floats: bool = True) -> Coded:
    """Pictures with two captions each, four labels, and codes that know something of the labels."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(n_images), 2)
    classes = rng.random((n_images, 4)) > 0.6
    classes[:3] = False
    way = np.random.default_rng(9).normal(size=(4, n_bits))
    images, own = classes @ way + rng.normal(size=(n_images, n_bits)), rng.normal(size=(n_images, n_bits))
    texts = (images + 0.5 * own)[owner] + 2 * rng.normal(size=(2 * n_images, n_bits))
    sides = (images + own).astype(np.float32), texts.astype(np.float32)
    return Coded(
        pack(sides[0]),
        pack(sides[1]),
        n_bits,
        owner,
        labels=classes if labels else None,
        floats=sides if floats else None,
        relaxed=(np.tanh(sides[0]), np.tanh(sides[1])) if floats else None,
    )


def test_each_line_is_what_the_evaluation_gives() -> None:
    given = coded()
    lengths = np.array([16, 32])  # an array will do
    measured = measure_coded(given, code_lengths=lengths, measures=("AP@all", "P@H<=2", "NDCG@5"))
    assert measured.codes[32] == evaluate_codes(given.images, given.texts, given.owner, n_bits=32)
    assert [row.name for row in measured.rows()][:2] == ["16 bits", "32 bits"]
    assert [row.name for row in measured.by_label] == ["16 bits", "32 bits", "float32, 32 wide", "chance"]
    short, _, floats, chance = measured.by_label
    text_labels = given.labels[given.owner]
    cut = (prefix(given.images, n_bits=16), prefix(given.texts, n_bits=16))
    i2t = evaluate_labels(*cut, given.labels, text_labels, n_bits=16, measures=("AP@all", "P@H<=2", "NDCG@5"))
    assert {f"i2t {name}": value for name, value in i2t.values.items()}.items() <= short.values.items()
    t2i = evaluate_labels_floats(*given.floats[::-1], text_labels, given.labels, measures=("AP@all", "NDCG@5"))
    assert floats.values["t2i AP@all"] == t2i["AP@all"] and "t2i P@H<=2" not in floats.values
    assert chance.values["i2t AP@all"] < short.values["i2t AP@all"] < floats.values["i2t AP@all"]
    lonely = int((~given.labels.any(axis=1)).sum())
    assert lonely >= 3 and measured.n_without == {"i2t": lonely, "t2i": 2 * lonely}
    assert measured.to_dict()["labels"]["t2i AP@all, chance"] == chance.values["t2i AP@all"]
    assert {"labels", "codes"} <= measured.to_dict().keys()


def test_chance_is_the_mean_over_all_orders() -> None:
    labels = np.array([0, 0, 1, 1, 1])
    codes = pack(np.random.default_rng(0).normal(size=(5, 8)))
    measured = measure_coded(Coded(codes, codes, 8, np.arange(5), labels=labels))
    values = []
    for query in labels:
        for order in itertools.permutations(labels == query):
            hits = np.flatnonzero(order) + 1
            values.append((np.arange(1, len(hits) + 1) / hits).mean())
    assert measured.by_label[-1].values["i2t AP@all"] == pytest.approx(np.mean(values))


def test_a_database_apart_from_the_queries() -> None:
    queries, items = coded(), coded(60, seed=1)
    measured = measure_coded(queries, database=items)
    one = evaluate_labels(
        queries.images, items.texts, queries.labels, items.text_labels, n_bits=32, measures=("AP@all",)
    )
    assert measured.by_label[0].values["i2t AP@all"] == one["AP@all"]
    assert measured.n_database == (60, 120)
    with pytest.raises(DataError, match="the data have no labels: give each record its own"):
        measure_coded(queries, database=coded(labels=False))


def test_without_floats_and_labels_there_are_codes_and_chance() -> None:
    measured = measure_coded(coded(labels=False, floats=False), code_lengths=(8, 32))
    assert [row.kind for row in measured.rows()] == ["codes", "codes", "chance"]
    assert measured.labels == {}
    with pytest.raises(InputError, match="64 bits cannot be cut from codes of 32"):
        measure_coded(coded(), code_lengths=(64,))


@pytest.mark.parametrize("name", ["deephash", "dchmt", "ucch", "trec"])
def test_the_number_of_another_code_base_stands_beside_the_standard_one(name: str) -> None:
    given = coded()
    result = as_published(given, name, cut=10, code_lengths=(16, 32))
    assert [(way, n_bits) for way, n_bits, _, _ in result.numbers] == [
        ("i2t", 16), ("t2i", 16), ("i2t", 32), ("t2i", 32)
    ]  # fmt: skip
    way, n_bits, theirs, ours = result.numbers[3]
    arguments = (given.texts, given.images, given.text_labels, given.labels)
    expected = evaluate_labels(*arguments, n_bits=32, **reproduce(name, cut=10))
    assert (way, n_bits, theirs) == ("t2i", 32, expected[result.theirs])
    assert ours == evaluate_labels(*arguments, n_bits=32, measures=("AP(norm=min)@10",))["AP(norm=min)@10"]
    tied = "by document name, descending, rows counting as names" if name == "trec" else "as a stable sort leaves them"
    assert result.difference.startswith(f"{name} ") and f"takes tied items {tied}, where" in result.difference
    assert as_published(given, name).ours == "AP@all"
    with pytest.raises(InputError, match="from 1 on"):
        as_published(given, name, cut=0)
    with pytest.raises(DataError, match="no labels"):
        as_published(coded(labels=False), name)


def test_codes_in_every_usual_form_are_the_same_codes() -> None:
    bits = np.random.default_rng(0).random((9, 16)) > 0.5
    packed = np.packbits(bits, axis=1)
    signs = np.where(bits, 1, -1)
    for array in (bits, bits.astype(np.uint8), bits.astype(float), signs, signs.astype(np.int8), signs.astype("f4")):
        codes, n_bits = as_codes(array)
        assert n_bits == 16 and np.array_equal(codes, packed), array.dtype
    assert as_codes(packed)[1] == as_codes(packed, n_bits=16)[1] == 16
    binary = (packed.astype(np.int16) - 128).astype(np.int8)  # as sentence-transformers writes "binary"
    assert np.array_equal(as_codes(binary, n_bits=16)[0], packed)
    assert as_codes(np.packbits(bits[:, :11], axis=1), n_bits=11)[1] == 11


def test_bytes_that_look_like_numbers_are_not_guessed_at() -> None:
    rng = np.random.default_rng(0)
    few = np.zeros((20, 32), np.uint8)  # 256 bits, none of which is ever set; or 32
    few[:, 3] = np.arange(20) % 2
    packed = rng.integers(0, 256, (20, 32), dtype=np.uint8)
    for other, n_bits in ((packed, 256), (rng.random((20, 256)) > 0.5, 256), (rng.random((20, 32)) > 0.5, 32)):
        for sides in ((few, other), (other, few)):
            assert as_coded(*sides).n_bits == n_bits
    numbers = (rng.random((20, 32)) > 0.5).astype(np.uint8)  # no code has but one bit of each byte
    assert as_coded(numbers, numbers).n_bits == as_coded(few, numbers).n_bits == 32
    for given in (few, np.zeros_like(few)):
        with pytest.raises(DataError, match=r"32 wide, bytes that are all 0 or 1 .*--bits 32 or --bits 256"):
            as_coded(given, given)
        assert [as_coded(given, given, n_bits=n_bits).n_bits for n_bits in (32, 256)] == [32, 256]


def test_the_whole_length_behind_a_prefix() -> None:
    rng = np.random.default_rng(0)
    packed, wide = rng.integers(0, 256, (9, 32), dtype=np.uint8), rng.random((9, 256)) > 0.5
    few = np.zeros((9, 32), np.uint8)
    for arrays, at_least, n_bits in (
        ((packed, packed), 64, 256), ((packed, packed), 32, 256), ((packed, packed), 251, 251),
        ((packed, packed), 300, None), ((packed, packed), None, 256), ((packed, wide), 8, 256),
        ((few, few), 32, 32), ((few, few), 64, 256), ((few, few), 16, None), ((packed[0], packed), 8, None),
    ):  # fmt: skip
        assert length_of(*arrays, at_least=at_least) == n_bits, (at_least, n_bits)


def test_what_becomes_of_queries_without_a_relevant_item_is_said_by_measure() -> None:
    for measures, words in (
        (("AP@all", "P@H<=2"), "count as 0"), (("MedR",), "are left out of MedR"), (("Empty@H<=2",), ""),
        (("NDCG@5", "MeanR", "MedR"), "count as 0 and are left out of MedR and MeanR"),
    ):  # fmt: skip
        measured = measure_coded(coded(), measures=measures)
        assert measured.n_without["i2t"] and measured.lone_queries == words
        note = label_table(measured, title="Labels").note
        assert (f"queries, which {words}." in note) if words else "Nothing is relevant" not in note
        assert ("ranks from 1 on" in note) == ("MedR" in measures)


def test_float_vectors_that_find_nothing_have_no_share_kept() -> None:
    codes = pack(np.random.default_rng(0).normal(size=(40, 8)))
    floats = np.zeros((40, 8), np.float32)
    turn = np.arange(40) * 2 * np.pi / 40
    floats[:, 0], floats[:, 1] = np.cos(turn), np.sin(turn)
    measured = measure_coded(Coded(codes, codes, 8, (np.arange(40) + 20) % 40, floats=(floats, floats)))
    assert measured.floats[8].r_sum == 0  # a caption's picture lies opposite
    assert not any("rSum kept" in fact.label for fact in first_facts(measured, n_bits=8).facts)


@pytest.mark.parametrize(
    ("array", "n_bits", "words"),
    [
        (np.zeros(4, np.uint8), None, "shape"),
        (np.zeros((4, 3), np.uint8), 64, "3 wide, and a code of 64 bits is 8 bytes or 64 numbers"),
        (np.random.default_rng(0).normal(size=(4, 8)), None, "take signs first"),
        (np.array([["a"]]), None, "neither packed bytes"),
        (np.array([[-1, 0, 1, 1]]), None, "neither packed bytes"),
        (np.vstack([np.ones((5000, 4)), np.full((1, 4), 0.5)]), None, "other values than"),
    ],
)
def test_what_is_no_code_is_said(array: np.ndarray, n_bits: int | None, words: str) -> None:
    with pytest.raises(DataError, match=words):
        as_codes(array, n_bits=n_bits)


def test_arrays_that_do_not_fit_each_other(tmp_path: Path) -> None:
    codes = np.zeros((4, 2), np.uint8)
    with pytest.raises(DataError, match="with --owner"):
        as_coded(codes, codes[:3], n_bits=16)
    with pytest.raises(DataError, match="rows from 0 to 4"):
        as_coded(codes, codes, n_bits=16, owner=np.array([0, 1, 2, 4]))
    with pytest.raises(DataError, match="float64"):
        as_coded(codes, codes, n_bits=16, owner=np.zeros(4))
    with pytest.raises(DataError, match="labels of 3"):
        as_coded(codes, codes, n_bits=16, labels=np.arange(3))
    with pytest.raises(DataError, match="both need one length"):
        as_coded(codes + 2, np.packbits(np.eye(4, 24) > 0, axis=1) | 2)
    with pytest.raises(CodeError):
        as_coded(codes + 1, codes, n_bits=15)
    column = as_coded(codes, codes, n_bits=16, labels=np.array([[3], [3], [5], [7]]))
    assert measure_coded(column).by_label[0].values["i2t AP@all"] > 0
    with pytest.raises(DataError, match="no file"):
        read_array(tmp_path / "none.npy", what="image codes")
    (tmp_path / "words.npy").write_text("words")
    with pytest.raises(DataError, match=r"numpy\.save"):
        read_array(tmp_path / "words.npy", what="image codes")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"):
        read_array(tmp_path / "objects.npy", what="image codes")
    with (tmp_path / "several.npy").open("wb") as file:
        np.savez(file, codes=np.zeros(2))
    with pytest.raises(DataError, match="several arrays"):
        read_array(tmp_path / "several.npy", what="image codes")
    (tmp_path / "several.npy").write_bytes((tmp_path / "several.npy").read_bytes()[:60])
    with pytest.raises(DataError, match="cannot be read"):
        read_array(tmp_path / "several.npy", what="image codes")


def test_a_curve_over_ranks_agrees_with_the_table_and_with_chance() -> None:
    given = coded(n_bits=8)
    blank = replace(given, images=np.zeros_like(given.images), texts=np.zeros_like(given.texts))
    for each in (given, blank):
        measured = measure_coded(each, code_lengths=(8,))
        for plot, way in zip(rank_plots(measured, each).plots, ("i2t", "t2i")):
            lines = {line.label: dict(zip(line.x, line.y)) for line in plot.series}
            assert lines["8 bits"][1.0] == pytest.approx(getattr(measured.codes[8], way).r1)
            if each is blank:
                assert list(lines["8 bits"].values()) == pytest.approx(list(lines["chance"].values()))


@pytest.mark.parametrize("ties", ["expected", "optimistic", "pessimistic", "stable"])
def test_the_curve_over_a_ranking_has_the_order_of_ties_of_the_tables(ties: str) -> None:
    given = coded(n_bits=8)
    drawn = curve_plots(measure_coded(given, ties=ties), given)
    arguments = given.images, given.texts, given.known_labels, given.text_labels
    curve = recall_curve(*arguments, n_bits=8, ties=ties)
    (line,) = next(plot for plot in drawn.plots if plot.title.startswith("Ranking, captions")).series
    assert line.y == tuple(curve.precision)
    assert drawn.note.endswith("retrieved together." if ties == "expected" else f"{TIES[ties]}.")


def test_lengths_of_equally_many_bytes_are_points_of_their_own() -> None:
    measured = measure_coded(coded(), code_lengths=(9, 16))
    for plot in bytes_plots(measured).plots:
        (codes,) = (line for line in plot.series if line.label == "code against code")
        assert codes.x == (2.0, 2.0)


def test_the_worst_queries_come_first_whatever_is_better() -> None:
    measured = measure_coded(coded(), code_lengths=(8,), measures=("MeanR",))
    for plot in quantile_plots(measured).plots:
        assert plot.series[0].y[0] > plot.series[0].y[-1]


def test_an_interval_counts_the_queries_that_have_a_value() -> None:
    given = coded()
    without = int((given.known_labels.sum(axis=1) == 0).sum())  # no label, and so no rank
    rows = interval_table(measure_coded(given, measures=("AP@all", "MeanR")), given, n_bits=32).rows
    counts = {name: queries for name, _, _, queries in rows}
    assert (counts["i2t AP@all"], counts["i2t MeanR"], counts["t2i MeanR"]) == (40, 40 - without, 80 - 2 * without)


def test_hits_that_are_sure_are_so_in_every_order_of_ties(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    Image.new("RGB", (8, 8)).save(path)
    records = tuple(Record(f"r{row}", (f"one {row}", f"two {row}"), path) for row in range(40))
    given = coded(labels=False, floats=False)
    blank = replace(given, images=np.zeros_like(given.images), texts=np.zeros_like(given.texts))
    lucky = evaluate_codes(blank.images, blank.texts, blank.owner, n_bits=32, ties="optimistic")
    found = galleries(blank, lucky, Dataset("shapes", records), n_bits=32)
    assert found and all("others" in each.title for each in found)


def test_a_report_shows_curves_and_hits_good_and_bad(tmp_path: Path) -> None:
    given = coded()
    records = []
    for row in range(40):
        path = tmp_path / f"{row}.png"
        Image.new("RGB", (8, 8), (6 * row, 200, 40)).save(path)
        records.append(Record(f"r{row}", (f"one {row}", f"two {row}"), path))
    measured = measure_coded(given, code_lengths=(8, 16, 32))
    page = render(
        evaluation_report(
            measured,
            given,
            title="Shapes",
            dataset=Dataset("shapes", tuple(records), credits="drawn here"),
            published=as_published(given, "dchmt", cut=5),
            facts=(("model", "m"),),
            command="hashret eval m",
        )
    )
    for words in ("i2t R@10, %", "t2i AP@all", "Words that find their picture", "Words that find others",
                  "Pictures that find their words", "Lookup", "interpolated precision", "AP(norm=first)@5",
                  "95 % interval", "chance", "hashret eval m", "drawn here"):  # fmt: skip
        assert words in page, words
    assert page.count("data:image/") > 40
    plain = coded(labels=False, floats=False)
    page = render(evaluation_report(measure_coded(plain), plain, title="Codes"))
    assert "AP@all" not in page and "data:image/" not in page
