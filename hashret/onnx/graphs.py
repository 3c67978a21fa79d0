"""From a tower to an ONNX graph, by tracing. Needs torch and onnx; knows nothing of files beside the graph."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hashret._lazy import require
from hashret.encoders import Encoder
from hashret.model import Tower

OPSET = 17
_INLINE_BYTES = 1024  # tensors up to this size stay in the graph


class _Whole(nn.Module):
    """A tower with its inputs one by one, as tracing wants them."""

    def __init__(self, tower: Tower, names: Sequence[str]) -> None:
        super().__init__()
        self.tower = tower
        self.names = tuple(names)

    def forward(self, *inputs: Tensor) -> Tensor:
        encoder: Encoder = self.tower.encoder
        logits: Tensor = self.tower(encoder.prefix(dict(zip(self.names, inputs)))).logits
        return logits


def write_graph(tower: Tower, items: Sequence[Any], path: Path) -> None:
    """Trace the tower over two items; batch, and for texts length, are free in the graph."""
    inputs = tower.encoder.prepare(items)
    free = {
        name: {0: "batch", 1: "length"} if name in ("input_ids", "attention_mask") else {0: "batch"} for name in inputs
    }
    with _traceable():
        # the older exporter: it needs seconds and no further package, and knows the packed sequences of a GRU
        torch.onnx.export(
            _Whole(tower, tuple(inputs)).eval(),
            tuple(inputs.values()),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_axes={**free, "logits": {0: "batch"}},
        )
    write_beside(path)


def write_beside(path: Path) -> None:
    """Move the large tensors of a graph into ``.weights`` beside it.

    onnxruntime maps that file instead of copying it: MiniLM is there in half the time and with 65 MB less memory.
    """
    onnx = require("onnx", extra="export")
    graph = onnx.load(str(path))
    weights = path.with_suffix(".weights")
    weights.unlink(missing_ok=True)
    onnx.save_model(graph, str(path), save_as_external_data=True, location=weights.name, size_threshold=_INLINE_BYTES)
    weights.touch()  # a graph of small tensors leaves none


@contextmanager
def _traceable() -> Iterator[None]:
    """Switch off what the exporter cannot see through, and its chatter about constants in traces."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            _swapped(nn.functional, "adaptive_avg_pool2d", _pooled_to_grid),
            _swapped(nn.TransformerEncoderLayer, "_sa_block", _self_attention),
            warnings.catch_warnings(),
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _swapped(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _self_attention(layer: Any, x: Tensor, _: Any, padding: Tensor, is_causal: bool = False) -> Tensor:
    """The attention of a ``TransformerEncoderLayer`` over (B, N, D), whose own trace fixes N.

    ``padding`` is (B, N) float, 0 where a token counts and -inf elsewhere.
    """
    attention = layer.self_attn
    width = x.shape[-1] // attention.num_heads
    projected = nn.functional.linear(x, attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = projected.reshape(x.shape[0], -1, 3, attention.num_heads, width).permute(2, 0, 3, 1, 4).unbind(0)
    weights = (q @ k.transpose(-1, -2) / math.sqrt(width) + padding[:, None, None]).softmax(-1)
    attended: Tensor = layer.dropout1(attention.out_proj((weights @ v).transpose(1, 2).flatten(2)))
    return attended


def _pooled_to_grid(maps: Tensor, grid: int) -> Tensor:
    """``adaptive_avg_pool2d`` as two products, since ONNX only averages windows of one size."""
    rows, columns = (_averages(int(side), grid).to(maps.dtype) for side in maps.shape[-2:])
    pooled: Tensor = rows @ maps @ columns.T
    return pooled


def _averages(side: int, grid: int) -> Tensor:
    """(grid, side): row g averages the cells from floor(g·side/grid) to ceil((g+1)·side/grid)."""
    weights = torch.zeros(grid, side)
    for row in range(grid):
        first, last = row * side // grid, -(-(row + 1) * side // grid)
        weights[row, first:last] = 1 / (last - first)
    return weights
