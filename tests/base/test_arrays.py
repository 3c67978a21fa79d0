"""Features and labels that users hand in."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hashret.arrays import kind_of, labels_of, matrix_of
from hashret.errors import DataError


def test_matrices_keep_their_values_whatever_they_are_made_of() -> None:
    for given in ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], np.int8), np.array([[1, 2], [3, 4]], object)):
        assert matrix_of(given, "X").tolist() == [[1, 2], [3, 4]]
    assert matrix_of([[0.1]], "X", dtype=np.float64).dtype == np.float64
    assert matrix_of(np.zeros((0, 3)), "X").shape == (0, 3)


@pytest.mark.parametrize("scale", [1e20, 1e-20])
def test_features_whose_squares_would_be_lost_are_refused(scale: float) -> None:
    assert matrix_of([[scale, 0.0]], "X").shape == (1, 2)
    with pytest.raises(DataError, match=r"1e.20 is the largest of X, whose squares lose their meaning"):
        matrix_of([[scale, 0.0], [0.0, 0.0]], "X", squared=True)
    assert matrix_of([[scale]], "X", dtype=np.float64, squared=True) == scale
    with pytest.raises(DataError, match="real numbers"):
        matrix_of([[10**400]], "X")


def test_a_tensor_that_has_a_gradient_is_refused_with_a_sentence() -> None:
    with pytest.raises(DataError, match=r"X must be a matrix of real numbers: .*grad"):
        matrix_of(torch.zeros(2, 2, requires_grad=True), "X")


def test_labels_are_one_an_item_or_multi_hot() -> None:
    assert labels_of([3, 5]).tolist() == [3, 5]
    assert labels_of([[3], [5]]).tolist() == [3, 5]  # a column of classes
    assert labels_of([[True], [False]]).tolist() == [[True], [False]]  # one label, which an item has or has not
    assert labels_of([[0, 1], [1, 1]]).shape == (2, 2)
    words = labels_of(np.array(["cat", "dog"], dtype=object))
    assert words.tolist() == ["cat", "dog"] and kind_of(words) == "words"
    for given in (np.array([np.int64(1), 2.0], object), [np.str_("a"), "b"], [True, 0], [b"a", b"b"]):
        assert len(labels_of(given)) == 2
    assert (kind_of(labels_of([1.5])), kind_of(labels_of([b"a"]))) == ("numbers", "bytes")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([[1], [2, 3]], "of several lengths"), (np.array([[1], [2, 3]], dtype=object), "of several lengths"),
        (["cat", float("nan")], "float, str"), (["cat", 1], "int, str"), (["a", None], "NoneType, str"),
        ([1, "a", None], "int, str"), ([np.nan, 1], "NaN"),
        ([1j], "are complex"),
        (5, r"shape \(\)"), ([[0, 2], [1, 0]], "other values than 0"), ([["a", "b"]], "other values than 0"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_meant_are_refused(labels: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        labels_of(labels)  # type: ignore[arg-type]
