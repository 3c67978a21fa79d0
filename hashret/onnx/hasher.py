"""The model without torch: pictures and words in, packed codes out, by onnxruntime.

Says and takes what ``CrossModalHasher`` does. Must not import torch, transformers or timm.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from hashret._lazy import progress, require
from hashret.arrays import l2_normalised
from hashret.codes import pack
from hashret.errors import CorruptError, InputError
from hashret.onnx.files import AGAIN, COUPLING, Facts, read_facts
from hashret.onnx.inputs import Inputs, inputs_of
from hashret.registry import nearest
from hashret.rounding import Rounding, relaxed_codes


class OnnxHasher:
    """Two exported towers that map images and texts into one space of binary codes.

    A tower is read, checked and set up at the first item of its modality. Several threads may encode at once.

    Args:
        facts: what the export says.
        threads: of one encoding; None: all cores.
    """

    def __init__(self, facts: Facts, *, threads: int | None = None) -> None:
        self.facts = facts
        self._threads = threads
        self._towers: dict[str, _Tower] = {}
        self._rounding: Rounding | None = None
        self._lock = Lock()

    @classmethod
    def load(cls, directory: str | Path, *, threads: int | None = None) -> OnnxHasher:
        """The export in ``directory``, or in the directory of its model.

        Raises:
            MissingExtraError: onnxruntime is not installed.
            StorageError: there is no export.
            CorruptError: ``export.json`` is damaged, or a file is missing or of another size; what the files hold is
                checked when their tower is first asked.
            VersionError: a later hashret wrote it.
        """
        facts = read_facts(directory)
        facts.check_sizes()
        require("onnxruntime", extra="onnx")
        return cls(facts, threads=threads)

    @property
    def n_bits(self) -> int:
        """Length of a whole code."""
        return self.facts.n_bits

    @property
    def code_lengths(self) -> tuple[int, ...]:
        """Prefixes that were trained to be codes of their own; always with ``n_bits``, ascending."""
        return self.facts.code_lengths

    @property
    def fingerprint(self) -> str:
        """That of the model that was exported."""
        return self.facts.fingerprint

    @property
    def precision(self) -> str:
        """``float32``, or ``int8``, whose codes differ from the model's in some bits."""
        return self.facts.precision

    def encode_images(
        self, images: Sequence[Any], *, relaxed: bool = False, n_bits: int | None = None, batch_size: int = 64
    ) -> np.ndarray:
        """Codes of pictures (paths, bytes, PIL images, arrays).

        Args, Returns and Raises: as in ``encode``: (N, n_bytes) uint8, or with ``relaxed`` (N, n_bits) float32.
        """
        return self.encode("image", images, relaxed=relaxed, n_bits=n_bits, batch_size=batch_size)

    def encode_texts(
        self, texts: Sequence[str], *, relaxed: bool = False, n_bits: int | None = None, batch_size: int = 64
    ) -> np.ndarray:
        """Codes of texts.

        Args, Returns and Raises: as in ``encode``: (N, n_bytes) uint8, or with ``relaxed`` (N, n_bits) float32.
        """
        return self.encode("text", texts, relaxed=relaxed, n_bits=n_bits, batch_size=batch_size)

    def encode(
        self,
        modality: str,
        items: Sequence[Any],
        *,
        relaxed: bool = False,
        n_bits: int | None = None,
        batch_size: int = 64,
    ) -> np.ndarray:
        """Codes of items.

        Args:
            modality: ``image`` or ``text``.
            items: pictures or strings.
            relaxed: give relaxed codes instead.
            n_bits: only the first bits of each code; None: all. ``code_lengths`` are the prefixes that were trained.
            batch_size: items encoded together; by a graph with 8-bit weights each is encoded alone.

        Returns:
            (N, n_bytes) uint8 codes; with ``relaxed`` (N, n_bits) float32 in (-1, 1), whose signs are the bits.

        Raises:
            InputError: an unknown modality, a length or batch size out of range, or one string for a list of them.
            DataError: an item cannot be read.
            CorruptError: a file of the export is missing or damaged.
        """
        logits = self._logits(modality, items, n_bits=n_bits, batch_size=batch_size)
        size = self.facts.rounding_size
        rounding = None if size is None else self._rounds(size)
        beta = self.facts.towers[modality]["beta"]
        rounded = relaxed_codes(logits, beta=beta, rounding=rounding, n_bits=n_bits)
        return rounded if relaxed else pack(rounded)

    def encode_floats(
        self, modality: str, items: Sequence[Any], *, n_bits: int | None = None, batch_size: int = 64
    ) -> np.ndarray:
        """The float vectors that codes stand for: their cosines are what the distances of codes approximate.

        Their signs are the bits where the model has no rounding.

        Args:
            modality: ``image`` or ``text``.
            items: pictures or strings.
            n_bits: only the first coordinates; None: all.
            batch_size: items encoded together.

        Returns:
            (N, n_bits) float32 of unit length.

        Raises:
            InputError: an unknown modality, a length or batch size out of range, or one string for a list of them.
            DataError: an item cannot be read.
            CorruptError: a file of the export is missing or damaged.
        """
        logits = self._logits(modality, items, n_bits=n_bits, batch_size=batch_size)[:, :n_bits]
        return l2_normalised(logits)

    def _logits(self, modality: str, items: Sequence[Any], *, n_bits: int | None, batch_size: int) -> np.ndarray:
        if n_bits is not None and not 1 <= n_bits <= self.n_bits:
            raise InputError(f"n_bits must lie between 1 and the model's {self.n_bits}, and is {n_bits}")
        if modality not in self.facts.towers:
            raise InputError(f"there is no modality {modality!r}{nearest(modality, tuple(self.facts.towers))}")
        if isinstance(items, str | bytes | Path):
            raise InputError(f"items must be a list, and {items!r} is one item; write [{items!r}]")
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, and is {batch_size}")
        tower = self._tower(modality)
        batch_size = 1 if tower.alone else batch_size
        # items of one size share a batch: with little padding texts are encoded about twice as fast
        order = sorted(range(len(items)), key=lambda row: tower.inputs.size_of(items[row]))
        logits = np.empty((len(items), self.n_bits), dtype=np.float32)
        starts = range(0, len(items), batch_size)
        for begin in progress(starts, label=f"encoding {modality}s", total=len(starts), unit="batch"):
            rows = order[begin : begin + batch_size]
            logits[rows] = tower.run(tower.inputs.prepare([items[row] for row in rows]))
        return logits

    def _rounds(self, size: float) -> Rounding:
        with self._lock:
            if self._rounding is None:
                coupling = np.load(self.facts.checked(COUPLING), allow_pickle=False)
                self._rounding = Rounding(coupling, size, self.code_lengths)
            return self._rounding

    def _tower(self, modality: str) -> _Tower:
        with self._lock:  # two first queries at once would set it up twice
            if modality not in self._towers:
                self._towers[modality] = _open(self.facts, modality, self._threads)
            return self._towers[modality]


