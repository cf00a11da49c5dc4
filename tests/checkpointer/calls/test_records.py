"""What calls of models cost is recorded when they are over, and stays recorded whatever becomes of their step."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from langchain_core.caches import BaseCache
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.types import Command, RetryPolicy, interrupt
from pydantic import Field

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.calls import memo
from superstep.checkpointer.calls.records import Spend, Spent, record_call, spent
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.database.pool import register_codecs
from superstep.runtime.faults import StaleRun
from tests.support.bank import Bank, make_bank
from tests.support.graphs import State, chain, fan
from tests.support.statements import all_statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from langchain_core.runnables import RunnableConfig

BALANCE = "SELECT balance FROM account WHERE id = $1"
RECORD: dict[str, Any] = {
    "route": "strong",
    "outcome": "answered",
    "deployment": "strong/anthropic:claude",
    "provider": "anthropic",
    "model": "claude",
    "tried": [{"deployment": "strong/openai:gpt", "why": "status 503", "status": 503, "ms": 12.5}],
    "ms": 412.5,
    "input_tokens": 20,
    "output_tokens": 4,
    "usd": 0.25,
    "prompt": "plan@2",
    "tags": ["simple"],
    "offline": False,
    "error": None,
}
FAILED = {"route": "strong", "outcome": "failed", "model": None, "usd": None, "error": "ProviderExhausted: nobody"}


class Routed(BaseChatModel):
    """Answers with the number of the call, and with a record of it."""

    calls: list[str] = Field(default_factory=list)
    record: dict[str, Any] | None = None

    @property
    def _llm_type(self) -> str:
        return "routed"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        self.calls.append(str(messages[-1].content))
        message = AIMessage(
            content=f"answer {len(self.calls)}",
            usage_metadata={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
            response_metadata={"model_name": "gpt", **({} if self.record is None else {"routing": self.record})},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


@pytest.fixture
def model() -> Routed:
    return Routed(record=dict(RECORD))


@pytest.fixture(autouse=True)
def own_cache() -> Iterator[None]:
    before = get_llm_cache()
    set_llm_cache(None)
    memo.install()
    yield
    set_llm_cache(before)


class Log:
    """Statements that were sent to the server, by name, without the driver's own and those of checkpoints."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self._names = {text: name for name, text in all_statements("runtime").items()}

    async def init(self, connection: Any) -> None:
        await register_codecs(connection)
        connection.add_query_logger(self._note)

    def _note(self, record: Any) -> None:
        name = self._names.get(record.query, record.query)
        if name not in ("put_root", "put_writes") and "typeinfo_tree" not in name and "jit" not in name:
            self.sent.append(name)

    async def during(self, work: Awaitable[Any]) -> list[str]:
        """What an awaitable sends."""
        await asyncio.sleep(0)  # asyncpg calls loggers on the loop's next turn
        self.sent.clear()
        await work
        await asyncio.sleep(0)
        return list(self.sent)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def logged(database_url: str, log: Log) -> AsyncIterator[TransactionalSaver]:
    """A saver whose statements are counted."""

    async def reset(_: Any) -> None:
        """As in the pool that savers open for themselves."""

    async with await asyncpg.create_pool(database_url, min_size=1, max_size=4, init=log.init, reset=reset) as pool:
        saver = TransactionalSaver(pool)
        await make_bank(saver)
        yield saver
        await saver.aclose()


