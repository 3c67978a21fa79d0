"""Names of measures: what they say is what they are."""

from __future__ import annotations

import pytest

from hashret.errors import InputError
from hashret.evaluation import parse
from hashret.evaluation.measures import AP, KINDS, NDCG, MeanR, P, R

NAMES = [
    "AP@all",
    "AP(norm=min)@50",
    "AP(norm=all)@50",
    "AP(norm=found)@5000",
    "AP(norm=first)@50",
    "NDCG@all",
    "NDCG@100",
    "NDCG(gain=linear)@100",
    "P@1",
    "P@H<=2",
    "Empty@H<=2",
    "R@10",
    "MedR",
    "MeanR",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_can_be_read_back(name: str) -> None:
    assert repr(parse(name)) == name
    assert parse(repr(parse(name))) == parse(name)
    assert parse(parse(name)) == parse(name)


def test_every_kind_is_named_above() -> None:
    assert {parse(name).kind for name in NAMES} == set(KINDS)


def test_measures_are_built_in_python_too() -> None:
    assert AP(norm="min") @ 50 == parse(" AP(norm = min) @ 50 ")
    assert NDCG(gain="exp") @ 10 == NDCG @ 10
    assert parse("P@H<=2") == P @ "H<=2"
    assert (R @ 5).better == "higher"
    assert MeanR.better == "lower"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("AP@50", r"different things.*AP\(norm=min\)@50"),
        ("AP", r"^AP is no measure: write it as AP\(norm=min\)@10 or AP@all$"),
        ("AP(norm=all)", r"^AP\(norm=all\) is no measure: write it as AP\(norm=all\)@10 or AP@all$"),
        ("NDCG(gain=linear)", r"NDCG\(gain=linear\)@10 or NDCG\(gain=linear\)@all$"),
        ("AP(norm=min)@all", "write AP@all"),
        ("AP(norm=mini)@50", "did you mean 'min'"),
        ("AP(nrom=min)@50", "did you mean 'norm'"),
        ("NDGC@10", "did you mean 'NDCG'"),
        ("MedR@5", "plain MedR"),
        ("R@all", "write it as R@10"),
        ("P@0", "a cut is a number of ranks"),
        ("P@H<2", "a cut is a number of ranks"),
        ("mean average precision", "there is no measure"),
    ],
)
def test_wrong_names_are_refused_with_the_right_one(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(name)
