"""When two requests are the same: a node that runs again pays nothing again, whatever its messages carry along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool

from superstep import transactional
from superstep.providers import chat_model
from superstep.runtime.faults import ProviderExhausted
from tests.checkpointer.calls.vendor import use
from tests.support.graphs import State, chain
from tests.support.race import Race
from tests.support.vendors import Vendor, answer, call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.support.bank import Bank


@tool
def lookup(key: str) -> str:
    """Look a key up."""
    return key


async def invoked(model: Any, messages: list[BaseMessage]) -> AIMessage:
    found: AIMessage = await model.ainvoke(messages)
    return found


async def streamed(model: Any, messages: list[BaseMessage]) -> AIMessage:
    whole: AIMessageChunk | None = None
    async for chunk in model.astream(messages):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    return whole


@pytest.mark.parametrize("ask_with", [invoked, streamed])
async def test_a_tool_loop_in_one_node_is_paid_once(
    ask_with: Callable[[Any, list[BaseMessage]], Awaitable[AIMessage]],
    saver: TransactionalSaver,
    thread: RunnableConfig,
    bank: Bank,
    vendor: Vendor,
) -> None:
    """The second request holds the first answer, which says of itself what it cost and how long it took."""
    vendor.script(call("lookup", {"key": "a"}), answer("done"))
    race = Race(bank, 50)

    async def ask(state: State) -> State:
        model = chat_model("r").bind_tools([lookup])
        messages: list[BaseMessage] = [HumanMessage("question")]
        for _ in range(2):
            message = await ask_with(model, messages)
            messages += [message, *(ToolMessage("ok", tool_call_id=each["id"]) for each in message.tool_calls)]
        await race.decide()
        return {"seen": [messages[-1].text]}

    out = await transactional(chain(saver, ask)).ainvoke({"seen": []}, thread)
    assert race.seen == [100, 50]
    assert out["seen"] == ["done"]
    assert vendor.count == 2


async def test_an_answer_serves_invoke_and_stream_alike(
    saver: TransactionalSaver, thread: RunnableConfig, bank: Bank, vendor: Vendor
) -> None:
    race = Race(bank, 50)
    ways = iter([invoked, streamed])

    async def ask(state: State) -> State:
        message = await next(ways)(chat_model("r"), [HumanMessage("question", id="any")])
        await race.decide()
        return {"seen": [message.text]}

    out = await transactional(chain(saver, ask)).ainvoke({"seen": []}, thread)
    assert race.seen == [100, 50]
    assert (out["seen"], vendor.count) == (["pong"], 1)


async def test_another_outcome_of_a_tool_is_another_request(
    saver: TransactionalSaver, thread: RunnableConfig, bank: Bank, vendor: Vendor
) -> None:
    vendor.always(lambda _: answer(f"answer {vendor.count}"))
    race = Race(bank, 50)

    async def ask(state: State) -> State:
        result = ToolMessage("ok", tool_call_id="c", status="error" if race.over else "success")
        asked: list[BaseMessage] = [HumanMessage("question"), result]
        message = await streamed(chat_model("r"), asked)
        await race.decide()
        return {"seen": [message.text]}

    out = await transactional(chain(saver, ask)).ainvoke({"seen": []}, thread)
    assert (out["seen"], vendor.count) == (["answer 2"], 2)


async def test_a_replayed_stream_survives_the_newer_form_of_messages(
    saver: TransactionalSaver, thread: RunnableConfig, bank: Bank, vendor: Vendor
) -> None:
    """`output_version="v1"` rewrites the chunks that were passed on; the stored answer must not be among them."""
    use(vendor)
    vendor.always(answer("one two"))
    race = Race(bank, 50)

    async def ask(state: State) -> State:
        model = chat_model("r").model_copy(update={"output_version": "v1"})
        message = await streamed(model, [HumanMessage("question")])
        await race.decide()
        return {"seen": [message.text]}

    out = await transactional(chain(saver, ask)).ainvoke({"seen": []}, thread)
    assert race.seen == [100, 50]
    assert (out["seen"], vendor.count) == (["one two"], 1)


@pytest.mark.parametrize("ways", [(invoked, streamed), (streamed, invoked)])
async def test_an_answer_has_the_newer_form_whichever_way_it_is_asked_for(
    ways: tuple[Callable[[Any, list[BaseMessage]], Awaitable[AIMessage]], ...],
    saver: TransactionalSaver,
    thread: RunnableConfig,
    bank: Bank,
    vendor: Vendor,
) -> None:
    race = Race(bank, 50)
    ask_with = iter(ways)
    seen: list[AIMessage] = []

    async def ask(state: State) -> State:
        model = chat_model("r").model_copy(update={"output_version": "v1"})
        seen.append(await next(ask_with)(model, [HumanMessage("question")]))
        await race.decide()
        return {}

    await transactional(chain(saver, ask)).ainvoke({"seen": []}, thread)
    blocks: list[Any] = [block for message in seen for block in message.content]
    assert [(block["type"], block["text"]) for block in blocks] == [("text", "pong")] * 2
    assert vendor.count == 1


async def test_what_a_tool_keeps_from_the_model_is_no_part_of_the_request(
    saver: TransactionalSaver, thread: RunnableConfig, bank: Bank, vendor: Vendor
) -> None:
    race = Race(bank, 50)

    async def ask(state: State) -> State:
        result = ToolMessage("ok", tool_call_id="c", artifact=object())
        message = await invoked(chat_model("r"), [HumanMessage("question"), result])
        await race.decide()
        return {"seen": [message.text]}

    flow = transactional(chain(saver, ask))
    await flow.ainvoke({"seen": []}, thread)
    assert race.seen == [100, 50]
    assert vendor.count == 1


async def test_interleaved_streams_of_one_request_are_different_samples(
    saver: TransactionalSaver, thread: RunnableConfig, bank: Bank, vendor: Vendor
) -> None:
    vendor.always(lambda _: answer(f"answer {vendor.count}"))
    race = Race(bank, 50)

    async def ask(state: State) -> State:
        streams = [chat_model("r").astream("question") for _ in range(2)]
        said = [(await anext(stream)).text for stream in streams]
        for at, stream in enumerate(streams):
            said[at] += "".join([chunk.text async for chunk in stream])
        await race.decide()
        return {"seen": said}

    out = await transactional(chain(saver, ask)).ainvoke({"seen": []}, thread)
    assert race.seen == [100, 50]
    assert (out["seen"], vendor.count) == (["answer 1", "answer 2"], 2)


async def test_a_stream_that_broke_does_not_count(
    saver: TransactionalSaver, thread: RunnableConfig, bank: Bank, vendor: Vendor
) -> None:
    vendor.script(answer("one two").cut(after=1), answer("three four"))
    race = Race(bank, 50)

    async def ask(state: State) -> State:
        model = chat_model("r")
        try:
            message = await streamed(model, [HumanMessage("question")])
        except ProviderExhausted:
            message = await streamed(model, [HumanMessage("question")])
        await race.decide()
        return {"seen": [message.text]}

    out = await transactional(chain(saver, ask)).ainvoke({"seen": []}, thread)
    assert race.seen == [100, 50]
    assert (out["seen"], vendor.count) == (["three four"], 2)
