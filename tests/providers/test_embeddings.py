"""Embeddings: unit vectors, the same for a text wherever and whenever it is embedded."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from providers import embedder
from providers.embeddings import _WordLlamaEmbedder
from runtime.faults import ConfigError, ProviderUnavailable

TEXTS = ["A card may be frozen.", "Chargebacks on a card are limited.", "The sea was calm that night."]


async def test_unit_vectors_of_256_dimensions() -> None:
    model = embedder()
    vectors = await model.embed(TEXTS)
    assert model.dimensions == 256
    assert [len(vector) for vector in vectors] == [256] * 3
    for vector in vectors:
        assert math.fsum(x * x for x in vector) == pytest.approx(1.0)
        assert all(type(x) is float for x in vector)


async def test_near_in_meaning_is_near() -> None:
    asked, *passages = await embedder().embed(["limit for card chargebacks", *TEXTS])
    near = [math.fsum(a * b for a, b in zip(asked, passage, strict=True)) for passage in passages]
    assert near.index(max(near)) == 1
    assert near.index(min(near)) == 2


async def test_a_vector_does_not_depend_on_its_neighbours() -> None:
    model = embedder()
    together = await model.embed(TEXTS)
    assert [(await model.embed([text]))[0] for text in TEXTS] == together


async def test_nothing_and_empty_texts() -> None:
    model = embedder()
    assert await model.embed([]) == []
    for vector in await model.embed(["", "  \n"]):
        assert math.fsum(x * x for x in vector) == 1.0


def test_one_embedder_serves_threads_and_event_loops() -> None:
    model = _WordLlamaEmbedder()  # not loaded yet: the first calls race
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: asyncio.run(model.embed(TEXTS)), range(16)))
    assert all(each == found[0] for each in found)


async def test_it_computes_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _WordLlamaEmbedder()
    threads: list[threading.Thread] = []

    def spy(texts: list[str]) -> list[list[float]]:
        threads.append(threading.current_thread())
        return [[0.0] for _ in texts]

    monkeypatch.setattr(model, "_embed", spy)
    await model.embed(["a"])
    assert threads[0] is not threading.current_thread()


async def test_loading_leaves_logging_alone() -> None:
    before = (logging.root.level, list(logging.root.handlers))
    await _WordLlamaEmbedder().embed(["a"])
    assert (logging.root.level, list(logging.root.handlers)) == before


async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordllama", None)
    with pytest.raises(ProviderUnavailable, match="pip install"):
        await _WordLlamaEmbedder().embed(["a"])


def test_names() -> None:
    assert embedder() is embedder("default")
    with pytest.raises(ConfigError, match="no embedder 'other'"):
        embedder("other")
