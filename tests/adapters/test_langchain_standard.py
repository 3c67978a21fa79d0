"""The vector store under LangChain's own tests of vector stores."""

from __future__ import annotations

import importlib
from typing import ClassVar

import pytest

from hashret import Collection

standard = pytest.importorskip("langchain_tests.integration_tests", reason="pip install langchain-tests")
fake = pytest.importorskip("langchain_core.embeddings").DeterministicFakeEmbedding
HashretVectorStore = importlib.import_module("hashret.adapters.langchain").HashretVectorStore


class TestStandard(standard.VectorStoreIntegrationTests):
    """LangChain's conformance tests."""

    pytestmark: ClassVar = [
        pytest.mark.asyncio,  # of the plugin that langchain-tests brings; half of the tests are coroutines
        pytest.mark.filterwarnings("ignore:.*is not an async function"),
    ]

    @pytest.fixture
    def vectorstore(self, tmp_path):
        with Collection.create(tmp_path / "store.hashret", n_bits=256) as collection:
            yield HashretVectorStore(collection, self.get_embeddings())

    @staticmethod
    def get_embeddings():
        return fake(size=256)  # 6 dimensions, the default there, would be 6 bits
