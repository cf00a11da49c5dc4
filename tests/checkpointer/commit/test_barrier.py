"""The barrier: direct and replay commit, repair, drift, staged writes, fencing, a lost answer to COMMIT."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import (
    ConflictExhausted,
    StagedWriteFailed,
    StaleRun,
    StatementRefused,
    StepConflict,
    ThreadBusy,
    ThreadMismatch,
)
from superstep.runtime.flow.transactional import Settings
from tests.support.bank import Bank, make_bank
from tests.support.graphs import chain, fan

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

BALANCE = "SELECT balance FROM account WHERE id = $1"
SET = "UPDATE account SET balance = $1 WHERE id = $2"


async def one_step(saver: TransactionalSaver, thread: RunnableConfig) -> Any:
    steps = await saver.asteps(thread["configurable"]["thread_id"])
    assert len(steps) == 1
    return steps[0]


async def test_checkpoint_and_domain_write_commit_together(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        current_step().stage(SET, 7, 1, expect_rows=1)
        return {"n": 1}

    graph = chain(saver, node)

    async def arm_for_the_step() -> None:
        failpoints.disarm("commit.before_commit")
        failpoints.arm("commit.staged", boom)

    async def boom() -> None:
        failpoints.disarm("commit.staged")
        raise RuntimeError("the process dies here")

    failpoints.arm("commit.before_commit", arm_for_the_step)  # the input's commit
    with pytest.raises(RuntimeError, match="dies here"):
        await graph.ainvoke({"n": 0}, thread, durability="sync")
    assert await bank.balance() == 100
    assert (await graph.aget_state(thread)).values["n"] == 0
    assert (await graph.ainvoke(None, thread, durability="sync"))["n"] == 1
    assert await bank.balance() == 7
    assert (await one_step(saver, thread)).writes == 1


async def test_an_unrelated_conflict_is_repaired_and_nothing_runs_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The row changed and changed back: Postgres must abort the transaction, the facts are the same."""
    runs = 0

    async def node(state: Any) -> Any:
        nonlocal runs
        runs += 1
        step = current_step()
        value = await step.fetchval(BALANCE, 1)
        await bank.set(1)
        await bank.set(100)
        step.stage("UPDATE account SET balance = balance + 5 WHERE id = 1", expect_rows=1)
        return {"n": value}

    assert (await chain(saver, node).ainvoke({}, thread))["n"] == 100
    assert runs == 1
    assert await bank.balance() == 105
    step = await one_step(saver, thread)
    assert (step.attempts, step.repairs, step.drifts, step.commit) == (1, 1, 0, "replay")


