"""Parameters of a feature hasher, checked before anything is learned with them.

scikit-learn wants them stored as they are given, so that ``fit`` is where they are looked at.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch

from hashret.errors import ConfigError

_WHOLE = {"n_bits": 1, "hidden": 1, "passes": 1, "batch_size": 2, "patience": 1, "seed": 0}  # and the least of each
_SHARES = ("dropout", "input_dropout", "mix", "validation_fraction")
_SIZES = ("lr", "weight_decay", "temperature", "spread")
_OPTIONAL = ("code_lengths", "dropout", "input_dropout", "passes", "lr", "patience", "rounding")
# Labels are learned by heart where the pairs that are searched are those learned from, and their codes tell classes
# apart better than their floats do, which is what a rounding comes near to
_REGULARISED = {"dropout": 0.5, "input_dropout": 0.5, "lr": 1.5e-3, "rounding": True}
_LABELLED = {"dropout": 0.1, "input_dropout": 0.0, "lr": 5e-3, "rounding": False}


def defaults_of(cls: type) -> Mapping[str, Any]:
    """Every parameter of a class by name, with its default."""
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    return {name: parameter.default for name, parameter in parameters.items() if name != "self"}


def chosen_of(*, labelled: bool) -> Mapping[str, Any]:
    """What stands for parameters that are None, in a fit with or without labels."""
    return _LABELLED if labelled else _REGULARISED


def check_parameters(given: Mapping[str, Any]) -> None:
    """Refuse what cannot be meant.

    Args:
        given: parameters by name.

    Raises:
        ConfigError: which one, and what it may be.
    """
    for name, value in given.items():
        if value is None and name in _OPTIONAL:
            continue
        if name == "code_lengths":
            _check_lengths(value)
        elif name in _WHOLE and not (_is(value, Integral) and value >= _WHOLE[name]):
            raise ConfigError(f"{name} is a whole number from {_WHOLE[name]} on, and not {value!r}")
        elif name in _SHARES and not (_is(value, Real) and 0 <= value <= 1):
            raise ConfigError(f"{name} is a share from 0 to 1, and not {value!r}")
        elif name in _SIZES and not (_is(value, Real) and 0 <= value < float("inf")):
            raise ConfigError(f"{name} is a number from 0 on, and not {value!r}")
        elif name == "rounding" and not isinstance(value, bool | np.bool_):
            raise ConfigError(f"rounding is true, false or None, and not {value!r}")
        elif name == "device" and not isinstance(value, str | torch.device):
            raise ConfigError(f"device is a name, such as auto, cpu or cuda:1, and not {value!r}")


def _check_lengths(value: Any) -> None:
    several = isinstance(value, list | tuple | np.ndarray)
    if not several or not all(_is(length, Integral) and length >= 1 for length in value):
        raise ConfigError(f"code_lengths are several whole numbers of bits, such as (64, 256), and not {value!r}")


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
