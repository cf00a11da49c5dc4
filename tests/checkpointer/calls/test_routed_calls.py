"""Routed models inside super-steps: paid once, recorded with the step, streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langchain_core.prompt_values import ChatPromptValue

from superstep import current_step, transactional
from superstep.providers import chat_model
from superstep.providers.catalog.model import Recording
from superstep.runtime.faults import ProviderExhausted
from tests.checkpointer.calls.vendor import KEY, calls, use
from tests.support.bank import LOG
from tests.support.graphs import State, chain
from tests.support.race import Race
from tests.support.vendors import Vendor, answer, status

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.support.bank import Bank


async def test_a_call_is_recorded_with_its_step(
    saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    vendor.script(status(503), answer("pong"))

    async def ask(state: State) -> State:
        try:
            await chat_model("r").ainvoke("ping")
        except ProviderExhausted:
            message = await chat_model("r").ainvoke("ping")
        return {"seen": [message.text]}

    flow = transactional(chain(saver, ask))
    await flow.ainvoke({"seen": []}, thread)
    failed, answered = await calls(saver, thread)
    assert (failed["outcome"], failed["tried"][0]["why"]) == ("failed", "status 503")
    assert (answered["outcome"], answered["node"], answered["deployment"]) == ("answered", "ask", "r/vendor")
    assert (answered["input_tokens"], answered["output_tokens"], answered["usd"]) == (7, 3, 10.0)
    assert answered["request"] == failed["request"]
    assert KEY not in str([failed, answered])
    report = await flow.areport(thread)
    assert (report.usage["llm_paid"], report.usage["usd"]) == (1, 10.0)


@pytest.mark.parametrize("streamed", [True, False])
async def test_what_is_paid_is_not_paid_again_when_facts_move(
    streamed: bool, saver: TransactionalSaver, thread: RunnableConfig, bank: Bank, vendor: Vendor
) -> None:
    """Also for a node that iterates the stream itself: the same words come again, as one chunk."""
    vendor.script(answer("one two"), answer("three four"))
    race = Race(bank, 50)

    async def ask(state: State) -> State:
        model = chat_model("r")
        said = []
        for question in ("a", "b"):
            if streamed:
                said.append("".join([chunk.text async for chunk in model.astream(question)]))
            else:
                said.append((await model.ainvoke(question)).text)
        balance = await race.decide()
        current_step().stage(LOG, f"{said} at {balance}")
        return {"seen": said}

    flow = transactional(chain(saver, ask))
    out = await flow.ainvoke({"seen": []}, thread)
    assert out["seen"] == ["one two", "three four"]
    assert await bank.journal() == ["['one two', 'three four'] at 50"]
    assert vendor.count == 2
    report = await flow.areport(thread)
    assert (report.usage["llm_paid"], report.usage["llm_reused"]) == (2, 2)


async def test_interleaved_streams_are_remembered_each_by_its_own_name(
    saver: TransactionalSaver, thread: RunnableConfig, bank: Bank, vendor: Vendor
) -> None:
    vendor.always(lambda request: answer(f"{request.text} {request.text}"))
    race = Race(bank, 50)

    async def ask(state: State) -> State:
        model = chat_model("r")
        streams = [model.astream(question) for question in ("a", "b")]
        said = ["", ""]
        open_ends = {0, 1}
        while open_ends:
            for at in sorted(open_ends):
                chunk = await anext(streams[at], None)
                if chunk is None:
                    open_ends.discard(at)
                else:
                    said[at] += chunk.text
        await race.decide()
        return {"seen": said}

    out = await transactional(chain(saver, ask)).ainvoke({"seen": []}, thread)
    assert race.seen == [100, 50]
    assert out["seen"] == ["a a", "b b"]
    assert vendor.count == 2


async def test_tokens_reach_langgraphs_messages_mode(
    saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    vendor.always(answer("one two three"))

    async def ask(state: State) -> State:
        return {"seen": [(await chat_model("r").ainvoke("ping")).text]}

    flow = transactional(chain(saver, ask))
    stream = flow.astream({"seen": []}, thread, stream_mode="messages")
    assert [chunk.text async for chunk, _ in stream if chunk.text] == ["one ", "two ", "three"]
    (call,) = await calls(saver, thread)
    assert call["first_token_ms"] is not None


async def test_a_synchronous_node_is_recorded_and_remembered_too(
    saver: TransactionalSaver, thread: RunnableConfig, bank: Bank, vendor: Vendor
) -> None:
    race = Race(bank, 50)

    def ask(state: State) -> State:
        said = chat_model("r").invoke("ping").text + "".join(chunk.text for chunk in chat_model("r").stream("pang"))
        race.decide_sync()
        return {"seen": [said]}

    out = await transactional(chain(saver, ask)).ainvoke({"seen": []}, thread)
    assert race.seen == [100, 50]
    assert out["seen"] == ["pongpong"]
    assert vendor.count == 2
    assert [call["outcome"] for call in await calls(saver, thread)] == ["answered"] * 2


async def test_the_prompt_of_a_call_is_in_its_record(
    saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    class Versioned(ChatPromptValue):
        prompt: str

    async def ask(state: State) -> State:
        value = Versioned(messages=[], prompt="verify@3")
        await chat_model("r").with_structured_output({"title": "x", "type": "object", "properties": {}}).ainvoke(value)
        async for _ in chat_model("r").astream(value):
            pass
        return {}

    vendor.always(answer({}))
    await transactional(chain(saver, ask)).ainvoke({"seen": []}, thread)
    assert [call["prompt"] for call in await calls(saver, thread)] == ["verify@3"] * 2


async def test_content_is_recorded_only_by_setting_and_redacted(
    saver: TransactionalSaver, thread: RunnableConfig, vendor: Vendor
) -> None:
    use(vendor, recording=Recording(content=True, redact=(r"\d{4}",)))
    vendor.always(answer("your number is 1234"))

    async def ask(state: State) -> State:
        await chat_model("r").ainvoke("my number is 1234")
        return {}

    await transactional(chain(saver, ask)).ainvoke({"seen": []}, thread)
    (call,) = await calls(saver, thread)
    assert call["content"] == {
        "input": [{"role": "human", "text": "my number is █████"}],
        "output": "your number is █████",
    }