class _Tower(NamedTuple):
    """What turns items into inputs, and inputs into (B, n_bits) logits; ``alone``: only ever one item at a time."""

    inputs: Inputs
    run: Any
    alone: bool


def _open(facts: Facts, modality: str, threads: int | None) -> _Tower:
    inputs = inputs_of(facts, modality)
    graph = facts.checked(f"{modality}.onnx")
    facts.checked(f"{modality}.weights")
    # an 8-bit graph rounds its whole input by one scale: beside others, or padded, an item would get another code
    alone = facts.towers[modality].get("precision", facts.precision) == "int8"
    return _Tower(inputs, session(graph, threads=threads), alone)


def session(graph: Path, *, threads: int | None = None) -> Any:
    """The graph in a file as a function from its inputs to its first output.

    Raises:
        CorruptError: onnxruntime cannot read it.
    """
    runtime = require("onnxruntime", extra="onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    # its threads would else keep their cores busy for a while after each encoding, in case another comes
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # its warnings speak of nodes that nobody here can change
    try:
        opened = runtime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors derive from Exception alone
        reason = " ".join(str(error).split())[:200]
        raise CorruptError(f"onnxruntime cannot read {str(graph)!r}: {reason}; {AGAIN}") from error
    return partial(_run, opened)


def _run(opened: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    logits: np.ndarray = opened.run(None, inputs)[0]
    return logits
