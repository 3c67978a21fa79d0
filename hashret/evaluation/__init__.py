"""Measuring retrieval: named, tie-aware metrics, protocols, reports and plots.

Knows codes and distances; never a model, and never torch.
"""

from __future__ import annotations

from hashret.evaluation.category import Scores, evaluate_labels, evaluate_labels_floats, reproduce
from hashret.evaluation.curves import RadiusCurve, RecallCurve, radius_curve, recall_curve
from hashret.evaluation.instance import chance, evaluate_asymmetric, evaluate_codes, evaluate_floats, evaluate_folds
from hashret.evaluation.measures import Measure, parse
from hashret.evaluation.reranked import evaluate_reranked, reorder
from hashret.evaluation.retrieval import Direction, Retrieval
from hashret.evaluation.statistics import Interval, PairedTest, bootstrap, paired_test

__all__ = [
    "Direction",
    "Interval",
    "Measure",
    "PairedTest",
    "RadiusCurve",
    "RecallCurve",
    "Retrieval",
    "Scores",
    "bootstrap",
    "chance",
    "evaluate_asymmetric",
    "evaluate_codes",
    "evaluate_floats",
    "evaluate_folds",
    "evaluate_labels",
    "evaluate_labels_floats",
    "evaluate_reranked",
    "paired_test",
    "parse",
    "radius_curve",
    "recall_curve",
    "reorder",
    "reproduce",
]
