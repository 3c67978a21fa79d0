"""Measuring retrieval: named, tie-aware metrics, protocols, reports and plots.

Knows codes and distances; never a model, and never torch.
"""

from __future__ import annotations

from hashret.evaluation.category import Scores, evaluate_labels, evaluate_labels_floats, reproduce
from hashret.evaluation.coded import Coded
from hashret.evaluation.curves import RadiusCurve, RecallCurve, radius_curve, recall_curve
from hashret.evaluation.foreign import as_coded
from hashret.evaluation.instance import chance, evaluate_asymmetric, evaluate_codes, evaluate_floats, evaluate_folds
from hashret.evaluation.measured import LabelRow, Measured, measure_coded
from hashret.evaluation.measures import Measure, parse
from hashret.evaluation.protocols import Protocol, draw_protocol
from hashret.evaluation.published import AsPublished, as_published
from hashret.evaluation.reranked import evaluate_reranked, reorder
from hashret.evaluation.retrieval import Direction, Retrieval
from hashret.evaluation.statistics import Interval, PairedTest, bootstrap, paired_test

__all__ = [
    "AsPublished",
    "Coded",
    "Direction",
    "Interval",
    "LabelRow",
    "Measure",
    "Measured",
    "PairedTest",
    "Protocol",
    "RadiusCurve",
    "RecallCurve",
    "Retrieval",
    "Scores",
    "as_coded",
    "as_published",
    "bootstrap",
    "chance",
    "draw_protocol",
    "evaluate_asymmetric",
    "evaluate_codes",
    "evaluate_floats",
    "evaluate_folds",
    "evaluate_labels",
    "evaluate_labels_floats",
    "evaluate_reranked",
    "measure_coded",
    "paired_test",
    "parse",
    "radius_curve",
    "recall_curve",
    "reorder",
    "reproduce",
]
