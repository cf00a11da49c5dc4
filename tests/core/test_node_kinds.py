"""Every kind of node, tool and task LangGraph has reads and writes in its super-step, and conflicts the same way."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.cache.memory import InMemoryCache
from langgraph.errors import NodeTimeoutError
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import CachePolicy, Command, RetryPolicy, Send, TimeoutPolicy

from checkpointer import TransactionalSaver, current_step, failpoints
from runtime import transactional
from runtime.faults import ConfigError, NoActiveStep, ReadFailed, StagedWriteFailed, StepConflict
from tests.core.conftest import Bank, make_bank
from tests.support.graphs import State, chain, fan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph

BALANCE = "SELECT balance FROM account WHERE id = $1"
LOG = "INSERT INTO journal (line) VALUES ($1)"
DEBIT = "UPDATE account SET balance = balance - 1 WHERE id = $1"

AGAIN = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=3, retry_on=(ValueError, TimeoutError))


class Once:
    """Changes an account's balance from outside, the first time it is asked to."""

    def __init__(self, bank: Bank, balance: int, account: int = 1) -> None:
        self._change = (bank, balance, account)
        self.done = False

    async def __call__(self) -> None:
        if not self.done:
            self.done = True
            bank, balance, account = self._change
            await bank.set(balance, account)


async def journal(bank: Bank) -> list[str]:
    return [row["line"] for row in await bank.do("SELECT line FROM journal ORDER BY seq")]


def pinned(saver: TransactionalSaver) -> int:
    """How many connections of the pool somebody holds."""
    return saver.engine.connections.lent


def graph_of(saver: Any, nodes: Iterable[Any], **options: Any) -> CompiledStateGraph[Any]:
    """Nodes one after the other, compiled with anything as checkpointer."""
    return chain(saver, *nodes, **options)


# -- functions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [False, True])
async def test_sync_node_reads_and_writes_in_its_super_step(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, wrap: bool
) -> None:
    def node(state: Any) -> Any:
        step = current_step().sync
        rows = step.fetch("SELECT balance FROM account ORDER BY id")
        row = step.fetchrow(BALANCE, 1)
        step.stage(DEBIT, 1, expect_rows=1)
        assert row is not None
        return {"seen": [len(rows), row["balance"], step.fetchval(BALANCE, 2)]}

    graph = chain(saver, node)
    flow = transactional(graph) if wrap else graph
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == [5, 100, 100]
    assert await bank.balance() == 99


async def test_sync_node_that_conflicts_runs_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    change = Once(bank, 55)
    seen: list[int] = []

    def node(state: Any) -> Any:
        step = current_step().sync
        seen.append(step.fetchval(BALANCE, 1))
        saver.engine.from_thread(change())
        step.stage(DEBIT, 1, expect_rows=1)
        return {"seen": [seen[-1]]}

    assert (await transactional(chain(saver, node)).ainvoke({"seen": []}, thread))["seen"] == [55]
    assert seen == [100, 55]
    assert await bank.balance() == 54


