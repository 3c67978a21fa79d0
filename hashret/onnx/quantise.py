"""Graphs with 8-bit weights: a quarter of the size, at some bits of the codes. Needs onnx and onnxruntime.

Transformers only: their products and embeddings are stored in 8 bits, and activations are measured as they come, with
one scale for all that is in the input. So OnnxHasher gives such a graph one item at a time: in batches of 16, 29 of
1,024 bits of a text depended on its company. Texts lose about half of a batch's speed by it, pictures none. The
convolutions of a CNN would need ranges of activations measured beforehand, and lose too much: of EfficientNet-lite0 on
Flickr8k 14 % of the bits turn, and rSum at 256 bits falls from 355 to 318 (of 300 pictures). They stay as they are.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from hashret._lazy import require

_PATCHES = 1  # convolutions of a ViT: the one that cuts the patches


def quantise(graph: Path) -> bool:
    """Replace a graph, and the weights beside it, by one with 8-bit weights where it is a transformer.

    Args:
        graph: the .onnx file.

    Returns:
        Whether anything was replaced.
    """
    onnx = require("onnx", extra="export")
    tools = require("onnxruntime.quantization", extra="export")
    shapes = require("onnxruntime.quantization.shape_inference", extra="export")
    from hashret.onnx.graphs import write_beside

    model = onnx.load(str(graph))
    operations = [node.op_type for node in model.graph.node]
    if operations.count("Conv") > _PATCHES or "MatMul" not in operations:
        return False
    with tempfile.TemporaryDirectory(dir=graph.parent) as folder:
        whole, ready, done = (Path(folder) / f"{name}.onnx" for name in ("whole", "ready", "done"))
        onnx.save_model(model, str(whole))  # in one file, as the next step expects it
        shapes.quant_pre_process(str(whole), str(ready), skip_symbolic_shape=True)
        tools.quantize_dynamic(str(ready), str(done), per_channel=True, op_types_to_quantize=["MatMul", "Gather"])
        done.replace(graph)
    write_beside(graph)
    return True
