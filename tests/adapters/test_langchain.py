"""The vector store with a real model, under LangChain's names."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

import hashret
from hashret import Collection, CrossModalHasher
from hashret.errors import InputError, StorageError

pytest.importorskip("langchain_core", reason="pip install 'hashret[langchain]'")
adapters = importlib.import_module("hashret.adapters.langchain")
HashretEmbeddings, HashretVectorStore = adapters.HashretEmbeddings, adapters.HashretVectorStore


@pytest.fixture(scope="module")
def embeddings(world):
    return HashretEmbeddings(CrossModalHasher.load(world.model))


def test_documents_are_found_by_a_models_codes(embeddings, tmp_path):
    texts = ["a red circle", "a blue square", "a black bar"]
    store = HashretVectorStore.from_texts(
        texts, embeddings, [{"n": n} for n in range(3)], ids=["a", "b", "c"], path=tmp_path / "t.hashret"
    )
    (document, distance), *_ = store.similarity_search_with_score("a blue square", k=1)
    assert (document.id, document.page_content, document.metadata, distance) == ("b", "a blue square", {"n": 1}, 0.0)
    assert [d.id for d in store.similarity_search("a blue square", k=3, filter={"n": {"gte": 2}})] == ["c"]
    assert store.similarity_search_with_relevance_scores("a blue square", k=1)[0][1] == 1.0
    assert store.as_retriever(search_kwargs={"k": 2}).invoke("a blue square")[0].id == "b"
    store.collection.close()
    with Collection.open(tmp_path / "t.hashret") as collection:
        assert HashretVectorStore(collection, embeddings).get_by_ids(["c"])[0].page_content == "a black bar"


def test_documents_unlike_each_other_are_found(tmp_path):
    class Signs:
        """Words that are their own vectors."""

        def embed_query(self, text):
            return [1.0 if sign == "+" else -1.0 for sign in text.ljust(8)[:8]]

        def embed_documents(self, texts):
            return [self.embed_query(text) for text in texts]

    near, nearly, other = "+++++++-", "++++++--", "----++++"
    store = HashretVectorStore.from_texts([nearly, other, near], Signs(), [{"n": n} for n in range(3)])
    retriever = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "fetch_k": 3, "lambda_mult": 0.3})
    assert [each.page_content for each in retriever.invoke("++++++++")] == [near, other]
    plain = {"k": 2, "fetch_k": 3, "lambda_mult": 1.0}
    assert [d.page_content for d in store.max_marginal_relevance_search("++++++++", **plain)] == [near, nearly]
    few = store.max_marginal_relevance_search("++++++++", k=9, filter={"n": {"lte": 1}})
    assert [each.metadata["n"] for each in few] == [0, 1]
    assert store.max_marginal_relevance_search("++++++++", filter={"n": 7}) == []


def test_options_that_would_change_nothing_are_refused(embeddings):
    store = HashretVectorStore.from_texts(["a red circle"], embeddings, [None])
    for option in ({"where": {"n": 1}}, {"filters": {"n": 1}}):
        with pytest.raises(InputError, match=f"no option '{next(iter(option))}'; it has k and filter"):
            store.similarity_search("a red circle", **option)


def test_items_of_another_program_are_documents_too(embeddings, tmp_path):
    with Collection.create(tmp_path / "c.hashret", n_bits=32) as collection:
        codes = hashret.pack(np.asarray(embeddings.embed_documents(["a red circle", "a blue square", "a black bar"])))
        about = [{"captions": "a red circle"}, {"captions": ["a blue square", "blue"]}, {}]
        collection.add(codes, [1, -20, 300], about)
        collection.add(codes[:1], ["1"])
        store = HashretVectorStore(collection, embeddings)
        found = {each.id: each.page_content for each in store.similarity_search("a red circle", k=4)}
        assert found.keys() == {"1", "-20", "300"}
        documents = store.get_by_ids(["-20", "300", "4", "x", "9" * 30, "²"])
        assert [each.page_content for each in documents] == ["a blue square", ""]
        assert store.delete(["300", "1"]) and list(collection) == [1, -20]  # the text "1" comes before the number
        assert store.get_by_ids(["1"])[0].page_content == "a red circle"


class Failing:
    """Embeddings of 32 dimensions whose service has an end."""

    def embed_query(self, text):
        return [1.0] * 32

    def embed_documents(self, texts):
        raise ConnectionError("no more today")


def test_texts_that_cannot_be_stored_leave_no_collection(embeddings, tmp_path):
    path = tmp_path / "t.hashret"
    with pytest.raises(ConnectionError):
        HashretVectorStore.from_texts(["a red circle"], Failing(), path=path)
    with pytest.raises(InputError):
        HashretVectorStore.from_texts(["a red circle"], embeddings, [{"n": object()}], path=path)
    assert not list(tmp_path.iterdir())
    store = HashretVectorStore.from_texts(["a red circle"], embeddings, path=path)
    store.collection.close()
    with pytest.raises(StorageError, match="exists"):
        HashretVectorStore.from_texts(["a blue bar"], embeddings, path=path)
    with Collection.open(path) as collection:
        assert len(collection) == 1


class Narrow:
    """Embeddings of 30 dimensions, whose codes have as many bytes as those of 32 bits."""

    def embed_query(self, text):
        return [1.0] * 30

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]


def test_embeddings_of_another_width_are_refused(tmp_path):
    with Collection.create(tmp_path / "t.hashret", n_bits=32) as collection:
        store = HashretVectorStore(collection, Narrow())
        for call in (
            lambda: store.add_texts(["a red circle"]),
            lambda: store.similarity_search("a red circle"),
            lambda: store.similarity_search_by_vector([1.0] * 33),
        ):
            with pytest.raises(InputError, match=r"have 3[03] dimensions and the collection's codes 32 bits; give"):
                call()
        assert len(collection) == 0


def test_photos_are_documents_too(world, embeddings):
    with Collection.open(world.collection) as collection:
        found = HashretVectorStore(collection, embeddings).similarity_search("a red circle", k=3)
    assert all(document.page_content in document.metadata["captions"] for document in found)


def test_a_temporary_store_needs_no_path(embeddings):
    store = HashretVectorStore.from_texts(["a red circle"], embeddings)
    assert len(store.get_by_ids(store.add_texts(["a bar"]))) == 1
    with pytest.raises(InputError, match="text_key"):
        store.add_texts(["x"], [{"text": "y"}])
    with pytest.raises(InputError, match="as many"):
        store.add_texts(["x"], ids=["a", "b"])
    store.collection.close()
