"""LangChain's vector store over a collection, and a model as LangChain's embeddings.

A vector becomes a code by its signs, so any ``Embeddings`` can fill a store; those of a hashret model are made for it.
The text of a document is kept in the metadata under ``text_key``, beside the document's own, and a ``filter`` is a
filter of ``Collection.search``.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hashret._lazy import require
from hashret._text import integer_id
from hashret.codes import pack, unpack
from hashret.collection import Collection
from hashret.engine import open_model
from hashret.errors import InputError

if TYPE_CHECKING:
    from hashret.engine import Model

documents = require("langchain_core.documents", extra="langchain")
embeddings_api = require("langchain_core.embeddings", extra="langchain")
vectorstores = require("langchain_core.vectorstores", extra="langchain")
vectorstore_utils = require("langchain_core.vectorstores.utils", extra="langchain")


class HashretEmbeddings(embeddings_api.Embeddings):  # type: ignore[misc, name-defined]
    """Relaxed codes of a hashret model as LangChain's embeddings; their signs are the bits.

    Args:
        model: a loaded model, or its directory.
        n_bits: the first so many only.
    """

    def __init__(self, model: Model | str | Path, *, n_bits: int | None = None) -> None:
        self.model: Any = open_model(model) if isinstance(model, str | Path) else model
        self.n_bits = n_bits

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """One vector a text."""
        vectors: list[list[float]] = self.model.encode("text", texts, relaxed=True, n_bits=self.n_bits).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """The vector of one text."""
        return self.embed_documents([text])[0]


class HashretVectorStore(vectorstores.VectorStore):  # type: ignore[misc, name-defined]
    """A collection as a LangChain vector store. Scores are distances: the fewer bits differ, the better.

    Args:
        collection: open, for writing where documents are to be added.
        embedding: whose vectors have as many dimensions as the collection has bits.
        text_key: the metadata field that holds a document's text.
    """

    def __init__(self, collection: Collection, embedding: Any, *, text_key: str = "text") -> None:
        self.collection = collection
        self._embedding, self._text_key = embedding, text_key
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Any,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        path: str | Path | None = None,
        text_key: str = "text",
        **kwargs: Any,
    ) -> HashretVectorStore:
        """A store with these texts, in a new collection at ``path``; in a temporary one without.

        Raises:
            StorageError: there is something at ``path``. After any error there is no new collection.
        """
        temporary = tempfile.TemporaryDirectory(prefix="hashret-") if path is None else None
        place = Path(path) if temporary is None else Path(temporary.name) / "texts.hashret"  # type: ignore[arg-type]
        n_bits = len(embedding.embed_query("width"))
        store = cls(Collection.create(place, n_bits=n_bits), embedding, text_key=text_key)
        store._temporary = temporary  # deleted with the store
        try:
            store.add_texts(texts, metadatas, ids=ids)
        except BaseException:  # an empty collection would stand in the way of the next try
            store.collection.close()
            shutil.rmtree(place, ignore_errors=True)
            raise
        return store

    @property
    def embeddings(self) -> Any:
        """What makes the vectors."""
        return self._embedding

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Store texts, in place of those with the same ids; their ids, drawn at random where none are given.

        Raises:
            InputError: texts, metadata and ids are not equally many, a metadatum is called like ``text_key``, or the
                embeddings are not as wide as the codes.
        """
        texts = list(texts)
        if not texts:
            return []
        if any(several is not None and len(several) != len(texts) for several in (metadatas, ids)):
            raise InputError(f"{len(texts)} texts need as many metadata and ids")
        given = [metadata or {} for metadata in metadatas or [{}] * len(texts)]
        if any(self._text_key in metadata for metadata in given):
            raise InputError(f"the metadata field {self._text_key!r} is the text's own; choose another text_key")
        names = [id or str(uuid.uuid4()) for id in ids or [None] * len(texts)]
        stored = [{**metadata, self._text_key: text} for text, metadata in zip(texts, given)]
        self.collection.upsert(self._codes(self._embedding.embed_documents(texts)), names, stored)
        return names

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Remove these documents, or all; unknown ids are passed over."""
        self.collection.delete(list(self.collection) if ids is None else self._known(ids))
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Any]:
        """The documents with these ids; unknown ids are passed over."""
        items = self.collection.get(self._known(ids))
        return [self._document(id, metadata) for id, metadata in zip(items.ids, items.metadata)]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Any]:
        """The ``k`` nearest documents; ``filter`` narrows them by metadata.

        Raises:
            InputError: any other option, which would change nothing.
        """
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(self, query: str, k: int = 4, **kwargs: Any) -> list[tuple[Any, float]]:
        """The ``k`` nearest documents with their distances."""
        return self._search(self._embedding.embed_query(query), k, **kwargs)

    def similarity_search_by_vector(self, embedding: list[float], k: int = 4, **kwargs: Any) -> list[Any]:
        """The ``k`` documents nearest to the code of a vector."""
        return [document for document, _ in self._search(embedding, k, **kwargs)]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Any]:
        """``k`` of the ``fetch_k`` nearest documents, near the query and unlike each other.

        Alike is how much two codes agree: 1 - 2 · distance / bits.

        Args:
            query: words.
            k: documents, at most.
            fetch_k: candidates, by distance.
            lambda_mult: what nearness counts beside difference, from 0 to 1.
            kwargs: ``filter``.

        *Source:* Carbonell & Goldstein, SIGIR 1998.
        """
        return self.max_marginal_relevance_search_by_vector(
            self._embedding.embed_query(query), k, fetch_k, lambda_mult, **kwargs
        )

    def max_marginal_relevance_search_by_vector(
        self, embedding: list[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **kwargs: Any
    ) -> list[Any]:
        """As ``max_marginal_relevance_search``, from a vector."""
        query = self._codes([embedding])
        with self.collection.snapshot() as now:  # else an item may be gone when its code is asked for
            hits = _hits(now, query, fetch_k, **kwargs)
            items = now.get([id for id, _, _ in hits])
        asked, found = (np.where(unpack(c, n_bits=now.n_bits), 1.0, -1.0) for c in (query, items.codes))
        rows = vectorstore_utils.maximal_marginal_relevance(asked, list(found), lambda_mult, k)
        return [self._document(items.ids[row], items.metadata[row]) for row in rows]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda distance: 1.0 - distance / self.collection.n_bits

    def _search(self, vector: list[float], k: int, **kwargs: Any) -> list[tuple[Any, float]]:
        hits = _hits(self.collection, self._codes([vector]), k, **kwargs)
        return [(self._document(id, metadata), float(distance)) for id, distance, metadata in hits]

    def _known(self, ids: Sequence[str]) -> list[str | int]:
        """The collection's ids among some of documents, which are texts also where the collection's are numbers."""
        known: list[str | int] = []
        for id in ids:
            names = (id, integer_id(id))  # the text comes first
            known += [name for name in names if name is not None and name in self.collection][:1]
        return known

    def _codes(self, vectors: list[list[float]]) -> np.ndarray:
        array, n_bits = np.asarray(vectors, np.float32), self.collection.n_bits
        if array.shape[1] != n_bits:  # where the bytes agree, the collection cannot see it
            raise InputError(
                f"the embeddings have {array.shape[1]} dimensions and the collection's codes {n_bits} bits; "
                f"give embeddings of {n_bits} dimensions, or another collection"
            )
        return pack(array)

    def _document(self, id: Any, metadata: dict[str, Any] | None) -> Any:
        """A document; an item that this store did not make has its first caption as text, or none."""
        rest = dict(metadata or {})
        text = rest.pop(self._text_key, None)
        if text is None:
            captions = rest.get("captions") or ""
            text = captions[0] if isinstance(captions, list) else captions
        return documents.Document(id=str(id), page_content=str(text), metadata=rest)


def _hits(
    collection: Collection, code: np.ndarray, k: int, *, filter: dict[str, Any] | None = None, **unknown: Any
) -> list[tuple[str | int, int, dict[str, Any] | None]]:
    """Id, distance and metadata of the nearest items."""
    if unknown:
        raise InputError(f"a search in this store has no option {min(unknown)!r}; it has k and filter")
    hits = collection.search(code, k, where=filter)
    rows = zip(hits.ids[0], hits.distances[0], hits.metadata[0])
    return [(id, int(distance), metadata) for id, distance, metadata in rows if id is not None]
