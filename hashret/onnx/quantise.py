"""Graphs with 8-bit weights: a quarter of the size, at some bits of the codes. Needs onnx and onnxruntime.

A transformer's products are quantised with activations measured as they come; a CNN's convolutions with ranges of
activations that are measured beforehand on calibration pictures, because onnxruntime has no quick way for the other.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hashret._lazy import require

CALIBRATION = 128  # items that ranges are measured on


def quantise(graph: Path, *, calibration: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Replace a graph, and the weights beside it, by one with 8-bit weights.

    Args:
        graph: the .onnx file.
        calibration: inputs of batches of one, for a CNN.
    """
    onnx = require("onnx", extra="export")
    tools = require("onnxruntime.quantization", extra="export")
    shapes = require("onnxruntime.quantization.shape_inference", extra="export")
    from hashret.onnx.export import beside_graph

    model = onnx.load(str(graph))
    convolutions = sum(node.op_type == "Conv" for node in model.graph.node)
    with tempfile.TemporaryDirectory(dir=graph.parent) as folder:
        whole, ready, done = (Path(folder) / f"{name}.onnx" for name in ("whole", "ready", "done"))
        onnx.save_model(model, str(whole))  # in one file, as the next step expects it
        shapes.quant_pre_process(str(whole), str(ready), skip_symbolic_shape=True)
        if convolutions > 1:  # a ViT has one, which cuts the patches
            tools.quantize_static(
                str(ready),
                str(done),
                _Reader(calibration[:CALIBRATION]),
                quant_format=tools.QuantFormat.QDQ,
                per_channel=True,
                op_types_to_quantize=["Conv"],
            )
        else:
            tools.quantize_dynamic(str(ready), str(done), per_channel=True, op_types_to_quantize=["MatMul", "Gather"])
        done.replace(graph)
    beside_graph(graph)


class _Reader:
    """Batches, as onnxruntime's calibration takes them."""

    def __init__(self, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> Any:
        """The next batch, or None."""
        return next(self._batches, None)