async def test_sync_step_on_the_loop_itself_is_refused(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        with pytest.raises(NoActiveStep):
            current_step().sync.fetchval(BALANCE, 1)
        return {"seen": [await current_step().fetchval(BALANCE, 1)]}

    assert (await chain(saver, node).ainvoke({"seen": []}, thread))["seen"] == [100]


@pytest.fixture
def sync_saver(database_url: str) -> Iterator[TransactionalSaver]:
    """A saver of a program without an event loop."""
    with TransactionalSaver.from_conn_string(database_url) as saver:
        saver.engine.from_thread(make_bank(saver))
        yield saver


def test_invoke_without_a_loop_retries_conflicts(sync_saver: TransactionalSaver, thread: RunnableConfig) -> None:
    bank = Bank(sync_saver)
    change = Once(bank, 55)

    def first(state: Any) -> Any:
        step = current_step().sync
        seen = [step.fetchval(BALANCE, 1)]
        sync_saver.engine.from_thread(change())
        step.stage(DEBIT, 1, expect_rows=1)
        return {"seen": seen}

    async def second(state: Any) -> Any:
        return {"seen": [await current_step().fetchval(BALANCE, 1)]}

    flow = transactional(chain(sync_saver, first, second))
    assert flow.invoke({"seen": []}, thread)["seen"] == [55, 54]
    assert flow.get_state(thread).values["seen"] == [55, 54]
    assert len(list(flow.get_state_history(thread))) == 4
    assert pinned(sync_saver) == 0


def test_stream_without_a_loop_shows_a_retried_step_once(
    sync_saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    change = Once(Bank(sync_saver), 55)

    def first(state: Any) -> Any:
        step = current_step().sync
        seen = [step.fetchval(BALANCE, 1)]
        sync_saver.engine.from_thread(change())
        step.stage(DEBIT, 1, expect_rows=1)
        return {"seen": seen}

    def second(state: Any) -> Any:
        return {"seen": [current_step().sync.fetchval(BALANCE, 1)]}

    flow = transactional(chain(sync_saver, first, second))
    chunks = list(flow.stream({"seen": []}, thread, stream_mode="updates"))
    assert chunks == [{"first": {"seen": [55]}}, {"second": {"seen": [54]}}]
    assert pinned(sync_saver) == 0


def test_stream_without_a_loop_can_be_left_early(sync_saver: TransactionalSaver, thread: RunnableConfig) -> None:
    def first(state: Any) -> Any:
        return {"seen": [current_step().sync.fetchval(BALANCE, 1)]}

    def second(state: Any) -> Any:
        return {"seen": [current_step().sync.fetchval(BALANCE, 2)]}

    flow = transactional(chain(sync_saver, first, second))
    for chunk in flow.stream({"seen": []}, thread, stream_mode="updates"):
        assert chunk == {"first": {"seen": [100]}}
        break
    assert flow.invoke(None, thread)["seen"] == [100, 100]
    assert pinned(sync_saver) == 0


def test_plain_graph_invoke_without_a_loop(sync_saver: TransactionalSaver, thread: RunnableConfig) -> None:
    """LangGraph's own synchronous loop: `get_tuple`, `put` and `put_writes` from its threads."""
    bank = Bank(sync_saver)
    change = Once(bank, 55)

    def first(state: Any) -> Any:
        step = current_step().sync
        seen = [step.fetchval(BALANCE, 1)]
        sync_saver.engine.from_thread(change())
        step.stage(DEBIT, 1, expect_rows=1)
        return {"seen": seen}

    graph = chain(sync_saver, first)
    with pytest.raises(StepConflict):
        graph.invoke({"seen": []}, thread, durability="sync")
    assert graph.invoke(None, thread, durability="sync")["seen"] == [55]
    assert sync_saver.engine.from_thread(bank.balance()) == 54
    assert list(graph.stream({"n": 1}, thread, stream_mode="updates", durability="sync")) == [{"first": {"seen": [54]}}]


async def test_functions_a_node_awaits_share_its_task(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def helper(account: int) -> int:
        step = current_step()
        step.stage(LOG, f"helper {account}")
        return int(await step.fetchval(BALANCE, account))

    async def node(state: Any) -> Any:
        together = await asyncio.gather(*(helper(i) for i in (1, 2, 3)))
        apart = await asyncio.create_task(helper(4))
        return {"seen": [*together, apart]}

    assert (await chain(saver, node).ainvoke({"seen": []}, thread))["seen"] == [100] * 4
    assert await journal(bank) == [f"helper {i}" for i in (1, 2, 3, 4)]
    (step,) = await saver.asteps(thread["configurable"]["thread_id"])
    assert (step.nodes, step.reads, step.writes) == (["node"], 4, 4)


async def test_reads_of_gather_are_all_validated(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    change = Once(bank, 7, account=3)

    async def node(state: Any) -> Any:
        step = current_step()
        seen = await asyncio.gather(*(step.fetchval(BALANCE, i) for i in (1, 2, 3)))
        await change()
        step.stage("UPDATE account SET balance = $1 WHERE id = 3", sum(seen), expect_rows=1)
        return {"seen": seen}

    assert (await transactional(chain(saver, node)).ainvoke({"seen": []}, thread))["seen"] == [100, 100, 7]
    assert await bank.balance(3) == 207


# -- tools ---------------------------------------------------------------------------------------------------------


def calls(*arguments: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """A state whose last message asks for these tools."""
    wanted = [{"name": name, "args": args, "id": f"call-{n}"} for n, (name, args) in enumerate(arguments)]
    return {"messages": [AIMessage("", tool_calls=wanted)]}


def tool_graph(saver: Any, *tools: Any, **options: Any) -> CompiledStateGraph[Any]:
    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode(tools, **options))
    builder.add_edge(START, "tools")
    return builder.compile(checkpointer=saver)


async def test_tools_read_and_stage_in_the_step_of_their_node(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    @tool
    async def balance(account: int) -> str:
        """The balance."""
        current_step().stage(LOG, f"async {account}")
        return str(await current_step().fetchval(BALANCE, account))

    @tool
    def balance_sync(account: int) -> str:
        """The balance."""
        current_step().stage(LOG, f"sync {account}")
        return str(current_step().sync.fetchval(BALANCE, account))

    graph = tool_graph(saver, balance, balance_sync)
    result = await graph.ainvoke(calls(("balance", {"account": 1}), ("balance_sync", {"account": 2})), thread)
    assert [m.content for m in result["messages"][1:]] == ["100", "100"]
    assert sorted(await journal(bank)) == ["async 1", "sync 2"]
    (step,) = await saver.asteps(thread["configurable"]["thread_id"])
    assert (step.nodes, step.reads, step.writes) == (["tools"], 2, 2)


@pytest.mark.parametrize("handle", [True, "sorry", Exception, (ValueError, StepConflict)])
async def test_conflict_inside_a_tool_is_no_tool_message(
    database_url: str, thread: RunnableConfig, handle: Any
) -> None:
    async with TransactionalSaver.from_conn_string(database_url, hold_idle=0) as saver:
        await make_bank(saver)
        change = Once(Bank(saver), 55)

        @tool
        async def balance() -> str:
            """The balance."""
            first = await current_step().fetchval(BALANCE, 1)
            await change()
            await current_step().fetchval(BALANCE, 2)  # here the first read is found to have moved
            return str(first)

        graph = tool_graph(saver, balance, handle_tool_errors=handle)
        with pytest.raises(StepConflict) as caught:
            await graph.ainvoke(calls(("balance", {})), thread)
        assert caught.value.tasks == ("tools",)
        assert len((await graph.aget_state(thread)).values["messages"]) == 1
        result = await graph.ainvoke(None, thread)
        assert [m.content for m in result["messages"] if isinstance(m, ToolMessage)] == ["55"]


async def test_conflict_inside_a_sync_tool_is_retried(database_url: str, thread: RunnableConfig) -> None:
    async with TransactionalSaver.from_conn_string(database_url, hold_idle=0) as saver:
        await make_bank(saver)
        change = Once(Bank(saver), 55)

        @tool
        def balance() -> str:
            """The balance."""
            step = current_step().sync
            first = step.fetchval(BALANCE, 1)
            saver.engine.from_thread(change())
            step.fetchval(BALANCE, 2)
            return str(first)

        flow = transactional(tool_graph(saver, balance, handle_tool_errors=True))
        result = await flow.ainvoke(calls(("balance", {})), thread)
        assert [m.content for m in result["messages"] if isinstance(m, ToolMessage)] == ["55"]


async def test_an_error_of_a_tool_still_is_a_tool_message(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    @tool
    async def broken() -> str:
        """Fails."""
        await current_step().fetchval(BALANCE, 1)
        raise ValueError("out of paper")

    result = await tool_graph(saver, broken, handle_tool_errors=True).ainvoke(calls(("broken", {})), thread)
    (message,) = [m for m in result["messages"] if isinstance(m, ToolMessage)]
    assert message.status == "error"
    assert "out of paper" in message.content


@pytest.mark.parametrize("wrap", [False, True])
async def test_a_conflict_in_the_middle_of_a_node_gives_its_connection_back(
    database_url: str, thread: RunnableConfig, *, wrap: bool
) -> None:
    async with TransactionalSaver.from_conn_string(database_url, hold_idle=0) as saver:
        await make_bank(saver)
        change = Once(Bank(saver), 55)

        async def node(state: Any) -> Any:
            first = await current_step().fetchval(BALANCE, 1)
            await change()
            await current_step().fetchval(BALANCE, 2)
            return {"seen": [first]}

        graph = chain(saver, node)
        if wrap:
            assert (await transactional(graph).ainvoke({"seen": []}, thread))["seen"] == [55]
        else:
            with pytest.raises(StepConflict):
                await graph.ainvoke({"seen": []}, thread)
        held = pinned(saver)
        # A connection nobody will ever give back would make closing the pool wait for ever: cut it here.
        if held:
            saver.engine.connections.pool.terminate()
        assert held == 0


async def test_a_rejected_read_does_not_keep_its_connection(database_url: str, thread: RunnableConfig) -> None:
    async with TransactionalSaver.from_conn_string(database_url, hold_idle=0, pool_max=1) as saver:
        await make_bank(saver)
        held: list[int] = []

        async def node(state: Any) -> Any:
            with pytest.raises(ReadFailed):
                await current_step().fetch("SELECT 1 / 0")
            held.append(pinned(saver))

        await chain(saver, node).ainvoke({"seen": []}, thread)
        assert held == [0]


# -- subgraphs -----------------------------------------------------------------------------------------------------


async def log_a(state: Any) -> Any:
    step = current_step()
    step.stage(LOG, "a")
    return {"seen": [("a", await step.fetchval("SELECT count(*) FROM journal"))]}


async def log_b(state: Any) -> Any:
    step = current_step()
    step.stage(LOG, "b")
    return {"seen": [("b", await step.fetchval("SELECT count(*) FROM journal"))]}


def around(saver: Any, inner: Any, *, called: bool = False) -> CompiledStateGraph[Any]:
    """A graph with `inner` as its node, or called from inside its node, and one node behind it."""
    builder = StateGraph(State)

    async def call(state: Any) -> Any:
        current_step().stage(LOG, "caller")
        result = await inner.ainvoke({"seen": []})
        return {"seen": result["seen"]}

    builder.add_node("inner", call if called else inner)

    async def after(state: Any) -> Any:
        return {"seen": [("after", await current_step().fetchval("SELECT count(*) FROM journal"))]}

    builder.add_node("after", after)
    builder.add_edge(START, "inner")
    builder.add_edge("inner", "after")
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("checkpointer", [None, True])
@pytest.mark.parametrize("wrap", [False, True])
async def test_each_super_step_of_a_subgraph_is_its_own_commit(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, checkpointer: Any, wrap: bool
) -> None:
    graph = around(saver, graph_of(checkpointer, [log_a, log_b]))
    flow = transactional(graph) if wrap else graph
    result = await flow.ainvoke({"seen": []}, thread)
    assert [tuple(pair) for pair in result["seen"]] == [("a", 0), ("b", 1), ("after", 2)]
    assert await journal(bank) == ["a", "b"]
    steps = await saver.asteps(thread["configurable"]["thread_id"])
    inner = [s for s in steps if s.checkpoint_ns]
    assert [(s.nodes, s.reads, s.writes) for s in inner] == [(["log_a"], 1, 1), (["log_b"], 1, 1)]
    assert {s.checkpoint_ns.partition(":")[0] for s in inner} == {"inner"}
    outer = [(s.nodes, s.reads, s.writes) for s in steps if not s.checkpoint_ns]
    assert outer == [(["inner"], 0, 0), (["after"], 1, 0)]
    assert pinned(saver) <= 1


@pytest.mark.parametrize("checkpointer", [None, True])
async def test_subgraph_called_from_inside_a_node(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, checkpointer: Any
) -> None:
    graph = around(saver, graph_of(checkpointer, [log_a, log_b]), called=True)
    result = await transactional(graph).ainvoke({"seen": []}, thread)
    assert [tuple(pair) for pair in result["seen"]] == [("a", 0), ("b", 1), ("after", 3)]
    assert await journal(bank) == ["a", "b", "caller"]
    assert pinned(saver) == 0


async def test_sync_subgraph_without_a_loop(database_url: str, thread: RunnableConfig) -> None:
    with TransactionalSaver.from_conn_string(database_url) as saver:
        saver.engine.from_thread(make_bank(saver))

        def inner_node(state: Any) -> Any:
            step = current_step().sync
            step.stage(LOG, "inner")
            return {"seen": [step.fetchval(BALANCE, 1)]}

        inner = graph_of(None, [inner_node])

        def outer(state: Any) -> Any:
            return {"seen": inner.invoke({"seen": []})["seen"]}

        graph = chain(saver, outer)
        assert graph.invoke({"seen": []}, thread, durability="sync")["seen"] == [100]
        assert transactional(graph).invoke({"seen": []}, {"configurable": {"thread_id": "other"}})["seen"] == [100]
        assert saver.engine.from_thread(journal(Bank(saver))) == ["inner", "inner"]


@pytest.mark.parametrize("called", [False, True])
async def test_conflict_in_a_subgraph_runs_only_its_drifted_step_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, called: bool
) -> None:
    change = Once(bank, 55)
    runs: Counter[str] = Counter()

    async def one(state: Any) -> Any:
        runs["one"] += 1
        current_step().stage(LOG, "one")

    async def two(state: Any) -> Any:
        runs["two"] += 1
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        await change()
        step.stage(DEBIT, 1, expect_rows=1)
        return {"seen": [("two", value)]}

    flow = transactional(around(saver, graph_of(None, [one, two]), called=called))
    result = await flow.ainvoke({"seen": []}, thread)
    expected = ["one", "caller"] if called else ["one"]
    assert [tuple(pair) for pair in result["seen"]] == [("two", 55), ("after", len(expected))]
    assert runs == {"one": 1, "two": 2}
    assert await bank.balance() == 54
    assert await journal(bank) == expected


async def test_plain_graph_raises_the_conflict_of_a_subgraph(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    change = Once(bank, 55)

    async def reader(state: Any) -> Any:
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        await change()
        step.stage(DEBIT, 1, expect_rows=1)
        return {"seen": [("reader", value)]}

    graph = around(saver, graph_of(None, [reader]))
    with pytest.raises(StepConflict) as caught:
        await graph.ainvoke({"seen": []}, thread)
    assert caught.value.tasks == ("reader",)
    result = await graph.ainvoke(None, thread)
    assert [tuple(pair) for pair in result["seen"]] == [("reader", 55), ("after", 0)]
    assert await bank.balance() == 54


@pytest.mark.parametrize("inner_writes", [False, True])
async def test_caller_that_drifts_after_its_subgraph_committed(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, inner_writes: bool
) -> None:
    """A subgraph that has committed domain writes is not run twice; one that only thought is run on the new facts."""
    change = Once(bank, 55)
    runs: Counter[str] = Counter()

    async def think(state: Any) -> Any:
        runs["think"] += 1
        if inner_writes:
            current_step().stage(LOG, "thought")
        return {"seen": [state["n"]]}

    inner = graph_of(None, [think])

    async def caller(state: Any) -> Any:
        runs["caller"] += 1
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        result = await inner.ainvoke({"n": value, "seen": []})
        await change()
        step.stage(DEBIT, 1, expect_rows=1)
        return {"seen": result["seen"]}

    result = await transactional(chain(saver, caller)).ainvoke({"seen": []}, thread)
    assert await bank.balance() == 54
    assert runs["caller"] == 2
    if inner_writes:
        assert runs["think"] == 1
        assert await journal(bank) == ["thought"]
        assert result["seen"] == [100]
    else:
        assert runs["think"] == 2
        assert result["seen"] == [55]


async def test_caller_of_a_conflicting_subgraph_gives_its_connection_back(
    database_url: str, thread: RunnableConfig
) -> None:
    """The caller's own transaction is open while the inner step conflicts; the next attempt must not forget it."""
    async with TransactionalSaver.from_conn_string(database_url, hold_idle="forever") as saver:
        await make_bank(saver)
        change = Once(Bank(saver), 55)

        async def think(state: Any) -> Any:
            step = current_step()
            value = await step.fetchval(BALANCE, 1)
            await change()
            step.stage(DEBIT, 1, expect_rows=1)
            return {"seen": [value]}

        inner = graph_of(None, [think])

        async def caller(state: Any) -> Any:
            await current_step().fetchval(BALANCE, 5)
            return {"seen": (await inner.ainvoke({"seen": []}))["seen"]}

        assert (await transactional(chain(saver, caller)).ainvoke({"seen": []}, thread))["seen"] == [55]
        held = pinned(saver)
        if held:
            saver.engine.connections.pool.terminate()  # else closing the pool would wait for it for ever
        assert held == 0


async def test_stateful_subgraph_keeps_its_state_between_runs_of_the_thread(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def remember(state: Any) -> Any:
        current_step().stage(LOG, f"remember {len(state['seen'])}")
        return {"seen": ["x"]}

    inner = graph_of(True, [remember])

    async def outer(state: Any) -> Any:
        result = await inner.ainvoke({"n": 1})
        return {"n": len(result["seen"])}

    flow = transactional(chain(saver, outer))
    assert [(await flow.ainvoke({"n": 0}, thread))["n"] for _ in range(3)] == [1, 2, 3]
    assert await journal(bank) == ["remember 0", "remember 1", "remember 2"]


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("called", [False, True])
async def test_subgraph_without_a_checkpointer_is_refused_by_name(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, called: bool, wrap: bool
) -> None:
    graph = around(saver, graph_of(False, [log_a]), called=called)
    flow = transactional(graph) if wrap else graph
    with pytest.raises(ConfigError, match=r"'log_a'.*checkpointer=False"):
        await flow.ainvoke({"seen": []}, thread)
    assert await journal(bank) == []


@pytest.mark.parametrize("wrap", [False, True])
async def test_subgraph_without_a_checkpointer_may_run_if_it_does_not_touch_the_step(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, wrap: bool
) -> None:
    async def pure(state: Any) -> Any:
        return {"seen": [("pure", 1)]}

    graph = around(saver, graph_of(False, [pure]), called=True)
    flow = transactional(graph) if wrap else graph
    result = await flow.ainvoke({"seen": []}, thread)
    assert [tuple(pair) for pair in result["seen"]] == [("pure", 1), ("after", 1)]


async def test_graph_without_our_saver_has_no_step(thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        with pytest.raises(NoActiveStep):
            current_step()
        return {"n": 1}

    assert (await graph_of(None, [node]).ainvoke({"n": 0}))["n"] == 1


# -- Send and Command ----------------------------------------------------------------------------------------------


class MapState(TypedDict, total=False):
    accounts: list[int]
    found: Annotated[list[tuple[int, int]], operator.add]


def map_reduce(saver: TransactionalSaver, worker: Any) -> CompiledStateGraph[Any]:
    async def total(state: Any) -> Any:
        current_step().stage(LOG, str(sum(value for _, value in state["found"])))

    builder = StateGraph(MapState)
    builder.add_node("worker", worker)
    builder.add_node("total", total)
    builder.add_conditional_edges(START, lambda s: [Send("worker", {"account": i}) for i in s["accounts"]], ["worker"])
    builder.add_edge("worker", "total")
    return builder.compile(checkpointer=saver)


async def test_only_the_drifted_send_task_runs_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    change = Once(bank, 7, account=2)
    all_have_read = asyncio.Barrier(3)
    runs: Counter[int] = Counter()

    async def worker(state: Any) -> Any:
        account = state["account"]
        runs[account] += 1
        step = current_step()
        value = await step.fetchval(BALANCE, account)
        if not change.done:
            await all_have_read.wait()
            if account == 2:
                await change()
        step.stage(DEBIT, account, expect_rows=1)
        return {"found": [(account, value)]}

    flow = transactional(map_reduce(saver, worker))
    result = await flow.ainvoke({"accounts": [1, 2, 3]}, thread)
    assert [tuple(pair) for pair in result["found"]] == [(1, 100), (2, 7), (3, 100)]
    assert runs == {1: 1, 2: 2, 3: 1}
    assert [await bank.balance(i) for i in (1, 2, 3)] == [99, 6, 99]
    assert await journal(bank) == ["207"]
    workers, total = await saver.asteps(thread["configurable"]["thread_id"])
    assert (workers.nodes, workers.attempts, workers.drifts, workers.reads, workers.writes) == (["worker"], 2, 1, 3, 3)
    assert (total.nodes, total.attempts) == (["total"], 1)


async def test_plain_graph_names_the_drifted_send_task(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    change = Once(bank, 7, account=2)
    runs: Counter[int] = Counter()

    async def worker(state: Any) -> Any:
        account = state["account"]
        runs[account] += 1
        value = await current_step().fetchval(BALANCE, account)
        if account == 2:
            await change()
            current_step().stage(DEBIT, account, expect_rows=1)
        return {"found": [(account, value)]}

    graph = map_reduce(saver, worker)
    with pytest.raises(StepConflict) as caught:
        await graph.ainvoke({"accounts": [1, 2, 3]}, thread)
    assert caught.value.tasks == ("worker",)
    result = await graph.ainvoke(None, thread)
    assert [tuple(pair) for pair in result["found"]] == [(1, 100), (2, 7), (3, 100)]
    assert runs == {1: 1, 2: 2, 3: 1}


async def test_command_routes_and_updates_with_the_commit(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    change = Once(bank, 5)

    async def decide(state: Any) -> Command[Any]:
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        await change()
        step.stage(LOG, f"decided on {value}")
        step.stage(DEBIT, 1, expect_rows=1)
        return Command(goto="rich" if value > 50 else "poor", update={"seen": [value]})

    async def rich(state: Any) -> Any:
        current_step().stage(LOG, "rich")

    async def poor(state: Any) -> Any:
        current_step().stage(LOG, "poor")

    builder = StateGraph(State)
    builder.add_node("decide", decide, destinations=("rich", "poor"))
    builder.add_node("rich", rich)
    builder.add_node("poor", poor)
    builder.add_edge(START, "decide")
    result = await transactional(builder.compile(checkpointer=saver)).ainvoke({"seen": []}, thread)
    assert result["seen"] == [5]
    assert await journal(bank) == ["decided on 5", "poor"]


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("called", [False, True])
async def test_command_to_the_parent_applies_what_the_inner_node_staged(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, called: bool, wrap: bool
) -> None:
    """The inner super-step has no barrier of its own then; the parent's commit takes its reads and writes along."""

    async def leave(state: Any) -> Command[Any]:
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        step.stage(LOG, "leaving")
        return Command(graph=Command.PARENT, goto="target", update={"seen": [("leave", value)]})

    inner = StateGraph(State)
    inner.add_node("leave", leave)
    inner.add_edge(START, "leave")
    sub = inner.compile()

    async def call(state: Any) -> Any:
        return await sub.ainvoke({"seen": []})

    async def target(state: Any) -> Any:
        return {"seen": [("target", await current_step().fetchval("SELECT count(*) FROM journal"))]}

    builder = StateGraph(State)
    builder.add_node("sub", call if called else sub, destinations=("target",))
    builder.add_node("target", target)
    builder.add_edge(START, "sub")
    graph = builder.compile(checkpointer=saver)
    flow = transactional(graph) if wrap else graph
    result = await flow.ainvoke({"seen": []}, thread)
    assert [tuple(pair) for pair in result["seen"]] == [("leave", 100), ("target", 1)]
    assert await journal(bank) == ["leaving"]
    assert pinned(saver) <= 1


async def test_command_to_the_parent_conflicts_when_what_the_inner_node_read_moved(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    change = Once(bank, 55)

    async def leave(state: Any) -> Command[Any]:
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        await change()
        step.stage(DEBIT, 1, expect_rows=1)
        return Command(graph=Command.PARENT, goto=END, update={"seen": [value]})

    inner = StateGraph(State)
    inner.add_node("leave", leave)
    inner.add_edge(START, "leave")
    builder = StateGraph(State)
    builder.add_node("sub", inner.compile())
    builder.add_edge(START, "sub")
    result = await transactional(builder.compile(checkpointer=saver)).ainvoke({"seen": []}, thread)
    assert result["seen"] == [55]
    assert await bank.balance() == 54


# -- retries, timeouts, error handlers -----------------------------------------------------------------------------


@pytest.mark.parametrize("second", ["silent", "reads", "stages"])
@pytest.mark.parametrize("wrap", [False, True])
async def test_only_the_finishing_attempt_of_a_retried_node_writes(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, second: str, wrap: bool
) -> None:
    tries: list[int] = []

    async def node(state: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            await current_step().fetchval(BALANCE, 1)
            current_step().stage(LOG, "first")
            raise ValueError("try again")
        if second == "reads":
            await current_step().fetchval(BALANCE, 1)
        if second == "stages":
            current_step().stage(LOG, "second")
        return {"n": len(tries)}

    graph = chain(saver, node, retry_policy=AGAIN)
    flow = transactional(graph) if wrap else graph
    assert (await flow.ainvoke({"n": 0}, thread))["n"] == 2
    assert await journal(bank) == (["second"] if second == "stages" else [])
    (step,) = await saver.asteps(thread["configurable"]["thread_id"])
    assert (step.writes, step.reads) == (int(second == "stages"), int(second == "reads"))
    assert pinned(saver) == 0


async def test_sync_node_that_is_retried_writes_once(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    tries: list[int] = []

    def node(state: Any) -> Any:
        tries.append(1)
        current_step().sync.stage(LOG, f"try {len(tries)}")
        if len(tries) < 3:
            raise ValueError("try again")

    await chain(saver, node, retry_policy=AGAIN).ainvoke({"n": 0}, thread)
    assert await journal(bank) == ["try 3"]


async def test_what_an_abandoned_attempt_read_is_nobodys_fact(database_url: str, thread: RunnableConfig) -> None:
    """The second attempt decided without those reads, so that they moved is no conflict."""
    async with TransactionalSaver.from_conn_string(database_url, hold_idle=0) as saver:
        await make_bank(saver)
        bank = Bank(saver)
        tries: list[int] = []

        async def node(state: Any) -> Any:
            tries.append(1)
            if len(tries) == 1:
                await current_step().fetchval(BALANCE, 1)
                await bank.set(55)
                raise ValueError("try again")
            return {"n": len(tries)}

        async def sibling(state: Any) -> Any:
            current_step().stage(LOG, "sibling")

        builder = StateGraph(State)
        builder.add_node("node", node, retry_policy=AGAIN)
        builder.add_node("sibling", sibling)
        builder.add_edge(START, "node")
        builder.add_edge(START, "sibling")
        graph = builder.compile(checkpointer=saver)
        assert (await graph.ainvoke({"n": 0}, thread))["n"] == 2
        assert await journal(bank) == ["sibling"]


async def test_retry_policy_does_not_swallow_a_conflict(database_url: str, thread: RunnableConfig) -> None:
    async with TransactionalSaver.from_conn_string(database_url, hold_idle=0) as saver:
        await make_bank(saver)
        change = Once(Bank(saver), 55)
        runs: list[int] = []

        async def node(state: Any) -> Any:
            runs.append(await current_step().fetchval(BALANCE, 1))
            await change()
            await current_step().fetchval(BALANCE, 2)

        policy = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=5, retry_on=Exception)
        with pytest.raises(StepConflict):
            await chain(saver, node, retry_policy=policy).ainvoke({"n": 0}, thread)
        assert runs == [100]


async def test_attempts_after_the_last_leave_nothing_and_can_be_resumed(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    broken = [True]

    async def node(state: Any) -> Any:
        current_step().stage(LOG, "written")
        if broken[0]:
            raise ValueError("always")

    flow = transactional(chain(saver, node, retry_policy=AGAIN))
    with pytest.raises(ValueError, match="always"):
        await flow.ainvoke({"n": 0}, thread)
    assert await journal(bank) == []
    broken[0] = False
    await flow.ainvoke(None, thread)
    assert await journal(bank) == ["written"]


async def test_a_node_that_timed_out_leaves_nothing_of_its_attempt(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    never = asyncio.Event()
    tries: list[int] = []

    async def node(state: Any) -> Any:
        tries.append(1)
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, f"try {len(tries)}")
        if len(tries) == 1:
            await never.wait()
        return {"n": len(tries)}

    timeout = TimeoutPolicy(run_timeout=0.5)
    policy = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=2, retry_on=Exception)
    graph = chain(saver, node, timeout=timeout, retry_policy=policy)
    assert (await graph.ainvoke({"n": 0}, thread))["n"] == 2
    assert await journal(bank) == ["try 2"]


async def test_a_node_that_timed_out_for_good_can_be_resumed(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    never = asyncio.Event()
    patient = [False]

    async def node(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, "done")
        if not patient[0]:
            await never.wait()

    flow = transactional(chain(saver, node, timeout=TimeoutPolicy(run_timeout=0.2)))
    with pytest.raises(NodeTimeoutError):
        await flow.ainvoke({"n": 0}, thread)
    assert pinned(saver) == 0
    assert await journal(bank) == []
    patient[0] = True
    never.set()
    await flow.ainvoke(None, thread)
    assert await journal(bank) == ["done"]


@pytest.mark.parametrize("wrap", [False, True])
async def test_inner_node_of_a_caller_that_timed_out_and_was_retried_writes_once(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, wrap: bool
) -> None:
    """The caller's attempt number changes, the inner task's id and attempt number do not."""
    never = asyncio.Event()
    tries: list[int] = []

    async def inner_node(state: Any) -> Any:
        tries.append(1)
        step = current_step()
        step.stage(LOG, f"try {len(tries)}")
        await step.fetchval(BALANCE, 1)
        if len(tries) == 1:
            await never.wait()

    inner = graph_of(None, [inner_node])

    async def caller(state: Any) -> Any:
        await inner.ainvoke({"n": 1})

    policy = RetryPolicy(initial_interval=0.001, jitter=False, max_attempts=2, retry_on=Exception)
    graph = chain(saver, caller, timeout=TimeoutPolicy(run_timeout=0.5), retry_policy=policy)
    await (transactional(graph) if wrap else graph).ainvoke({"n": 0}, thread)
    assert len(tries) == 2
    assert await journal(bank) == ["try 2"]


async def test_inner_sibling_cancelled_by_a_failure_writes_once_when_the_caller_is_retried(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    never, staged = asyncio.Event(), asyncio.Event()
    tries: Counter[str] = Counter()

    async def waiting(state: Any) -> Any:
        tries["waiting"] += 1
        current_step().stage(LOG, f"waiting {tries['waiting']}")
        staged.set()
        if tries["waiting"] == 1:
            await never.wait()

    async def failing(state: Any) -> Any:
        tries["failing"] += 1
        current_step().stage(LOG, f"failing {tries['failing']}")
        await staged.wait()
        if tries["failing"] == 1:
            raise ValueError("try again")

    inner = fan(None, failing, waiting)  # type: ignore[arg-type]

    async def caller(state: Any) -> Any:
        await inner.ainvoke({"n": 1})

    await chain(saver, caller, retry_policy=AGAIN).ainvoke({"n": 0}, thread)
    assert tries == {"waiting": 2, "failing": 2}
    assert await journal(bank) == ["failing 2", "waiting 2"]


@pytest.mark.parametrize("wrap", [False, True])
async def test_error_handler_writes_and_the_failed_node_does_not(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, *, wrap: bool
) -> None:
    async def risky(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, "risky")
        raise ValueError("no luck")

    async def handler(state: Any) -> Any:
        step = current_step()
        step.stage(LOG, "handled")
        return {"seen": [await step.fetchval(BALANCE, 1)]}

    builder = StateGraph(State)
    builder.add_node("risky", risky, error_handler=handler)
    builder.add_edge(START, "risky")
    graph = builder.compile(checkpointer=saver)
    flow = transactional(graph) if wrap else graph
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == [100]
    assert await journal(bank) == ["handled"]


async def test_error_handler_that_conflicts_runs_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    change = Once(bank, 55)
    runs: Counter[str] = Counter()

    async def risky(state: Any) -> Any:
        runs["risky"] += 1
        raise ValueError("no luck")

    async def handler(state: Any) -> Any:
        runs["handler"] += 1
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        await change()
        step.stage(DEBIT, 1, expect_rows=1)
        return {"seen": [value]}

    builder = StateGraph(State)
    builder.add_node("risky", risky, error_handler=handler)
    builder.add_edge(START, "risky")
    flow = transactional(builder.compile(checkpointer=saver))
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == [55]
    assert runs == {"risky": 1, "handler": 2}
    assert await bank.balance() == 54


# -- the functional API --------------------------------------------------------------------------------------------


async def test_entrypoint_and_tasks_read_and_write_in_one_super_step(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    @task
    async def look(account: int) -> int:
        step = current_step()
        step.stage(LOG, f"task {account}")
        return int(await step.fetchval(BALANCE, account))

    @task
    def look_sync(account: int) -> int:
        step = current_step().sync
        step.stage(LOG, f"task {account}")
        return int(step.fetchval(BALANCE, account))

    @entrypoint(checkpointer=saver)
    async def flow(accounts: list[int]) -> list[int]:
        step = current_step()
        step.stage(LOG, "entry")
        seen = [int(await step.fetchval(BALANCE, 5))]
        seen += await asyncio.gather(*(look(i) for i in accounts))
        seen.append(await look_sync(4))
        return seen

    assert await flow.ainvoke([1, 2], thread) == [100, 100, 100, 100]
    assert sorted(await journal(bank)) == ["entry", "task 1", "task 2", "task 4"]
    steps = await saver.asteps(thread["configurable"]["thread_id"])
    assert sum(s.reads for s in steps) == 4
    assert sum(s.writes for s in steps) == 4
    assert saver.engine.connections.lent == 0


async def test_tasks_called_by_tasks_belong_to_the_entrypoints_super_step(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    @task
    async def inner(account: int) -> int:
        current_step().stage(LOG, f"inner {account}")
        return int(await current_step().fetchval(BALANCE, account))

    @task
    async def outer(account: int) -> int:
        current_step().stage(LOG, f"outer {account}")
        return await inner(account)

    @entrypoint(checkpointer=saver)
    async def flow(account: int) -> int:
        return await outer(account)

    assert await transactional(flow).ainvoke(1, thread) == 100
    assert sorted(await journal(bank)) == ["inner 1", "outer 1"]
    assert saver.engine.connections.lent == 0


async def test_drifted_task_runs_again_and_the_finished_one_does_not(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    change = Once(bank, 7, account=2)
    runs: Counter[str] = Counter()

    @task
    async def steady() -> int:
        runs["steady"] += 1
        step = current_step()
        step.stage(LOG, "steady")
        return int(await step.fetchval(BALANCE, 1))

    @task
    async def drifting() -> int:
        runs["drifting"] += 1
        step = current_step()
        value = int(await step.fetchval(BALANCE, 2))
        await change()
        step.stage(DEBIT, 2, expect_rows=1)
        return value

    @entrypoint(checkpointer=saver)
    async def flow(given: str) -> list[int]:
        runs["flow"] += 1
        return [await steady(), await drifting()]

    assert await transactional(flow).ainvoke("go", thread) == [100, 7]
    assert runs["steady"] == 1
    assert runs["drifting"] == 2
    assert await journal(bank) == ["steady"]
    assert await bank.balance(2) == 6
    assert saver.engine.connections.lent == 0


async def test_entrypoint_decides_again_on_what_its_drifted_task_returns(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """What the entrypoint staged because of a stale answer must not be written."""
    change = Once(bank, 7)

    @task
    async def look() -> int:
        value = int(await current_step().fetchval(BALANCE, 1))
        await change()
        current_step().stage("UPDATE account SET balance = balance WHERE id = 1")
        return value

    @entrypoint(checkpointer=saver)
    async def flow(given: str) -> str:
        verdict = "rich" if await look() > 50 else "poor"
        current_step().stage(LOG, verdict)
        return verdict

    assert await transactional(flow).ainvoke("go", thread) == "poor"
    assert await journal(bank) == ["poor"]


async def test_entrypoint_that_reads_nothing_itself_still_follows_its_drifted_task(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    change = Once(bank, 7)

    @task
    async def look() -> int:
        value = int(await current_step().fetchval(BALANCE, 1))
        await change()
        current_step().stage(DEBIT, 1, expect_rows=1)
        return value

    @entrypoint(checkpointer=saver)
    async def flow(given: str) -> int:
        return await look()

    assert await transactional(flow).ainvoke("go", thread) == 7
    assert await bank.balance() == 6


def test_entrypoint_without_a_loop(sync_saver: TransactionalSaver, thread: RunnableConfig) -> None:
    @task
    def look(account: int) -> int:
        current_step().sync.stage(LOG, f"task {account}")
        return int(current_step().sync.fetchval(BALANCE, account))

    @entrypoint(checkpointer=sync_saver)
    def flow(accounts: list[int]) -> list[int]:
        return [future.result() for future in [look(i) for i in accounts]]

    assert flow.invoke([1, 2], thread, durability="sync") == [100, 100]
    assert sorted(sync_saver.engine.from_thread(journal(Bank(sync_saver)))) == ["task 1", "task 2"]
    assert pinned(sync_saver) == 0


# -- node caching --------------------------------------------------------------------------------------------------


def cached(saver: TransactionalSaver, node: Any) -> CompiledStateGraph[Any]:
    builder = StateGraph(State)
    builder.add_node("node", node, cache_policy=CachePolicy(key_func=lambda state: b"same"))
    builder.add_edge(START, "node")
    return builder.compile(checkpointer=saver, cache=InMemoryCache())


async def test_cached_node_that_touches_no_facts_is_not_run_twice(saver: TransactionalSaver, new_thread: Any) -> None:
    runs: list[int] = []

    async def node(state: Any) -> Any:
        runs.append(1)
        return {"n": 5}

    flow = transactional(cached(saver, node))
    assert (await flow.ainvoke({"n": 0}, new_thread()))["n"] == 5
    assert (await flow.ainvoke({"n": 0}, new_thread()))["n"] == 5
    assert runs == [1]


async def test_conflict_of_a_cached_node_is_not_answered_from_the_cache(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """LangGraph caches a result before the super-step commits; a result that was taken back must not come back."""
    change = Once(bank, 55)
    runs: list[int] = []

    async def node(state: Any) -> Any:
        step = current_step()
        runs.append(await step.fetchval(BALANCE, 1))
        await change()
        step.stage(DEBIT, 1, expect_rows=1)
        return {"n": runs[-1]}

    assert (await transactional(cached(saver, node)).ainvoke({"n": 0}, thread))["n"] == 55
    assert runs == [100, 55]
    assert await bank.balance() == 54


async def test_cached_result_never_stands_for_facts_and_writes(
    saver: TransactionalSaver, bank: Bank, new_thread: Any
) -> None:
    """A second thread hits the cache: its node must not pass for one that read and wrote."""

    async def node(state: Any) -> Any:
        step = current_step()
        step.stage(DEBIT, 1, expect_rows=1)
        return {"n": await step.fetchval(BALANCE, 1)}

    flow = transactional(cached(saver, node))
    assert (await flow.ainvoke({"n": 0}, new_thread()))["n"] == 100
    assert (await flow.ainvoke({"n": 0}, new_thread()))["n"] == 99
    assert await bank.balance() == 98


async def test_plain_graph_refuses_a_cached_result_that_rests_on_facts(
    saver: TransactionalSaver, bank: Bank, new_thread: Any
) -> None:
    async def node(state: Any) -> Any:
        step = current_step()
        step.stage(DEBIT, 1, expect_rows=1)
        return {"n": await step.fetchval(BALANCE, 1)}

    graph = cached(saver, node)
    assert (await graph.ainvoke({"n": 0}, new_thread()))["n"] == 100
    with pytest.raises(ConfigError, match="cache"):
        await graph.ainvoke({"n": 0}, new_thread())
    assert await bank.balance() == 99


# -- durability ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [False, True])
async def test_durability_exit_is_refused(saver: TransactionalSaver, thread: RunnableConfig, *, wrap: bool) -> None:
    runs: list[int] = []

    async def node(state: Any) -> Any:
        runs.append(1)

    graph = chain(saver, node)
    flow = transactional(graph) if wrap else graph
    with pytest.raises(ConfigError, match='durability="exit"'):
        await flow.ainvoke({"n": 0}, thread, durability="exit")
    assert runs == []


async def test_first_read_waits_for_the_commit_before_it_under_async_durability(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    order: list[str] = []
    second_runs = asyncio.Event()

    async def hold_back() -> None:
        if "first" in order and "committed" not in order:
            async with asyncio.timeout(10):
                await second_runs.wait()
            assert await bank.balance() == 100  # round trips, during which the second node's read could slip through
            order.append("committed")

    async def first(state: Any) -> Any:
        current_step().stage("UPDATE account SET balance = 1 WHERE id = 1", expect_rows=1)
        order.append("first")

    async def second(state: Any) -> Any:
        second_runs.set()
        value = await current_step().fetchval(BALANCE, 1)
        order.append("read")
        return {"seen": [value]}

    failpoints.arm("commit.before_commit", hold_back)
    result = await chain(saver, first, second).ainvoke({"seen": []}, thread, durability="async")
    assert result["seen"] == [1]
    assert order == ["first", "committed", "read"]


async def test_failing_commit_fails_the_next_step_and_the_run_under_async_durability(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    reached: list[str] = []
    amount = [1000]
    second_runs = asyncio.Event()

    async def hold_back() -> None:
        if "first" in reached and not second_runs.is_set():
            async with asyncio.timeout(10):
                await second_runs.wait()

    async def first(state: Any) -> Any:
        reached.append("first")
        current_step().stage("UPDATE account SET balance = balance - $1 WHERE id = 1", amount[0], expect_rows=1)

    async def second(state: Any) -> Any:
        second_runs.set()
        reached.append("second")
        value = await current_step().fetchval(BALANCE, 1)
        reached.append("read")
        return {"seen": [value]}

    failpoints.arm("commit.begun", hold_back)
    graph = chain(saver, first, second)
    with pytest.raises(StagedWriteFailed) as caught:
        await graph.ainvoke({"seen": []}, thread, durability="async")
    assert (caught.value.task, caught.value.sqlstate) == ("first", "23514")
    assert reached == ["first", "second"]
    assert await bank.balance() == 100
    amount[0] = 1
    assert (await graph.ainvoke(None, thread, durability="async"))["seen"] == [99]
    assert reached == ["first", "second", "first", "second", "read"]
    assert pinned(saver) == 0


async def test_conflict_under_async_durability_reruns_the_drifted_step(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    change = Once(bank, 55)
    runs: list[str] = []

    async def first(state: Any) -> Any:
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        await change()
        step.stage(DEBIT, 1, expect_rows=1)
        runs.append("first")
        return {"seen": [value]}

    async def second(state: Any) -> Any:
        value = await current_step().fetchval(BALANCE, 1)
        runs.append("second")
        return {"seen": [value]}

    graph = chain(saver, first, second)
    with pytest.raises(StepConflict):
        await graph.ainvoke({"seen": []}, thread, durability="async")
    assert (await graph.ainvoke(None, thread, durability="async"))["seen"] == [55, 54]
    assert runs == ["first", "first", "second"]
    flow = transactional(fan(saver, first))
    assert (await flow.ainvoke({"seen": []}, {"configurable": {"thread_id": "x"}}, durability="async"))["seen"] == [54]
