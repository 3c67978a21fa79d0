"""From a model to ONNX graphs, checked against the model before anybody may use them. Needs torch and onnx.

A graph holds everything that an item passes: encoder, adapter, mixers, pooler, hash head. What comes before it
(decoding, tokenising) is written down as data for ``hashret.onnx.inputs``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hashret._lazy import require
from hashret.errors import InputError, MismatchError
from hashret.model import CrossModalHasher, Tower
from hashret.onnx import samples
from hashret.onnx.files import COUPLING, FOLDER, TOKENIZER, VOCABULARY, read_facts, replacing, write_facts
from hashret.onnx.graphs import write_graph
from hashret.onnx.hasher import OnnxHasher
from hashret.onnx.inputs import CROPS, FILTERS

MOST_DIFFERING = 0.001  # share of bits that rounding may turn


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
        int8: store the weights of transformers as 8-bit integers, a quarter of the size; some bits of the codes change.
        images: pictures to compare; made-up ones where there are none.
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
            write_graph(tower, items[modality][:2], part / f"{modality}.onnx")
        content = {
            "fingerprint": hasher.fingerprint,
            "n_bits": hasher.n_bits,
            "code_lengths": list(hasher.code_lengths),
            "precision": "float32",
            "towers": towers,
            "made_with": {name: require(name, extra="export").__version__ for name in ("torch", "onnx", "onnxruntime")},
        }
        rounding = hasher.config.rounding
        if rounding is not None:
            np.save(part / COUPLING, hasher.coupling.numpy())
            content["rounding_size"] = rounding.size
        write_facts(part, content)
        differing = {modality: differing_bits(hasher, part, modality, items[modality]) for modality in towers}
        _refuse(differing, items)
        if int8:
            from hashret.onnx.quantise import quantise

            for modality, facts in towers.items():
                if quantise(part / f"{modality}.onnx"):
                    facts["precision"] = content["precision"] = "int8"
            write_facts(part, content)
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
    facts = {"kind": kind, "beta": float(tower.beta), "precision": "float32"}
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
