"""What a model said comes back as it was, or its call is recorded all the same."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.caches import BaseCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, Generation
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from superstep import transactional
from superstep.checkpointer import current_step
from superstep.checkpointer.calls import memo
from superstep.checkpointer.calls.answers import NotKept, dumped, loaded
from superstep.checkpointer.calls.requests import request_digest
from tests.support.graphs import chain

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.support.bank import Bank

SERDE = JsonPlusSerializer(allowed_msgpack_modules=None)
HALF = "\ud83d"
HALVES = "\ud83d" + "\ude00"  # not the character that they would make together


class Vendors(AIMessage):
    """A class of messages that only one integration knows."""

    trace: str = ""


def calling(**args: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": "pay", "args": args, "id": "c"}])


def nested(depth: int, inner: Any) -> Any:
    return inner if depth == 0 else [nested(depth - 1, inner)]


def through(answer: Generation) -> Generation:
    (found,) = loaded(SERDE, *dumped(SERDE, [answer]))
    return found


SAID: dict[str, AIMessage] = {
    "an integer above 64 bits": calling(wei=10**21),
    "a negative one": calling(wei=-(2**70)),
    "an integer of 4,000 digits": calling(n=10**4000),
    "it in the middle of lists": calling(rows=[[1, 2**64], {"a": [2**64 + 1]}]),
    "half of a surrogate pair in the text": AIMessage(f"a{HALF}b"),
    "half of one as the name of an argument": calling(**{HALF: 1}),
    "two halves that came apart": AIMessage(HALVES),
    "arguments that are no JSON, with a half": AIMessage(
        "", invalid_tool_calls=[{"name": "pay", "args": f'{{"to": "{HALF}', "id": "c", "error": None}]
    ),
    "blocks": AIMessage([{"type": "text", "text": HALF}, {"type": "tool_use", "id": "c", "name": "p", "input": {}}]),
    "a nesting of a hundred": calling(a=nested(100, 2**80)),
    "a tuple, a date and bytes": AIMessage("", additional_kwargs={"t": (1,), "at": datetime.now(UTC), "b": b"\xff"}),
    "a number that is none": AIMessage("", response_metadata={"logprob": float("-inf")}),
    "what is ordinary": calling(to="you", amount=12.5, note=None, ok=True),
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID.keys())
def test_what_a_model_said_comes_back_as_it_was(said: AIMessage) -> None:
    found = through(ChatGeneration(message=said, generation_info={"logprobs": [2**65]}))
    assert isinstance(found, ChatGeneration)
    assert (found.message, found.generation_info) == (said, {"logprobs": [2**65]})
    # The next request that quotes it is the same request.
    assert request_digest(dumps([found.message]), "m") == request_digest(dumps([said]), "m")


def test_the_text_of_a_model_that_knows_no_messages_comes_back_too() -> None:
    assert through(Generation(text=HALF)) == Generation(text=HALF)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(2**63, 2**90) | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=())) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=())),
    args=st.dictionaries(st.text(st.characters(exclude_categories=())), anything, max_size=3),
    info=anything,
)
def test_whatever_it_says(text: str, args: dict[str, Any], info: Any) -> None:
    said = AIMessage(text, tool_calls=[{"name": "f", "args": args, "id": "c"}], response_metadata={"info": info})
    found = through(ChatGeneration(message=said))
    assert isinstance(found, ChatGeneration)
    assert found.message == said


def test_a_class_that_only_its_integration_knows_comes_back_as_a_message() -> None:
    found = through(ChatGeneration(message=Vendors("hi", trace="t-1", tool_calls=calling(wei=2**70).tool_calls)))
    assert isinstance(found, ChatGeneration)
    assert type(found.message) is AIMessage
    assert found.message.tool_calls[0]["args"] == {"wei": 2**70}
    assert through(ChatGeneration(message=AIMessageChunk(content=HALF))).text == HALF


def test_of_what_only_describes_an_answer_that_is_left_out_which_nothing_holds() -> None:
    said = AIMessage("hi", response_metadata={"lock": threading.Lock(), "model": "m", "all": [1, threading.Lock()]})
    found = through(ChatGeneration(message=said))
    assert isinstance(found, ChatGeneration)
    assert (found.text, found.message.response_metadata) == ("hi", {"model": "m", "all": [1, None]})


def test_what_only_a_program_knows_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for args in ({"lock": threading.Lock()}, {"circle": circle}):
        message = AIMessage("")
        message.tool_calls = [{"name": "pay", "args": args, "id": "c"}]
        with pytest.raises(NotKept):
            dumped(SERDE, [ChatGeneration(message=message)])


class Broken(BaseCache):
    """A cache whose server is away."""

    def lookup(self, prompt: str, llm_string: str) -> Any:
        return None

    def update(self, prompt: str, llm_string: str, return_val: Any) -> None:
        raise ConnectionError("the cache is away")

    def clear(self, **kwargs: Any) -> None:
        """Nothing to clear."""


def counted(paid: list[int], said: AIMessage) -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=(paid.append(1) or said for _ in range(9)))  # type: ignore[func-returns-value]


async def asked_twice(
    saver: TransactionalSaver, thread: RunnableConfig, said: AIMessage, *, sync: bool = False
) -> tuple[int, int, list[Any]]:
    """A node runs, its staged write fails, and it runs again: calls paid, calls recorded, what it was told."""
    paid: list[int] = []
    model = counted(paid, said)
    got: list[Any] = []

    def stage() -> None:
        current_step().stage("UPDATE account SET balance = 1 WHERE id = $1", 77 if len(got) == 1 else 1, expect_rows=1)

    async def asks(state: Any) -> Any:
        got.append(await model.ainvoke("1000 ether?"))
        stage()

    def asks_in_a_thread(state: Any) -> Any:
        got.append(model.invoke("1000 ether?"))
        stage()

    flow = transactional(chain(saver, asks_in_a_thread if sync else asks))
    await flow.ainvoke({"seen": []}, thread)
    return len(paid), (await flow.areport(thread)).usage["llm_paid"], got


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
@pytest.mark.parametrize("what", ["an integer above 64 bits", "half of a surrogate pair in the text"])
async def test_an_answer_that_msgpack_refuses_is_recorded_as_paid(
    what: str, sync: bool, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    paid, recorded, (first, again) = await asked_twice(saver, thread, SAID[what], sync=sync)
    assert (paid, recorded) == (1, 1)
    assert (first.content, first.tool_calls) == (again.content, again.tool_calls)
    assert again.tool_calls == SAID[what].tool_calls


@pytest.mark.usefixtures("own_cache")
async def test_an_answer_that_nothing_holds_is_recorded_and_reaches_the_node(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    said = AIMessage("")
    said.tool_calls = [{"name": "pay", "args": {"lock": threading.Lock()}, "id": "c"}]
    paid, recorded, got = await asked_twice(saver, thread, said)
    assert (paid, recorded, len(got)) == (2, 2, 2)  # each is on the bill


@pytest.mark.usefixtures("own_cache")
async def test_a_count_of_tokens_that_is_no_number_does_not_lose_the_answer(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    said = AIMessage("")
    said.usage_metadata = {"input_tokens": [1], "output_tokens": "2", "total_tokens": None}  # type: ignore[typeddict-item]
    paid, recorded, got = await asked_twice(saver, thread, said)
    assert (paid, recorded, len(got)) == (1, 1, 2)


@pytest.mark.usefixtures("own_cache")
async def test_a_cache_that_is_away_does_not_take_a_paid_answer(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    set_llm_cache(Broken())
    memo.install()
    paid, recorded, got = await asked_twice(saver, thread, calling(wei=2**70))
    assert (paid, recorded, len(got)) == (1, 1, 2)
    with pytest.raises(ConnectionError):  # outside of super-steps, nothing else has it
        await counted([], calling(wei=1)).ainvoke("hi")
