"""Measuring retrieval: named, tie-aware metrics, protocols, reports and plots.

Knows codes and distances; never a model, and never torch.
"""

from __future__ import annotations

from hashret.evaluation.instance import chance, evaluate_asymmetric, evaluate_codes, evaluate_floats, evaluate_folds
from hashret.evaluation.retrieval import Direction, Retrieval

__all__ = [
    "Direction",
    "Retrieval",
    "chance",
    "evaluate_asymmetric",
    "evaluate_codes",
    "evaluate_floats",
    "evaluate_folds",
]
