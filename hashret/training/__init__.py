"""Training: a configuration and a data set in, a run directory with a saved model out.

    config = read_config("hashret", ["stages.heads.lr=5e-4"])
    result = train(config, open_dataset("captions.json"), out="runs/photos")

A run is a list of stages over features that are computed once; a system is a YAML file. Selection looks at the
validation split only; the test split is never read here.
"""

from __future__ import annotations

from hashret._lazy import require

require("torch", extra="learn")
require("scipy", extra="learn")

from hashret.training.config import DataConfig, RunConfig, Selection, Stage, read_config  # noqa: E402
from hashret.training.pairs import PairFeatures  # noqa: E402
from hashret.training.probe import ModalityReport, Probe, modality_probe, modality_report  # noqa: E402
from hashret.training.run import TrainResult, train  # noqa: E402
from hashret.training.trainer import Trainer  # noqa: E402

__all__ = [
    "DataConfig",
    "ModalityReport",
    "PairFeatures",
    "Probe",
    "RunConfig",
    "Selection",
    "Stage",
    "TrainResult",
    "Trainer",
    "modality_probe",
    "modality_report",
    "read_config",
    "train",
]
