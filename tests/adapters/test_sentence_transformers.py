"""The encoder behind sentence-transformers' verbs, beside the real library."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from hashret import CrossModalHasher, FlatIndex
from hashret.adapters import SentenceEncoder
from hashret.errors import InputError

WORDS = ["a red circle", "blue square", "a black bar", "green triangle"]


@pytest.fixture(scope="module")
def encoder(world):
    return SentenceEncoder(CrossModalHasher.load(world.model))


def test_shapes_and_types(world, encoder):
    picture = world.folder / "3.png"
    assert encoder.encode(WORDS).shape == (4, 32)
    assert encoder.encode(WORDS[0]).shape == (32,)
    assert encoder.encode(picture).shape == (32,)
    assert encoder.encode([]).shape == (0, 32)
    assert encoder.encode(WORDS, truncate_dim=16, precision="ubinary").shape == (4, 2)
    assert encoder.encode(WORDS, convert_to_tensor=True, show_progress_bar=False).dtype.is_floating_point
    for row, vector in zip(encoder.encode(WORDS), encoder.encode(WORDS, convert_to_numpy=False), strict=True):
        np.testing.assert_array_equal(vector.numpy(), row)  # a list of tensors, as the library's evaluators stack them
    np.testing.assert_array_equal(encoder.encode(WORDS, precision=None), encoder.encode(WORDS))
    assert encoder.get_embedding_dimension() == encoder.get_sentence_embedding_dimension() == 32
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(WORDS), axis=1), 1, rtol=1e-5)


def test_words_and_pictures_in_one_list(world, encoder):
    picture = Path(world.folder / "3.png")
    mixed = encoder.encode([WORDS[0], picture, WORDS[1]])
    np.testing.assert_allclose(mixed[1], encoder.encode(picture), atol=1e-5)
    np.testing.assert_allclose(mixed[[0, 2]], encoder.encode(WORDS[:2]), atol=1e-5)


def test_codes_are_the_models(encoder):
    codes = encoder.encode(WORDS, precision="ubinary")
    assert (codes == encoder.model.encode_texts(WORDS, batch_size=32)).all()
    index = FlatIndex(n_bits=32)
    index.add(codes)
    assert index.search(codes, k=1).distances.max() == 0


def test_an_unknown_precision_is_refused(encoder):
    with pytest.raises(InputError, match="ubinary"):
        encoder.encode(WORDS, precision="int8")


def test_a_prompt_stands_before_every_string(world, encoder):
    picture = world.folder / "3.png"
    found = encoder.encode(["circle", picture, "square"], prompt="a red ", prompt_name="passed over")
    expected = encoder.encode(["a red circle", picture, "a red square"])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(encoder.encode_query("circle", prompt="a red "), encoder.encode("a red circle"))
    assert not np.array_equal(encoder.encode("circle"), encoder.encode("a red circle"))


def test_options_that_change_nothing_are_passed_over_and_others_refused(encoder):
    harmless = {"show_progress_bar": False, "normalize_embeddings": True, "device": None, "pool": None}
    for options in (harmless, {"output_value": "sentence_embedding", "prompt_name": None, "chunk_size": 8}):
        np.testing.assert_array_equal(encoder.encode(WORDS, **options), encoder.encode(WORDS))
    for options, message in (
        ({"precison": "ubinary"}, "no option 'precison' here; did you mean 'precision'"),
        ({"output_value": "token_embeddings"}, "only 'sentence_embedding'; leave it out"),
        ({"prompt_name": "query"}, "no prompt named 'query'.*give its words as prompt="),
    ):
        with pytest.raises(InputError, match=message):
            encoder.encode_document(WORDS, **options)


def library(name):
    """A part of sentence-transformers; where its torchvision does not fit torch, hashret's own remedy comes first."""
    from hashret.encoders import _torchvision

    pytest.importorskip("sentence_transformers", reason="pip install sentence-transformers")
    _torchvision.ready()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["ubinary", "binary"])
def test_the_library_packs_the_same_bits(encoder, precision):
    quantization = library("sentence_transformers.util.quantization")
    floats = encoder.encode(WORDS)
    assert (
        quantization.quantize_embeddings(floats, precision=precision) == encoder.encode(WORDS, precision=precision)
    ).all()


@pytest.mark.slow
def test_the_librarys_search_takes_it(world, encoder):
    library("sentence_transformers")
    from sentence_transformers.util import semantic_search
    from sentence_transformers.util.quantization import semantic_search_faiss

    floats, codes = encoder.encode(WORDS, convert_to_tensor=True), encoder.encode(WORDS, precision="ubinary")
    assert [hits[0]["corpus_id"] for hits in semantic_search(floats, floats)] == [0, 1, 2, 3]
    found, *_ = semantic_search_faiss(
        encoder.encode(WORDS), corpus_embeddings=codes, corpus_precision="ubinary", top_k=1, rescore=False
    )
    assert [hits[0]["corpus_id"] for hits in found] == [0, 1, 2, 3]


@pytest.mark.slow
def test_the_librarys_evaluator_takes_it(encoder, tmp_path):
    evaluation = library("sentence_transformers.sentence_transformer.evaluation")
    corpus = {str(n): text for n, text in enumerate(WORDS)}
    evaluator = evaluation.InformationRetrievalEvaluator(corpus, corpus, {n: {n} for n in corpus}, write_csv=False)
    assert evaluator(encoder)["cosine_accuracy@1"] == 1.0
    alike = evaluation.EmbeddingSimilarityEvaluator(WORDS, WORDS[::-1], [0.0, 0.5, 0.5, 0.0], write_csv=False)
    assert "spearman_cosine" in alike(encoder)
    assert evaluation.TranslationEvaluator(WORDS, WORDS, write_csv=False)(encoder)["mean_accuracy"] == 1.0
