"""However a call ends, it is recorded and charged."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.providers import chat_model
from superstep.runtime.faults import ProviderExhausted
from tests.checkpointer.calls.vendor import calls
from tests.support.graphs import State, chain
from tests.support.vendors import Vendor, answer

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver


LONG = "twelve words that are said before the stream of this answer breaks"


async def recorded(saver: TransactionalSaver, thread: RunnableConfig, node: Any) -> list[dict[str, Any]]:
    await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
    return await calls(saver, thread)


async def test_an_answer_that_no_memo_keeps_is_recorded_all_the_same(
    saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    async def ask(state: State) -> State:
        await chat_model("r").model_copy(update={"cache": False}).ainvoke("ping")
        return {}

    (call,) = await recorded(saver, thread, ask)
    assert (call["outcome"], call["input_tokens"], call["usd"]) == ("answered", 7, 10.0)


async def test_a_stream_that_breaks_is_charged_for_what_it_said(
    saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    vendor.always(answer(LONG).cut(after=8))

    async def ask(state: State) -> State:
        with pytest.raises(ProviderExhausted):
            async for _ in chat_model("r").astream("ping"):
                pass
        return {}

    (call,) = await recorded(saver, thread, ask)
    assert (call["outcome"], call["input_tokens"]) == ("failed", 1)
    assert call["output_tokens"] > 5
    assert call["usd"] == call["input_tokens"] + call["output_tokens"]


async def test_a_stream_that_nobody_reads_to_its_end_is_charged_too(
    saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    vendor.always(answer(LONG).stall(after=8))

    async def ask(state: State) -> State:
        said = ""
        stream = chat_model("r").astream("ping")
        async for chunk in stream:
            said += chunk.text
            if said.count(" ") == 8:
                break
        await stream.aclose()  # type: ignore[attr-defined]
        return {}

    found: list[dict[str, Any]] = []
    await recorded(saver, thread, ask)
    async with asyncio.timeout(10):
        while not found:  # made in the background, so that who leaves need not wait
            found = await calls(saver, thread)
    assert found[0]["outcome"] == "failed"
    assert found[0]["error"] == "abandoned by the caller"
    assert found[0]["output_tokens"] > 5