def repeating(saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the answer to every statement were lost once, after the server has done what it says."""
    once = saver.database.autocommit

    async def twice(work: Callable[[Any], Awaitable[Any]]) -> Any:
        await once(work)
        return await once(work)

    monkeypatch.setattr(saver.database, "autocommit", twice)


# -- answers -------------------------------------------------------------------------------------------------------


async def test_an_answer_is_recorded_with_the_step_that_paid_it(
    saver: TransactionalSaver, thread: RunnableConfig, model: Routed
) -> None:
    async def decide(state: Any) -> Any:
        return {"seen": [(await model.ainvoke("well?")).content]}

    flow = transactional(chain(saver, decide))
    await flow.ainvoke({"seen": []}, thread)
    (step,) = (await flow.areport(thread)).steps
    (call,) = step.calls
    assert call == {**RECORD, "node": "decide"}
    assert (step.llm_paid, step.input_tokens, step.output_tokens, step.usd) == (1, 20, 4, 0.25)
    report = (await flow.areport(thread)).to_dict()
    assert report["usage"] == {
        "llm_paid": 1, "llm_reused": 0, "input_tokens": 20, "output_tokens": 4, "usd": 0.25, "offline": False,
    }  # fmt: skip
    assert report["steps"][0] | {"prompts": [], "usd": 0.25, "calls": [call]} == report["steps"][0]


async def test_without_a_record_the_message_tells(
    saver: TransactionalSaver, thread: RunnableConfig, model: Routed
) -> None:
    model.record = None

    async def decide(state: Any) -> Any:
        return {"seen": [(await model.ainvoke("well?")).content]}

    flow = transactional(chain(saver, decide))
    await flow.ainvoke({"seen": []}, thread)
    report = await flow.areport(thread)
    assert report.steps[0].calls == [
        {"node": "decide", "outcome": "answered", "model": "gpt", "input_tokens": 3, "output_tokens": 2, "usd": None}
    ]
    assert (report.usage["usd"], report.usage["offline"]) == (None, False)


async def test_an_answer_served_again_is_not_recorded_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, model: Routed
) -> None:
    runs = []

    async def decide(state: Any) -> Any:
        answer = await model.ainvoke("well?")
        await current_step().fetchval(BALANCE, 1)
        runs.append(answer.content)
        if len(runs) == 1:
            await bank.set(80)
        current_step().stage("UPDATE account SET note = 'x' WHERE id = 1")
        return {"seen": runs}

    flow = transactional(chain(saver, decide))
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == ["answer 1", "answer 1"]
    (step,) = (await flow.areport(thread)).steps
    assert (step.llm_paid, step.llm_reused, len(step.calls), step.usd) == (1, 1, 1, 0.25)


async def test_a_call_is_one_statement_to_look_it_up_and_one_to_store_it(
    logged: TransactionalSaver, log: Log, thread: RunnableConfig, model: Routed
) -> None:
    sent: list[str] = []

    async def decide(state: Any) -> Any:
        for work in (model.ainvoke("well?"), record_call(FAILED), spent(route="strong")):
            sent.extend(await log.during(work))

    await chain(logged, decide).ainvoke({"seen": []}, thread)
    assert sent == ["memo_get", "memo_put", "record_call", "spent"]
    assert await log.during(logged.asteps(thread["configurable"]["thread_id"])) == ["steps"]


async def test_what_a_failed_task_paid_stays_paid(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, model: Routed
) -> None:
    async def decide(state: Any) -> Any:
        answer = (await model.ainvoke("well?")).content
        if answer == "answer 1":
            raise ValueError("not good enough")
        return {"seen": [answer]}

    flow = transactional(chain(saver, decide))
    with pytest.raises(ValueError, match="not good enough"):
        await flow.ainvoke({"seen": []}, thread)
    assert not await bank.do("SELECT 1 FROM runtime.llm_call")
    assert (await flow.areport(thread)).usage["usd"] == 0.25
    assert (await flow.ainvoke(None, thread))["seen"] == ["answer 2"]
    (step,) = (await flow.areport(thread)).steps
    assert (step.llm_paid, step.llm_reused, step.usd) == (2, 0, 0.5)


async def test_every_attempt_of_a_retry_policy_is_paid(
    saver: TransactionalSaver, thread: RunnableConfig, model: Routed
) -> None:
    async def decide(state: Any) -> Any:
        if (await model.ainvoke("well?")).content == "answer 1":
            raise ValueError("not good enough")

    retry = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=ValueError)
    flow = transactional(chain(saver, decide, retry_policy=retry))
    await flow.ainvoke({"seen": []}, thread)
    assert [(s.llm_paid, s.usd) for s in (await flow.areport(thread)).steps] == [(2, 0.5)]


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("ms", float("nan"), None),
        ("tags", {"a", "set"}, None),
        ("tags", {("no", "text"): 1}, None),
        ("content", b"bytes", None),
        ("error", "a \0 and \\u0000 \\\0", "a  and \\u0000 \\"),
        ("usd", float("nan"), None),
        ("usd", float("inf"), None),
        ("usd", -1, None),
        ("usd", "free", None),
        ("input_tokens", 2**63, 0),
        ("input_tokens", "many", 0),
        ("output_tokens", -1, 0),
        ("model", "g\0pt", "gpt"),
        ("model", ["gpt"], None),
        ("route", 7, 7),
        ("route", "a\0b", "ab"),
    ],
)
async def test_an_answer_is_not_lost_over_its_record(
    saver: TransactionalSaver, thread: RunnableConfig, model: Routed, field: str, value: Any, kept: Any
) -> None:
    model.record = {**RECORD, field: value}

    async def decide(state: Any) -> Any:
        return {"seen": [(await model.ainvoke("well?")).content]}

    flow = transactional(chain(saver, decide))
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == ["answer 1"]
    (call,) = (await flow.areport(thread)).steps[0].calls
    assert {**RECORD, **call, field: None} == {**RECORD, "node": "decide", field: None}
    assert call.get(field) == kept


async def test_any_record_can_be_recorded(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    """Of one that no answer carries, msgpack keeps nothing out."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    async def decide(state: Any) -> Any:
        await record_call({"outcome": "?", "a": CIRCLE, "b": deep, "c": object(), "d": "\ud800", 5: 6, "e": 10**5000})

    flow = transactional(chain(saver, decide))
    await flow.ainvoke({"seen": []}, thread)
    (call,) = (await flow.areport(thread)).steps[0].calls
    assert {key: call[key] for key in call if key in {*"abcde", "5", "outcome"}} == {
        "5": 6,
        "d": "?",
        "outcome": "failed",
    }


async def test_a_statement_repeated_after_a_lost_answer_counts_once(
    saver: TransactionalSaver, thread: RunnableConfig, model: Routed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def decide(state: Any) -> Any:
        repeating(saver, monkeypatch)
        await model.ainvoke("well?")
        await record_call(FAILED)
        monkeypatch.undo()

    flow = transactional(chain(saver, decide))
    await flow.ainvoke({"seen": []}, thread)
    assert [call["outcome"] for call in (await flow.areport(thread)).steps[0].calls] == ["answered", "failed"]


# -- calls without an answer ---------------------------------------------------------------------------------------


async def test_a_failed_call_is_recorded_and_not_paid(
    saver: TransactionalSaver, thread: RunnableConfig, model: Routed
) -> None:
    async def decide(state: Any) -> Any:
        await record_call(FAILED)
        await model.ainvoke("well?")

    flow = transactional(chain(saver, decide))
    await flow.ainvoke({"seen": []}, thread)
    (step,) = (await flow.areport(thread)).steps
    assert [call["outcome"] for call in step.calls] == ["failed", "answered"]
    assert step.calls[0]["error"] == "ProviderExhausted: nobody"
    assert (step.llm_paid, step.usd) == (1, 0.25)


async def test_a_failed_call_survives_its_task(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    async def decide(state: Any) -> Any:
        await record_call({**FAILED, "usd": 0.125, "input_tokens": 7})
        raise ValueError("nobody answered")

    with pytest.raises(ValueError, match="nobody answered"):
        await transactional(chain(saver, decide)).ainvoke({"seen": []}, thread)
    (row,) = await bank.do("SELECT node, outcome, input_tokens, usd, route FROM runtime.model_call")
    assert tuple(row) == ("decide", "failed", 7, 0.125, "strong")


async def test_outside_of_super_steps_nothing_is_recorded_or_known(saver: TransactionalSaver, bank: Bank) -> None:
    await record_call(FAILED)
    assert await spent(route="strong", window=None) is None
    assert await bank.do("SELECT 1 FROM runtime.model_call") == []


async def test_from_other_loops_and_threads(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    seen: list[Spent | None] = []

    def sync_node(state: Any) -> Any:
        async def call() -> None:
            await record_call({**FAILED, "input_tokens": 1})
            seen.append(await spent())

        asyncio.run(call())

    async def async_node(state: Any) -> Any:
        await asyncio.to_thread(asyncio.run, record_call({**FAILED, "input_tokens": 1}))
        seen.append(await spent())

    flow = transactional(fan(saver, sync_node, async_node))
    await asyncio.to_thread(asyncio.run, flow.ainvoke({"seen": []}, thread))  # on another loop than the saver's
    assert max(each.thread.tokens for each in seen if each) == 2
    assert {call["node"] for call in (await flow.areport(thread)).steps[0].calls} == {"sync_node", "async_node"}


async def test_a_run_that_lost_its_thread_records_nothing(
    database_url: str, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    begun, taken = asyncio.Event(), asyncio.Event()

    async def decide(state: Any) -> Any:
        if not begun.is_set():
            begun.set()
            await taken.wait()
            await record_call(FAILED)
        return {"n": 1}

    late = asyncio.ensure_future(transactional(chain(saver, decide)).ainvoke({"n": 0}, thread))
    await begun.wait()
    async with TransactionalSaver.from_conn_string(database_url) as other:
        assert (await transactional(chain(other, decide)).ainvoke(None, thread))["n"] == 1
    taken.set()
    with pytest.raises(StaleRun):
        await late
    assert await bank.do("SELECT 1 FROM runtime.model_call") == []


# -- what was spent ------------------------------------------------------------------------------------------------


def costing(usd: float, tokens: int = 1, route: str | None = "strong") -> dict[str, Any]:
    return {"outcome": "answered", "model": "gpt", "usd": usd, "input_tokens": tokens, "route": route}


async def test_spend_counts_at_once_by_thread_run_and_route(
    saver: TransactionalSaver, new_thread: Callable[[], RunnableConfig]
) -> None:
    seen: list[Spent | None] = []

    async def decide(state: Any) -> Any:
        for usd in state["bag"]["costs"]:
            await record_call({**costing(usd, 10), "output_tokens": 1})
        await record_call({**costing(1000, 0, "other"), "usd": None})
        seen.append(await spent(route="strong"))

    first, second = new_thread(), new_thread()
    flow = transactional(chain(saver, decide))
    for config, costs in ((first, [0.5]), (second, [1]), (first, [2, 4]), (first, [])):
        await flow.ainvoke({"bag": {"costs": costs}}, config)
    name, other = (config["configurable"]["thread_id"] for config in (first, second))
    assert seen == [
        Spent(name, Spend(11, 0.5), Spend(11, 0.5), Spend(11, 0.5)),
        Spent(other, Spend(11, 1), Spend(11, 1), Spend(22, 1.5)),
        Spent(name, Spend(33, 6.5), Spend(22, 6), Spend(44, 7.5)),
        Spent(name, Spend(33, 6.5), Spend(0, 0), Spend(44, 7.5)),
    ]


async def test_spend_on_a_route_within_its_window(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    seen: list[Any] = []

    async def decide(state: Any) -> Any:
        await record_call(costing(1))
        await bank.do("UPDATE runtime.model_call SET created_at = now() - interval '1 hour'")
        await record_call(costing(2))
        for route, window in (("strong", 60), ("strong", 7200), ("strong", 1e300), ("strong", None), (None, None)):
            now = await spent(route=route, window=window)
            assert now is not None
            seen.append(now.route)

    await chain(saver, decide).ainvoke({"seen": []}, thread)
    assert seen == [Spend(1, 2), Spend(2, 3), Spend(2, 3), Spend(2, 3), Spend(0, 0)]


async def test_a_resume_continues_the_run(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    seen: list[Any] = []

    async def pay(state: Any) -> Any:
        await record_call(costing(1))

    async def ask(state: Any) -> Any:
        interrupt("?")
        seen.append(await spent())

    flow = transactional(chain(saver, pay, ask))
    await flow.ainvoke({"seen": []}, thread)
    await flow.ainvoke(Command(resume="fine"), thread)
    assert seen[0].run == Spend(1, 1)
    report = await flow.areport(thread)
    assert (report.usage["usd"], [step.usd for step in report.steps]) == (1, [1, 0])


async def test_spend_waits_for_the_input_of_its_run(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    """LangGraph starts the first step while the input is being saved; the run before must not count as this one."""
    held, asked, known = asyncio.Event(), asyncio.Event(), asyncio.Event()
    seen: list[Any] = []

    async def pay(state: Any) -> Any:
        if held.is_set():
            asked.set()
            seen.append(await spent())
            known.set()
        await record_call(costing(1))

    async def hold() -> None:
        held.set()
        failpoints.disarm("commit.before_commit")
        await asked.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(known.wait(), 0.3)

    inner = chain(saver, pay)
    graph = chain(saver, inner_of(inner))
    await graph.ainvoke({"seen": []}, thread)
    failpoints.arm("commit.before_commit", hold)
    await graph.ainvoke({"seen": []}, thread, durability="async")
    assert (seen[0].thread, seen[0].run) == (Spend(1, 1), Spend(0, 0))


def inner_of(graph: Any) -> Any:
    """A node that runs a graph as its subgraph."""

    async def nested(state: State) -> Any:
        await graph.ainvoke({"seen": []})

    return nested


# -- prices --------------------------------------------------------------------------------------------------------

OFFLINE = {"outcome": "answered", "model": "offline", "offline": True}
PRICED = {"outcome": "answered", "model": "gpt", "usd": 0.5}
UNPRICED = {"outcome": "answered", "model": "gpt", "usd": None}


@pytest.mark.parametrize(
    ("made", "usd", "offline"),
    [
        ([], 0, True),
        ([OFFLINE], 0, True),
        ([{**OFFLINE, "usd": 0.0}], 0, True),
        ([{"outcome": "answered", "model": "offline"}], 0, True),
        ([UNPRICED], None, False),
        ([PRICED, UNPRICED], 0.5, False),
        ([{**OFFLINE, "usd": 0.0}, UNPRICED], None, False),
        ([OFFLINE, PRICED], 0.5, False),
        ([FAILED], 0, False),
        ([FAILED, OFFLINE], 0, False),
        ([{"outcome": "answered", "model": None}], None, False),
    ],
)
async def test_cost_is_known_as_far_as_prices_are(
    saver: TransactionalSaver, thread: RunnableConfig, made: list[Any], usd: float | None, offline: bool
) -> None:
    async def decide(state: Any) -> Any:
        for call in made:
            await record_call(call)

    flow = transactional(chain(saver, decide))
    await flow.ainvoke({"seen": []}, thread)
    report = await flow.areport(thread)
    assert (report.usage["usd"], report.usage["offline"], report.steps[0].usd) == (usd, offline, usd)


# -- copies, deletion ----------------------------------------------------------------------------------------------


async def test_a_copy_shows_what_was_paid_but_costs_its_route_nothing(
    saver: TransactionalSaver, thread: RunnableConfig, model: Routed
) -> None:
    seen: list[Any] = []

    async def decide(state: Any) -> Any:
        if state["n"]:
            await model.ainvoke("well?")
        seen.append(await spent(route="strong"))

    flow = transactional(chain(saver, decide))
    await flow.ainvoke({"n": 1}, thread)
    await saver.acopy_thread(thread["configurable"]["thread_id"], "copy")
    copied = {"configurable": {"thread_id": "copy"}}
    original, copy = await flow.areport(thread), await flow.areport(copied)
    assert copy.steps == original.steps
    assert copy.usage == original.usage
    await flow.ainvoke({"n": 0}, copied)
    assert (seen[-1].thread, seen[-1].route) == (Spend(24, 0.25), Spend(24, 0.25))


async def test_pruned_checkpoints_take_their_calls_along(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, model: Routed
) -> None:
    async def first(state: Any) -> Any:
        await model.ainvoke("first")

    async def second(state: Any) -> Any:
        await model.ainvoke("second")

    async def ask(state: Any) -> Any:
        await model.ainvoke("third")
        interrupt("?")

    await chain(saver, first, second, ask).ainvoke({"seen": []}, thread)
    await saver.aprune([thread["configurable"]["thread_id"]])
    rows = await bank.do("SELECT node FROM runtime.model_call")
    assert [row["node"] for row in rows] == ["ask"]


# -- streams -------------------------------------------------------------------------------------------------------


async def stream(question: str, said: list[str]) -> AsyncIterator[str]:
    """A stream in two chunks that goes through the cache as a routed model's does."""
    cache = get_llm_cache()
    assert isinstance(cache, BaseCache)
    assert getattr(cache, "memoises_streams", False)
    if found := await cache.alookup(question, "streaming"):
        yield found[0].text
        return
    said.append(question)
    yield f"{len(said)}"
    await cache.aupdate(question, "streaming", [ChatGeneration(message=AIMessage(f"{len(said)}!"))])
    yield "!"


async def test_a_stream_is_paid_once(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    said: list[str] = []
    interfered = False

    async def decide(state: Any) -> Any:
        nonlocal interfered
        text = "".join([chunk async for chunk in stream("well?", said)])
        await current_step().fetchval(BALANCE, 1)
        if not interfered:
            interfered = True
            await bank.set(80)
        current_step().stage("UPDATE account SET note = 'x' WHERE id = 1")
        return {"seen": [text]}

    flow = transactional(chain(saver, decide))
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == ["1!"]
    assert said == ["well?"]
    assert [(s.attempts, s.llm_paid, s.llm_reused) for s in (await flow.areport(thread)).steps] == [(2, 1, 1)]


# -- what else a step used -----------------------------------------------------------------------------------------


async def test_a_step_names_what_its_tasks_used(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    async def reading(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        for name in ("verify@3", "plan@2", "verify@3"):
            step.uses(name)

    def without_reads(state: Any) -> Any:
        current_step().sync.uses("tone@1")
        current_step().sync.uses("plan@2")

    async def nothing(state: Any) -> Any:
        return {}

    for nodes, names in (
        ((reading, without_reads), ["plan@2", "tone@1", "verify@3"]),
        ((without_reads,), ["plan@2", "tone@1"]),
        ((nothing,), []),
    ):
        flow = transactional(fan(saver, *nodes))
        await flow.ainvoke({"seen": []}, thread)
        assert [step["prompts"] for step in (await flow.areport(thread)).to_dict()["steps"]] == [names]


async def test_only_what_counts_is_named(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    """Of a task that ran again because its facts had changed, what it used the last time."""
    balances = []

    async def decide(state: Any) -> Any:
        step = current_step()
        balances.append(await step.fetchval(BALANCE, 1))
        step.uses(f"plan@{balances[-1]}")
        if len(balances) == 1:
            await bank.set(80)
        step.stage("UPDATE account SET note = 'x' WHERE id = 1")

    async def sibling(state: Any) -> Any:
        current_step().uses("tone@1")

    flow = transactional(fan(saver, decide, sibling))
    await flow.ainvoke({"seen": []}, thread)
    assert balances == [100, 80]
    assert [step.prompts for step in (await flow.areport(thread)).steps] == [["plan@80", "tone@1"]]


async def test_what_a_saved_result_used_is_still_known_after_a_crash(
    database_url: str, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    broken = True
    runs = []

    async def reading(state: Any) -> Any:
        runs.append(1)
        await current_step().fetchval(BALANCE, 1)
        current_step().uses("plan@2")

    async def without_reads(state: Any) -> Any:
        runs.append(2)
        current_step().uses("tone@1")

    async def failing(state: Any) -> Any:
        current_step().uses("never@1" if broken else "again@1")
        while broken and len(await bank.do("SELECT 1 FROM runtime.task_effect")) < 2:
            pass  # until the others' results are saved, effects included
        if broken:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await transactional(fan(saver, reading, without_reads, failing)).ainvoke({"seen": []}, thread)
    broken = False
    async with TransactionalSaver.from_conn_string(database_url) as restarted:
        flow = transactional(fan(restarted, reading, without_reads, failing))
        await flow.ainvoke(None, thread)
        assert sorted(runs) == [1, 2]
        assert [step.prompts for step in (await flow.areport(thread)).steps] == [["again@1", "plan@2", "tone@1"]]
