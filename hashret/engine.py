"""A collection together with the model that made its codes: words or a picture in, hits out.

The model is loaded at the first query that needs it: its ONNX export where there is one, so that torch stays out. A
query by code or by id loads neither.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from hashret._lazy import available
from hashret.collection import Collection, CollectionHits
from hashret.errors import HashretError, InputError, MismatchError, MissingExtraError, StorageError
from hashret.registry import nearest

if TYPE_CHECKING:
    from hashret.model import CrossModalHasher
    from hashret.onnx import OnnxHasher

Model: TypeAlias = Union["CrossModalHasher", "OnnxHasher"]
RUNTIMES = ("auto", "onnx", "torch")

logger = logging.getLogger(__name__)


class Engine:
    """Search a collection with words, pictures, codes or the ids of what it holds.

    Args:
        collection: an open collection.
        model: the directory of the model, or a loaded model; without one, the directory that the collection names.
        device: where torch runs the model: ``"auto"``, ``"cpu"``, ``"cuda"``, ….
        runtime: what encodes queries, as for ``open_model``.
        threads: of onnxruntime for one encoding; None: all cores.

    Raises:
        InputError: there is no such runtime.
        MismatchError: the loaded model is not the one that made the collection's codes.
        StorageError: there is no directory ``model``.
    """

    def __init__(
        self,
        collection: Collection,
        *,
        model: Model | str | Path | None = None,
        device: str = "auto",
        runtime: str = "auto",
        threads: int | None = None,
    ) -> None:
        _check_runtime(runtime)
        self.collection = collection
        self._device, self._runtime, self._threads = device, runtime, threads
        self._model: Model | None = None
        self._model_path: Path | None = None
        if model is None:
            self._model_path = _named_model(collection)
        elif isinstance(model, str | Path):
            self._model_path = Path(model)
            _check_directory(self._model_path)  # now, and not when a server has long been started
        else:
            collection.check_model(model.fingerprint)
            self._model = model

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        model: Model | str | Path | None = None,
        device: str = "auto",
        runtime: str = "auto",
        threads: int | None = None,
    ) -> Engine:
        """Open the collection at ``path`` for reading.

        Raises:
            InputError: there is no such runtime.
            StorageError: there is no readable collection at ``path``, or no directory ``model``.
        """
        _check_runtime(runtime)
        return cls(Collection.open(path, mode="r"), model=model, device=device, runtime=runtime, threads=threads)

    @property
    def model(self) -> Model:
        """The model, loaded on first use.

        Raises:
            MismatchError: the model is not the one that made the collection's codes, or nobody says where it is.
            MissingExtraError: neither onnxruntime nor torch can load it.
            StorageError: it is not where the collection says.
        """
        if self._model is None:
            if self._model_path is None:
                raise MismatchError(
                    "the collection does not say which model made its codes; name the model's directory with --model "
                    "(in Python, model=)"
                )
            if not self._model_path.exists() and str(self._model_path) == self.collection.model:
                raise StorageError(
                    f"the model that made the collection's codes is not at {str(self._model_path)!r} any more; name "
                    "its directory with --model (in Python, model=)"
                )
            model = open_model(self._model_path, runtime=self._runtime, device=self._device, threads=self._threads)
            self.collection.check_model(model.fingerprint)
            self._model = model
        return self._model

    def search(
        self,
        text: str | None = None,
        *,
        image: Any = None,
        code: np.ndarray | None = None,
        id: str | int | None = None,
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        radius: int | None = None,
        relaxed: bool = False,
    ) -> CollectionHits:
        """The ``k`` nearest items to one query.

        Args:
            text: words to look for.
            image: a picture to look for: a path, bytes, a PIL image or an (H, W, 3) uint8 array.
            code: (n_bytes,) uint8, a packed code.
            id: an item of the collection, for "more like this".
            k: how many hits; fewer are padded with -1 distances.
            where: a metadata filter, as in :meth:`Collection.search`.
            radius: only items at this many differing bits or fewer.
            relaxed: order the nearest items by how sure the model is of each bit of the query, as in
                :meth:`Collection.search_asymmetric`, which finds more. For words and pictures, without ``radius``.

        Returns:
            Hits with one row, ordered by (distance, insertion); with ``relaxed`` by falling score first.

        Raises:
            InputError: none or several of ``text``, ``image``, ``code`` and ``id`` were given, the words are empty,
                ``k``, ``where`` or ``radius`` cannot be used, or ``relaxed`` goes with ``code``, ``id`` or ``radius``.
            CodeError: ``code`` does not fit the collection's width.
            DataError: the picture cannot be read.
            UnknownIdError: the collection does not hold ``id``.
            MismatchError, MissingExtraError: as for ``model``, which words and pictures need.
        """
        given = [
            name for name, value in (("text", text), ("image", image), ("code", code), ("id", id)) if value is not None
        ]
        if len(given) != 1:
            raise InputError(
                f"a search takes one of text, image, code and id; {' and '.join(given) or 'none'} was given"
            )
        if relaxed and (code is not None or id is not None):
            raise InputError("relaxed needs words or a picture: codes, given or stored, have no floats; leave it out")
        if relaxed and radius is not None:
            raise InputError("a relaxed search goes by scores and takes no radius; leave radius or relaxed out")
        query = self._encode(text, image, code, id, relaxed=relaxed)
        if relaxed:
            hits = self.collection.search_asymmetric(query, k, where=where)
            return CollectionHits(hits.ids, hits.distances, hits.metadata)
        return self.collection.search(query, k, where=where, radius=radius)

    def _encode(
        self, text: str | None, image: Any, code: np.ndarray | None, id: str | int | None, *, relaxed: bool
    ) -> np.ndarray:
        if id is not None:
            return self.collection.codes([id])
        if code is not None:
            return np.asarray(code)
        n_bits = self.collection.n_bits
        if text is not None:
            if not isinstance(text, str):
                raise InputError(f"text must be a str, and {text!r} is none; a picture is given as image=")
            if not text.strip():
                raise InputError("the query is empty; give some words to look for")
            return self.model.encode_texts([text], relaxed=relaxed, n_bits=n_bits)
        return self.model.encode_images([image], relaxed=relaxed, n_bits=n_bits)

    def close(self) -> None:
        """Close the collection."""
        self.collection.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_model(path: str | Path, *, runtime: str = "auto", device: str = "auto", threads: int | None = None) -> Model:
    """The model in a directory, by torch or by onnxruntime.

    Args:
        path: the directory of a model, or of an export.
        runtime: ``"onnx"``: its export; ``"torch"``: the model itself; ``"auto"``: the export where there is a valid
            one of this very model and onnxruntime is installed, else torch.
        device: where torch runs it; with another than ``"auto"`` and ``"cpu"``, ``"auto"`` means torch.
        threads: of onnxruntime for one encoding; None: all cores.

    Raises:
        InputError: there is no such runtime.
        MissingExtraError: what the model needs is not installed; the message ends with the install lines.
        MismatchError: the export is of another model than the one it lies with.
        StorageError: there is no model, or no export of it.
        CorruptError: a file is missing or damaged.
    """
    _check_runtime(runtime)
    _check_directory(Path(path))  # told before what is not installed, which would not help
    if runtime == "onnx" or (runtime == "auto" and device in ("auto", "cpu") and available("onnxruntime")):
        from hashret.onnx import OnnxHasher, find_export

        if runtime == "onnx" or find_export(path) is not None:
            try:
                exported = OnnxHasher.load(path, threads=threads)
                _check_export(exported, Path(path))
                return exported
            except HashretError as error:
                if runtime == "onnx" or not _has_torch() or not (Path(path) / "model.json").is_file():
                    raise
                logger.warning("%s; torch is used instead", error)
    if runtime == "auto" and not _has_torch():
        raise MissingExtraError(
            f"the model in {str(path)!r} cannot be loaded: neither torch nor onnxruntime with an export of the model "
            f"(hashret export MODEL --onnx) is here; install one of them: pip install 'hashret[onnx]' or "
            f"pip install 'hashret[learn]'"
        )
    from hashret.model import CrossModalHasher  # only a query that must be encoded pays for torch

    return CrossModalHasher.load(path, device=device)


def _check_runtime(runtime: str) -> None:
    if runtime not in RUNTIMES:
        raise InputError(f"there is no runtime {runtime!r}{nearest(runtime, RUNTIMES)}")


def _check_export(exported: OnnxHasher, path: Path) -> None:
    """Refuse an export that was made before its model was trained anew."""
    try:
        known = json.loads((path / "model.json").read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # an export by itself
    if known != exported.fingerprint:
        raise MismatchError(
            f"the ONNX export in {str(path)!r} is of another model than the one beside it; "
            f"export it again: hashret export {path} --onnx"
        )


def _check_directory(model: Path) -> None:
    if not model.is_dir():
        raise StorageError(f"there is no directory {str(model)!r}; give that of a model, such as RUN/model")


def _has_torch() -> bool:
    return available("torch") and available("timm")


def _named_model(collection: Collection) -> Path | None:
    """Where the collection says its model is; a moved pair of siblings is found again beside the collection."""
    if collection.model is None:
        return None
    named = Path(collection.model)
    beside = Path(collection.path).parent / named.name
    return beside if not named.exists() and beside.exists() else named
