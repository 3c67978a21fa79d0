"""An exported model is a directory, beside its model as ``onnx/`` or anywhere else:

    export.json          format, fingerprint of the model, n_bits, code lengths, towers, size and sha256 of each file
    image.onnx           the graph from (B, 3, S, S) uint8 pixels to (B, n_bits) float32 logits
    image.weights        its large tensors, which the runtime maps instead of copying
    text.onnx, .weights  the graph from token ids and mask (B, L) int64, or a bag of words (B, V) float32
    tokenizer.json       of a text model, with its truncation and padding
    vocabulary.json      of a bag of words
    coupling.npy         (n_bits, n_bits) float32, where bits are chosen together, see ``hashret.rounding``

It is written beside its place and moved there when it is complete and checked. Knows neither torch nor onnxruntime.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hashret._files import replacing_directory
from hashret.errors import CorruptError, StorageError, VersionError

FORMAT = 2  # 1 had no rounding
FACTS = "export.json"
FOLDER = "onnx"  # where an export lies in the directory of its model
TOKENIZER, VOCABULARY, COUPLING = "tokenizer.json", "vocabulary.json", "coupling.npy"
AGAIN = "export the model again: hashret export MODEL --onnx"


@dataclass(frozen=True)
class Facts:
    """What ``export.json`` says.

    Attributes:
        directory: of the export.
        fingerprint: of the model that was exported.
        n_bits: length of a whole code.
        code_lengths: the prefixes that were trained, ascending.
        precision: "float32", or "int8" where a graph has 8-bit weights.
        towers: of "image" and "text", what turns an item into the graph's input, ``beta``, and the graph's own
            ``precision`` (of earlier exports, that of the whole).
        files: size in bytes and sha256 of every file.
        rounding_size: of the rounding whose coupling lies in ``coupling.npy``; None: bits are signs.
    """

    directory: Path
    fingerprint: str
    n_bits: int
    code_lengths: tuple[int, ...]
    precision: str
    towers: dict[str, dict[str, Any]]
    files: dict[str, dict[str, Any]]
    rounding_size: float | None = None

    def check_sizes(self) -> None:
        """Look at every file of the export, and read none: that is for ``checked``, when the file is needed.

        Raises:
            CorruptError: one is missing, or has another size.
        """
        for name in self.files:
            self.checked(name, whole=False)

    def checked(self, name: str, *, whole: bool = True) -> Path:
        """The path of a file of the export, once its bytes (or their number) were found to be those that were written.

        Raises:
            CorruptError: the file is missing, or differs.
        """
        path = self.directory / name
        try:
            known = self.files[name]
            if path.stat().st_size == known["bytes"] and (not whole or _sha256(path) == known["sha256"]):
                return path
        except (OSError, KeyError, TypeError) as error:
            raise CorruptError(f"the export in {str(self.directory)!r} lacks {name}; {AGAIN}") from error
        raise CorruptError(f"{str(path)!r} is damaged or of another export; {AGAIN}")


def find_export(directory: str | Path) -> Path | None:
    """The export in the directory of a model, or the directory itself where it is one; None: there is none."""
    for place in (Path(directory) / FOLDER, Path(directory)):
        if (place / FACTS).is_file():
            return place
    return None


def read_facts(directory: str | Path) -> Facts:
    """What the export in the directory of a model, or the directory itself, says.

    Raises:
        StorageError: there is no export.
        CorruptError: ``export.json`` is damaged.
        VersionError: a later hashret wrote it.
    """
    place = find_export(directory)
    if place is None:
        raise StorageError(f"{str(directory)!r} holds no ONNX export: it has no {FACTS}; {AGAIN}")
    path = place / FACTS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = int(content["format"])
        if version > FORMAT:
            raise VersionError(
                f"{str(place)!r} has format {version}, and this hashret reads up to {FORMAT}; install a newer hashret"
            )
        towers = {modality: dict(content["towers"][modality]) for modality in ("image", "text")}
        for tower in towers.values():
            _ = str(tower["kind"]), float(tower["beta"])
        return Facts(
            directory=place,
            fingerprint=str(content["fingerprint"]),
            n_bits=int(content["n_bits"]),
            code_lengths=tuple(int(length) for length in content["code_lengths"]),
            precision=str(content["precision"]),
            towers=towers,
            files=dict(content["files"]),
            rounding_size=None if content.get("rounding_size") is None else float(content["rounding_size"]),
        )
    except VersionError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptError(f"{str(path)!r} is damaged: {' '.join(str(error).split())[:200]}; {AGAIN}") from error


def write_facts(directory: Path, content: dict[str, Any]) -> None:
    """Write ``export.json`` for the files in ``directory``."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(directory.iterdir())
        if path.name != FACTS
    }
    # without a rounding, versions that know format 1 alone read it as well
    version = 1 if content.get("rounding_size") is None else FORMAT
    text = json.dumps({"format": version, **content, "files": files}, indent=1, ensure_ascii=False)
    (directory / FACTS).write_text(text + "\n", encoding="utf-8")


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """A new directory beside ``directory`` to write in; it takes its place when the block ends well.

    Raises:
        StorageError: ``directory`` holds something else than an export, or cannot be written.
    """
    foreign = directory.exists() and not (directory / FACTS).is_file()
    if foreign and (not directory.is_dir() or any(directory.iterdir())):
        raise StorageError(f"{str(directory)!r} holds something else than an export; give another directory")
    with replacing_directory(directory, what="the export") as part:
        yield part


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
