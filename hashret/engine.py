"""A collection together with the model that made its codes: words or a picture in, hits out.

The model is loaded at the first query that needs it; a query by code or by id never loads torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hashret.collection import Collection
from hashret.errors import InputError, MismatchError

if TYPE_CHECKING:
    from hashret.collection import CollectionHits
    from hashret.model import CrossModalHasher


class Engine:
    """Search a collection with words, pictures, codes or the ids of what it holds.

    Args:
        collection: an open collection.
        model: the directory of the model, or a loaded model; without one, the directory that the collection names.
        device: where the model runs: ``"auto"``, ``"cpu"``, ``"cuda"``, ….
    """

    def __init__(
        self, collection: Collection, *, model: CrossModalHasher | str | Path | None = None, device: str = "auto"
    ) -> None:
        self.collection = collection
        self._device = device
        self._model: CrossModalHasher | None = None
        self._model_path: Path | None = None
        if model is None or isinstance(model, str | Path):
            self._model_path = Path(model) if model is not None else _named_model(collection)
        else:
            collection.check_model(model.fingerprint)
            self._model = model

    @classmethod
    def open(
        cls, path: str | Path, *, model: CrossModalHasher | str | Path | None = None, device: str = "auto"
    ) -> Engine:
        """Open the collection at ``path`` for reading.

        Raises:
            StorageError: there is no readable collection at ``path``.
        """
        return cls(Collection.open(path, mode="r"), model=model, device=device)

    @property
    def model(self) -> CrossModalHasher:
        """The model, loaded on first use.

        Raises:
            MismatchError: the model is not the one that made the collection's codes, or nobody says where it is.
        """
        if self._model is None:
            if self._model_path is None:
                raise MismatchError(
                    "the collection does not say which model made its codes; pass model= with the model's directory"
                )
            from hashret.model import CrossModalHasher  # only a query that must be encoded pays for torch

            model = CrossModalHasher.load(self._model_path, device=self._device)
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

        Returns:
            Hits with one row, ordered by (distance, insertion).

        Raises:
            InputError: none or several of ``text``, ``image``, ``code`` and ``id`` were given.
            UnknownIdError: the collection does not hold ``id``.
        """
        given = [
            name for name, value in (("text", text), ("image", image), ("code", code), ("id", id)) if value is not None
        ]
        if len(given) != 1:
            raise InputError(
                f"a search takes one of text, image, code and id; {' and '.join(given) or 'none'} was given"
            )
        return self.collection.search(self._encode(text, image, code, id), k, where=where, radius=radius)

    def _encode(self, text: str | None, image: Any, code: np.ndarray | None, id: str | int | None) -> np.ndarray:
        if id is not None:
            return self.collection.codes([id])
        if code is not None:
            return np.asarray(code)
        n_bits = self.collection.n_bits
        if text is not None:
            if not text.strip():
                raise InputError("the query is empty; give some words to look for")
            return self.model.encode_texts([text], n_bits=n_bits)
        return self.model.encode_images([image], n_bits=n_bits)

    def close(self) -> None:
        """Close the collection."""
        self.collection.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _named_model(collection: Collection) -> Path | None:
    """Where the collection says its model is; a moved pair of siblings is found again beside the collection."""
    if collection.model is None:
        return None
    named = Path(collection.model)
    beside = Path(collection.path).parent / named.name
    return beside if not named.exists() and beside.exists() else named