async def test_only_the_drifted_task_runs_again(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    runs: list[str] = []

    def reader(account: int) -> Any:
        async def node(state: Any) -> Any:
            runs.append(f"r{account}")
            step = current_step()
            value = await step.fetchval(BALANCE, account)
            if runs.count("r1") == 1 and account == 1:
                await bank.set(60, account=1)
            step.stage("UPDATE account SET balance = balance - 10 WHERE id = $1", account, expect_rows=1)
            return {"seen": [[account, value]]}

        node.__name__ = f"r{account}"
        return node

    thread = new_thread()
    flow = transactional(fan(saver, reader(1), reader(2), reader(3)))
    result = await flow.ainvoke({"seen": []}, thread)
    assert sorted(runs) == ["r1", "r1", "r2", "r3"]
    assert result["seen"] == [[1, 60], [2, 100], [3, 100]]
    assert [await bank.balance(i) for i in (1, 2, 3)] == [50, 90, 90]
    step = await one_step(saver, thread)
    assert (step.attempts, step.drifts, step.nodes) == (2, 1, ["r1", "r2", "r3"])
    assert (step.reads, step.writes) == (3, 3)


async def test_facts_that_changed_while_the_connection_was_given_back_are_noticed(
    database_url: str, thread: RunnableConfig
) -> None:
    async with TransactionalSaver.from_conn_string(database_url, hold_idle=0) as saver:
        await make_bank(saver)
        bank = Bank(saver)
        values: list[int] = []

        async def node(state: Any) -> Any:
            step = current_step()
            values.append(await step.fetchval(BALANCE, 1))
            if len(values) == 1:
                await bank.set(40)
            step.stage(SET, values[-1] - 30, 1, expect_rows=1)

        await transactional(chain(saver, node)).ainvoke({}, thread)
        assert values == [100, 40]
        assert await bank.balance() == 10


async def test_write_skew_is_impossible(saver: TransactionalSaver, bank: Bank) -> None:
    """Two flows each read both accounts and take from one, if the sum allows: the classic anomaly of snapshots."""
    both_have_read = asyncio.Barrier(2)
    waited: set[int] = set()

    def taker(account: int) -> Any:
        async def node(state: Any) -> Any:
            step = current_step()
            total = await step.fetchval("SELECT sum(balance) FROM account WHERE id IN (1, 2)")
            if account not in waited:
                waited.add(account)
                await both_have_read.wait()
            if total >= 150:
                step.stage("UPDATE account SET balance = balance - 100 WHERE id = $1", account, expect_rows=1)
            return {"n": int(total)}

        return node

    flows = [transactional(chain(saver, taker(account))) for account in (1, 2)]
    await asyncio.gather(*(flow.ainvoke({}, {"configurable": {"thread_id": str(i)}}) for i, flow in enumerate(flows)))
    assert sorted([await bank.balance(1), await bank.balance(2)]) == [0, 100]


async def test_twenty_flows_racing_on_one_account(saver: TransactionalSaver, bank: Bank) -> None:
    start = asyncio.Barrier(20)
    waited: set[str] = set()

    async def draw(state: Any, config: RunnableConfig) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        if (thread := config["configurable"]["thread_id"]) not in waited:
            waited.add(thread)
            await start.wait()
        step.stage(SET, balance - 5, 1, expect_rows=1)

    flow = transactional(chain(saver, draw))
    await asyncio.gather(*(flow.ainvoke({}, {"configurable": {"thread_id": f"t{i}"}}) for i in range(20)))
    assert await bank.balance() == 0


async def test_conflicts_are_bounded_and_the_thread_stays_usable(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    interfere = True

    async def node(state: Any) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        if interfere:
            await bank.set(balance + 1)
        step.stage(SET, 0, 1)

    flow = transactional(chain(saver, node), settings=Settings(max_attempts=4, first_pause=0.001))
    with pytest.raises(ConflictExhausted) as caught:
        await flow.ainvoke({}, thread)
    assert (caught.value.attempts, caught.value.tasks) == (4, ("node",))
    assert await bank.balance() == 104
    report = await flow.areport(thread)
    assert (report.status, report.error["type"]) == ("failed", "ConflictExhausted")
    interfere = False
    await flow.ainvoke(None, thread)
    assert await bank.balance() == 0
    assert (await one_step(saver, thread)).attempts == 5


async def test_a_rejected_staged_write_undoes_the_step_and_runs_that_node_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    runs: list[str] = []
    amount = 500

    async def greedy(state: Any) -> Any:
        runs.append("greedy")
        current_step().stage("UPDATE account SET balance = balance - $1 WHERE id = 1", amount)
        return {"seen": ["greedy"]}

    async def modest(state: Any) -> Any:
        runs.append("modest")
        current_step().stage("UPDATE account SET balance = balance - 1 WHERE id = 2")
        return {"seen": ["modest"]}

    flow = transactional(fan(saver, greedy, modest))
    with pytest.raises(StagedWriteFailed) as caught:
        await flow.ainvoke({"seen": []}, thread)
    assert (caught.value.task, caught.value.sqlstate) == ("greedy", "23514")
    assert "500" not in str(caught.value)
    assert (await bank.balance(1), await bank.balance(2)) == (100, 100)
    amount = 50
    result = await flow.ainvoke(None, thread)
    assert result["seen"] == ["greedy", "modest"]
    assert (await bank.balance(1), await bank.balance(2)) == (50, 99)
    assert sorted(runs) == ["greedy", "greedy", "modest"]


@pytest.mark.parametrize(
    ("sql", "args", "state"),
    [
        ("UPDATE nowhere SET x = 1", (), "42P01"),
        ("INSERT INTO account VALUES (1, 1)", (), "23505"),
        ("UPDATE account SET balance = $1", ("text",), "22000"),
        ("not sql at all", (), "42601"),
    ],
)
async def test_bad_staged_sql_is_named_and_leaves_nothing(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, sql: str, args: tuple[Any, ...], state: str | None
) -> None:
    bad = True

    async def node(state: Any) -> Any:
        step = current_step()
        step.stage("UPDATE account SET balance = 1 WHERE id = 1")
        if bad:
            step.stage(sql, *args)

    flow = transactional(chain(saver, node))
    with pytest.raises(StagedWriteFailed) as caught:
        await flow.ainvoke({}, thread)
    assert caught.value.sqlstate == state
    assert await bank.balance() == 100
    bad = False
    await flow.ainvoke(None, thread)
    assert await bank.balance() == 1


@pytest.mark.parametrize(
    "sql", ["COMMIT", " -- x\n rollback to savepoint reads", "SET ROLE postgres", "", "/* only */"]
)
async def test_a_staged_write_cannot_end_the_transaction(
    saver: TransactionalSaver, thread: RunnableConfig, sql: str
) -> None:
    async def node(state: Any) -> Any:
        with pytest.raises(StatementRefused):
            current_step().stage(sql)
        return {"n": 1}

    assert (await chain(saver, node).ainvoke({}, thread))["n"] == 1


async def test_row_count_mismatch_is_a_conflict_and_the_node_decides_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    runs = 0

    async def node(state: Any) -> Any:
        nonlocal runs
        runs += 1
        current_step().stage("UPDATE account SET balance = 1 WHERE id = $1", 77 if runs == 1 else 1, expect_rows=1)

    await transactional(chain(saver, node)).ainvoke({}, thread)
    assert runs == 2
    assert await bank.balance() == 1


async def test_a_mismatch_that_stays_is_given_up_early(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    runs = 0

    async def node(state: Any) -> Any:
        nonlocal runs
        runs += 1
        current_step().stage("UPDATE account SET balance = 1 WHERE id = 77", expect_rows=1)

    with pytest.raises(ConflictExhausted):
        await transactional(chain(saver, node), settings=Settings(max_mismatches=3)).ainvoke({}, thread)
    assert runs == 3


async def test_the_lost_answer_to_commit_is_looked_up_not_guessed(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    lost = 0

    async def lose_it() -> None:
        nonlocal lost
        lost += 1
        raise asyncpg.ConnectionDoesNotExistError

    failpoints.arm("commit.lost_answer", lose_it)

    async def node(state: Any) -> Any:
        current_step().stage("UPDATE account SET balance = balance - 1 WHERE id = 1", expect_rows=1)
        return {"n": 1}

    assert (await chain(saver, node).ainvoke({}, thread))["n"] == 1
    assert lost == 1
    assert await bank.balance() == 99


@pytest.mark.parametrize("point", ["step.pinned", "commit.begun", "commit.validated", "commit.staged"])
async def test_a_connection_killed_anywhere_in_the_step_is_repaired(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, point: str
) -> None:
    runs = 0

    async def kill_once() -> None:
        failpoints.disarm(point)
        await bank.do(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )

    failpoints.arm(point, kill_once)

    async def node(state: Any) -> Any:
        nonlocal runs
        runs += 1
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        step.stage(SET, balance - 1, 1, expect_rows=1)
        return {"n": balance}

    assert (await chain(saver, node).ainvoke({}, thread, durability="sync"))["n"] == 100
    assert runs == 1
    assert await bank.balance() == 99


async def test_a_worker_that_lost_its_thread_commits_nothing(
    database_url: str, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """Two processes, here two savers: the second takes the thread over while the first one thinks."""
    first_thinks, second_is_done = asyncio.Event(), asyncio.Event()
    name = "first"

    async def node(state: Any) -> Any:
        step, me = current_step(), name
        balance = await step.fetchval(BALANCE, 1)
        if me == "first":
            first_thinks.set()
            await second_is_done.wait()
        step.stage(SET, balance - 10, 1)
        return {"seen": [me]}

    async with TransactionalSaver.from_conn_string(database_url) as other:
        slow = asyncio.create_task(chain(saver, node).ainvoke({"seen": []}, thread))
        await first_thinks.wait()
        name = "second"
        assert (await chain(other, node).ainvoke(None, thread))["seen"] == ["second"]
        second_is_done.set()
        with pytest.raises(StaleRun):
            await slow
        state = await chain(other, node).aget_state(thread)
    assert state.values["seen"] == ["second"]
    assert await bank.balance() == 90


async def test_a_fenced_worker_stores_no_pending_writes_either(
    database_url: str, saver: TransactionalSaver, thread: RunnableConfig, bank: Bank
) -> None:
    holding, resumed = asyncio.Event(), asyncio.Event()
    name = "first"

    async def quick(state: Any) -> Any:
        me = name
        if me == "first":
            await resumed.wait()
        return {"seen": [f"quick {me}"]}

    async def slow(state: Any) -> Any:
        me = name
        if me == "first":
            holding.set()
            await asyncio.Event().wait()
        return {"seen": [f"slow {me}"]}

    async with TransactionalSaver.from_conn_string(database_url) as other:
        first = asyncio.create_task(fan(saver, quick, slow).ainvoke({"seen": []}, thread))
        await holding.wait()
        name = "second"
        while await other.aget_tuple(thread) is None:  # nodes start before their input is committed
            pass  # and looking takes nothing over
        second = fan(other, quick, slow)
        taken = asyncio.Event()

        async def claimed() -> None:
            taken.set()

        failpoints.arm("run.claimed", claimed)
        run = asyncio.create_task(second.ainvoke(None, thread))
        await taken.wait()
        resumed.set()
        assert (await run)["seen"] == ["quick second", "slow second"]
        first.cancel()
        with pytest.raises((asyncio.CancelledError, StaleRun)):
            await first
    rows = await bank.do("SELECT count(*) FROM runtime.task_write WHERE channel = 'seen' AND task_path <> ''")
    assert rows[0][0] <= 3  # one each of the second run, and the input's


async def test_only_the_head_can_be_continued(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    """A put outside any run: what LangGraph's own Postgres saver accepts twice, forking the chain silently."""

    async def node(state: Any) -> Any:
        return {"n": 1}

    graph = chain(saver, node)
    await graph.ainvoke({}, thread)
    latest = await saver.aget_tuple(thread)
    assert latest is not None
    parent = latest.config
    child = {**latest.checkpoint, "id": "9" + latest.checkpoint["id"][1:]}
    await saver.aput(parent, child, {"source": "loop", "step": 9}, {})  # type: ignore[typeddict-item]
    sibling = {**latest.checkpoint, "id": "8" + latest.checkpoint["id"][1:]}
    with pytest.raises(StaleRun):
        await saver.aput(parent, sibling, {"source": "loop", "step": 9}, {})  # type: ignore[typeddict-item]
    assert (await saver.aget_tuple(thread)).checkpoint["id"] == child["id"]  # type: ignore[union-attr]


async def test_update_state_fences_a_run_under_way(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    thinking, go_on = asyncio.Event(), asyncio.Event()

    async def node(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        thinking.set()
        await go_on.wait()
        current_step().stage(SET, 1, 1)
        return {"n": 1}

    graph = chain(saver, node)
    run = asyncio.create_task(graph.ainvoke({"n": 0}, thread))
    await thinking.wait()
    await graph.aupdate_state(thread, {"n": 50}, as_node="node")
    go_on.set()
    with pytest.raises(StaleRun):
        await run
    assert (await graph.aget_state(thread)).values["n"] == 50
    assert await bank.balance() == 100


async def test_one_run_of_a_thread_at_a_time_in_a_process(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def node(state: Any) -> Any:
        started.set()
        await go_on.wait()
        return {"n": 1}

    flow = transactional(chain(saver, node))
    run = asyncio.create_task(flow.ainvoke({}, thread))
    await started.wait()
    with pytest.raises(ThreadBusy):
        await flow.ainvoke(None, thread)
    go_on.set()
    assert (await run)["n"] == 1


async def test_a_thread_belongs_to_its_graph(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    async def node(state: Any) -> Any:
        return {"n": 1}

    await transactional(chain(saver, node), name="first").ainvoke({}, thread)
    with pytest.raises(ThreadMismatch):
        await transactional(chain(saver, node), name="second").ainvoke({}, thread)
    assert (await transactional(chain(saver, node), name="first").ainvoke({}, thread))["n"] == 1


async def test_saved_results_are_hypotheses(
    database_url: str, saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """One task finishes, the process dies; before the resume the facts of the finished task move."""
    runs: list[str] = []
    finished = asyncio.Event()

    async def done(state: Any) -> Any:
        runs.append("done")
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        step.stage(SET, balance - 10, 1, expect_rows=1)
        return {"seen": [balance]}

    async def steady(state: Any) -> Any:
        runs.append("steady")
        balance = await current_step().fetchval(BALANCE, 2)
        return {"seen": [balance]}

    async def crashing(state: Any) -> Any:
        runs.append("crashing")
        if runs.count("crashing") == 1:
            await finished.wait()
            raise RuntimeError("crash")
        return {"seen": ["survived"]}

    async def flushed() -> None:
        if len(await bank.do("SELECT 1 FROM runtime.task_effect")) == 2:
            finished.set()

    failpoints.arm("writes.flushed", flushed)
    with pytest.raises(RuntimeError, match="crash"):
        await fan(saver, crashing, done, steady).ainvoke({"seen": []}, thread)
    await bank.set(50)
    async with TransactionalSaver.from_conn_string(database_url) as restarted:
        result = await transactional(fan(restarted, crashing, done, steady)).ainvoke(None, thread)
    assert result["seen"] == ["survived", 50, 100]
    assert runs.count("done") == 2
    assert runs.count("steady") == 1
    assert await bank.balance() == 40


async def test_plain_langgraph_raises_the_conflict_and_can_go_on(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    interfere = True

    async def node(state: Any) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        if interfere:
            await bank.set(20)
        step.stage(SET, balance - 20, 1)
        return {"n": balance}

    graph = chain(saver, node)
    with pytest.raises(StepConflict) as caught:
        await graph.ainvoke({}, thread)
    assert (caught.value.tasks, caught.value.attempts) == (("node",), 1)
    interfere = False
    assert (await graph.ainvoke(None, thread))["n"] == 20
    assert await bank.balance() == 0
