"""From a model to ONNX graphs, checked against the model before anybody may use them. Needs torch and onnx.

A graph holds everything that an item passes: encoder, adapter, mixers, pooler, hash head. What comes before it
(decoding, tokenising) is written down as data for ``hashret.onnx.inputs``.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hashret._lazy import require
from hashret.encoders import Encoder
from hashret.errors import InputError, MismatchError
from hashret.model import CrossModalHasher, Tower
from hashret.onnx import samples
from hashret.onnx.files import FOLDER, TOKENIZER, VOCABULARY, read_facts, replacing, write_facts
from hashret.onnx.hasher import OnnxHasher
from hashret.onnx.inputs import CROPS, FILTERS

OPSET = 17
MOST_DIFFERING = 0.001  # share of bits that rounding may turn
_INLINE_BYTES = 1024  # tensors up to this size stay in the graph


@dataclass(frozen=True)
class Exported:
    """An export that was written.

    Attributes:
        directory: where.
        precision: "float32" or "int8".
        n_bytes: size of its files together.
        differing: share of bits, by modality, in which its codes of the sample differ from the model's.
        compared: items of the sample, by modality.
    """

    directory: Path
    precision: str
    n_bytes: int
    differing: Mapping[str, float]
    compared: Mapping[str, int]


def export_model(
    hasher: CrossModalHasher,
    out: str | Path,
    *,
    int8: bool = False,
    images: Sequence[Any] = (),
    texts: Sequence[str] = (),
) -> Exported:
    """Write the whole model as ONNX, in the place of an earlier export.

    The codes of the sample are computed by torch and by onnxruntime. Where more than 0.1 % of the bits of the float32
    graphs differ, nothing is written.

    Args:
        hasher: the model; it is moved to the CPU.
        out: the directory to make; ``MODEL/onnx`` is where the engine looks.
        int8: store weights as 8-bit integers, a quarter of the size; some bits of the codes change.
        images: pictures to compare, and to calibrate the int8 graph of a CNN by; made-up ones where there are none.
        texts: texts to compare; made-up ones where there are none.

    Raises:
        InputError: a tower encodes features of one's own, or prepares its items in a way that cannot be exported.
        MismatchError: the graphs give other codes than the model.
        MissingExtraError: onnx or onnxruntime is not installed.
        StorageError: ``out`` holds something else, or cannot be written.
    """
    require("onnx", extra="export")
    require("onnxruntime", extra="export")
    hasher = hasher.to("cpu").eval()
    items: dict[str, Sequence[Any]] = {
        "image": images or samples.pictures(),
        "text": texts or samples.texts(),
    }
    out = Path(out)
    towers = {modality: _describe(hasher.tower(modality)) for modality in ("image", "text")}  # or refuse, before work
    with replacing(out) as part:
        for modality in towers:
            tower = hasher.tower(modality)
            _write_words(tower.encoder, part)
            _write_graph(tower, items[modality][:2], part / f"{modality}.onnx")
        content = {
            "fingerprint": hasher.fingerprint,
            "n_bits": hasher.n_bits,
            "code_lengths": list(hasher.code_lengths),
            "precision": "float32",
            "towers": towers,
            "made_with": {name: require(name, extra="export").__version__ for name in ("torch", "onnx", "onnxruntime")},
        }
        write_facts(part, content)
        differing = {modality: differing_bits(hasher, part, modality, items[modality]) for modality in towers}
        _refuse(differing, items)
        if int8:
            from hashret.onnx.quantise import quantise

            for modality in towers:
                inputs = OnnxHasher.load(part).prepared(modality, items[modality])
                quantise(part / f"{modality}.onnx", calibration=inputs)
            write_facts(part, {**content, "precision": "int8"})
            differing = {modality: differing_bits(hasher, part, modality, items[modality]) for modality in towers}
        n_bytes = sum(path.stat().st_size for path in part.iterdir())
    compared = {modality: len(items[modality]) for modality in towers}
    return Exported(out, read_facts(out).precision, n_bytes, differing, compared)


def default_out(model: str | Path) -> Path:
    """Where the engine looks for the export of the model in ``model``."""
    return Path(model) / FOLDER


def differing_bits(hasher: CrossModalHasher, directory: Path, modality: str, items: Sequence[Any]) -> float:
    """The share of bits in which the codes of an export differ from those of its model."""
    ours = OnnxHasher.load(directory).encode(modality, items)
    wrong = np.bitwise_count(ours ^ hasher.encode(modality, items)).sum()
    return float(wrong) / max(len(items) * hasher.n_bits, 1)


def _refuse(differing: Mapping[str, float], items: Mapping[str, Sequence[Any]]) -> None:
    for modality, share in differing.items():
        if share > MOST_DIFFERING:
            raise MismatchError(
                f"the exported {modality} tower differs from the model in {share:.2%} of the bits of "
                f"{len(items[modality])} {modality}s, more than the {MOST_DIFFERING:.1%} that rounding explains; "
                f"nothing was written: go on with torch, and report the architecture"
            )


# --- what turns an item into the graph's input


def _describe(tower: Tower) -> dict[str, Any]:
    """The tower's part of ``export.json``."""
    encoder: Any = tower.encoder
    kind = encoder.config.kind
    facts = {"kind": kind, "beta": float(tower.beta)}
    if kind == "image":
        preprocessing = encoder.preprocessing
        if preprocessing.interpolation not in FILTERS or preprocessing.crop_mode not in CROPS:
            raise InputError(
                f"pictures that are resized by {preprocessing.interpolation!r} and cropped by "
                f"{preprocessing.crop_mode!r} cannot be prepared without torch; the export knows {', '.join(FILTERS)} "
                f"and {', '.join(CROPS)}"
            )
        return facts | {"preprocessing": asdict(preprocessing)}
    if kind == "text":
        if getattr(encoder.tokenizer, "backend_tokenizer", None) is None:
            raise InputError(
                f"the tokenizer of {encoder.config.name!r} is written in Python and cannot be exported; "
                f"choose a model with a tokenizer.json"
            )
        return facts | {"prefix_text": encoder.prefix_text}
    if kind == "bag":
        return facts | {"weighting": encoder.config.name, "width": encoder.width}
    raise InputError(
        f"the {tower.modality} tower encodes {kind} of your own, which no query of words or pictures can be turned "
        f"into; export a model whose towers read pictures and texts"
    )


def _write_words(encoder: Any, directory: Path) -> None:
    """The tokenizer or the vocabulary of a text encoder."""
    if encoder.config.kind == "text":
        encoder.prepare(["a"])  # after a call the tokenizer holds its truncation and padding
        (directory / TOKENIZER).write_text(encoder.tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
    elif encoder.config.kind == "bag":
        content = {"words": encoder.bags.words, "idf": encoder.bags.idf}
        (directory / VOCABULARY).write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


# --- the graph


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


def _write_graph(tower: Tower, items: Sequence[Any], path: Path) -> None:
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
    beside_graph(path)


def beside_graph(path: Path) -> None:
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
