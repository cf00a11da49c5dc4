"""Texts are embedded once, whoever asks, how often, and from where."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from superstep.providers.embeddings import memo
from superstep.providers.embeddings.memo import MemoisedEmbedder

if TYPE_CHECKING:
    from collections.abc import Sequence


class Slow:
    """Counts what it is asked for; answers when told."""

    dimensions = 2

    def __init__(self, *, told: bool = True) -> None:
        self.asked: list[list[str]] = []
        self.go = threading.Event()
        self.error: Exception | None = None
        if told:
            self.go.set()

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.asked.append(list(texts))
        while not self.go.is_set():  # noqa: ASYNC110 - it is set from other threads too
            await asyncio.sleep(0.001)
        if self.error is not None:
            raise self.error
        return [vector(text) for text in texts]


def vector(text: str) -> list[float]:
    return [float(len(text)), float(ord(text[0]))]


async def until_asked(inner: Slow, times: int) -> None:
    async with asyncio.timeout(30):
        while len(inner.asked) < times:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_what_is_known_is_not_asked_for_again() -> None:
    inner = Slow()
    model = MemoisedEmbedder(inner)
    assert await model.embed(["a", "bb", "a"]) == [vector("a"), vector("bb"), vector("a")]
    assert await model.embed(["ccc", "bb"]) == [vector("ccc"), vector("bb")]
    assert inner.asked == [["a", "bb"], ["ccc"]]
    assert model.dimensions == 2


async def test_nobody_can_change_what_is_known() -> None:
    model = MemoisedEmbedder(Slow())
    (await model.embed(["a"]))[0][0] = 99.0
    assert await model.embed(["a"]) == [vector("a")]


async def test_blank_texts_are_not_sent() -> None:
    inner = Slow()
    assert await MemoisedEmbedder(inner).embed(["", " \n", "a"]) == [[1.0, 0.0], [1.0, 0.0], vector("a")]
    assert inner.asked == [["a"]]


async def test_it_forgets_what_was_used_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "LIMIT", 2)
    inner = Slow()
    model = MemoisedEmbedder(inner)
    await model.embed(["a", "b"])
    await model.embed(["a"])
    await model.embed(["c"])  # b goes
    await model.embed(["a", "c"])
    assert inner.asked == [["a", "b"], ["c"]]
    assert await model.embed(["b", "d", "e"]) == [vector("b"), vector("d"), vector("e")]
    assert inner.asked[2:] == [["b", "d", "e"]]


async def test_what_is_asked_at_the_same_time_is_asked_once() -> None:
    inner = Slow(told=False)
    model = MemoisedEmbedder(inner)
    first = asyncio.create_task(model.embed(["a", "b"]))
    await until_asked(inner, 1)
    second = asyncio.create_task(model.embed(["b", "c"]))
    await until_asked(inner, 2)
    third = asyncio.create_task(model.embed(["c", "a"]))
    inner.go.set()
    assert await first == [vector("a"), vector("b")]
    assert await second == [vector("b"), vector("c")]
    assert await third == [vector("c"), vector("a")]
    assert inner.asked == [["a", "b"], ["c"]]


def test_also_from_threads_with_event_loops_of_their_own() -> None:
    inner = Slow(told=False)
    model = MemoisedEmbedder(inner)
    together = threading.Barrier(9)

    def ask(at: int) -> list[list[float]]:
        together.wait()
        return asyncio.run(model.embed(["a", f"b{at % 2}"]))

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask, at) for at in range(8)]
        together.wait()
        inner.go.set()
        found = [each.result() for each in asked]
    assert found == [[vector("a"), vector(f"b{at % 2}")] for at in range(8)]
    assert sorted(text for texts in inner.asked for text in texts) == ["a", "b0", "b1"]


async def test_a_failure_is_shared_and_not_remembered() -> None:
    inner = Slow(told=False)
    model = MemoisedEmbedder(inner)
    inner.error = RuntimeError("down")
    asked = [asyncio.create_task(model.embed(["a"])) for _ in range(3)]
    await until_asked(inner, 1)
    inner.go.set()
    failed = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(each) for each in failed] == ["down"] * 3
    assert inner.asked == [["a"]]
    inner.error = None
    assert await model.embed(["a"]) == [vector("a")]


async def test_when_the_one_who_asked_is_cancelled_the_next_one_asks() -> None:
    inner = Slow(told=False)
    model = MemoisedEmbedder(inner)
    first = asyncio.create_task(model.embed(["a", "b"]))
    await until_asked(inner, 1)
    second = asyncio.create_task(model.embed(["b"]))
    third = asyncio.create_task(model.embed(["b"]))
    await asyncio.sleep(0)
    first.cancel()
    await until_asked(inner, 2)
    inner.go.set()
    assert await second == await third == [vector("b")]
    assert first.cancelled()
    assert inner.asked == [["a", "b"], ["b"]]


async def test_one_who_waits_may_be_cancelled_without_the_others() -> None:
    inner = Slow(told=False)
    model = MemoisedEmbedder(inner)
    first = asyncio.create_task(model.embed(["a"]))
    await until_asked(inner, 1)
    second = asyncio.create_task(model.embed(["a"]))
    third = asyncio.create_task(model.embed(["a"]))
    await asyncio.sleep(0)
    second.cancel()
    inner.go.set()
    assert await first == await third == [vector("a")]
    assert inner.asked == [["a"]]


async def test_batches_that_were_answered_before_a_failure_are_kept() -> None:
    class Third(Slow):
        async def embed(self, texts: Sequence[str]) -> list[list[float]]:
            if len(self.asked) == 2:
                self.asked.append(list(texts))
                raise RuntimeError("down")
            return await super().embed(texts)

    inner = Third()
    model = MemoisedEmbedder(inner, batch_size=2)
    texts = ["a", "b", "c", "d", "e", "f"]
    with pytest.raises(RuntimeError, match="down"):
        await model.embed(texts)
    assert await model.embed(texts) == [vector(text) for text in texts]
    assert inner.asked == [["a", "b"], ["c", "d"], ["e", "f"], ["e", "f"]]


async def test_an_answer_of_the_wrong_length_leaves_nobody_waiting() -> None:
    class Short(Slow):
        async def embed(self, texts: Sequence[str]) -> list[list[float]]:
            return (await super().embed(texts))[1:]

    model = MemoisedEmbedder(Short())
    for _ in range(2):
        with pytest.raises(ValueError, match="shorter"):
            await asyncio.wait_for(model.embed(["a", "b"]), 10)
