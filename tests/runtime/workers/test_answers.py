"""Answers that are sent from elsewhere, and questions whose time is over: exactly one counts, and none is lost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from langgraph.runtime import RunControl
from langgraph.types import Command

from superstep.checkpointer import TransactionalSaver, asend
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import (
    AnswerRefused,
    ConfigError,
    SchemaMissing,
    StaleRun,
    ThreadBusy,
    ThreadNotFound,
    ValueNotSerializable,
)
from superstep.runtime.flow.transactional import transactional
from superstep.runtime.settings.settings import RunSettings
from superstep.runtime.workers.answering import Entry, entry
from superstep.runtime.workers.graphs import Graphs
from superstep.runtime.workers.perform import perform
from tests.runtime.workers import families
from tests.runtime.workers.conftest import ended, working
from tests.runtime.workers.test_children import completed, seen
from tests.support.bank import Bank

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.checkpointer import QueuedRun

FAMILIES = families.__name__
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def fresh() -> Any:
    families.reset()
    yield
    for name in failpoints.CHILD_NAMES:
        failpoints.disarm(name)


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """The sender's own."""
    conn = await asyncpg.connect(database_url)
    yield conn
    await conn.close()


async def asked(saver: TransactionalSaver, name: str = "asking", thread: str = "t") -> Any:
    """A thread that waits at a question."""
    flow = transactional(getattr(families, name).copy(update={"checkpointer": saver}), name=f"{FAMILIES}:{name}")
    await flow.ainvoke({"n": 1}, {"configurable": {"thread_id": thread}})
    return flow


async def refused(saver: TransactionalSaver) -> list[QueuedRun]:
    return await saver.fleet.runs(state="failed")


async def test_an_answer_is_committed_with_the_senders_transaction(saver: TransactionalSaver, conn: Any) -> None:
    await asked(saver)
    async with working(saver):
        tx = conn.transaction()
        await tx.start()
        await asend(conn, "t", {"ok": True})
        await tx.rollback()
        assert await saver.fleet.runs() == []
        async with conn.transaction():
            await asend(conn, "t", {"ok": True})
            assert await saver.fleet.runs() == []
        await completed(saver, "t")
        (run,) = await ended(saver)
    assert (run.state, run.answer, await seen(saver, "t", "asking")) == ("completed", "sent", [{"ok": True}])


async def test_outside_of_a_transaction_it_is_there_at_once(saver: TransactionalSaver, conn: Any) -> None:
    await asked(saver)
    await asend(conn, "t", None)
    assert [run.state for run in await saver.fleet.runs()] == ["queued"]
    async with working(saver):
        await completed(saver, "t")
    assert await seen(saver, "t", "asking") == [None]


async def test_of_two_answers_the_first_counts_and_the_second_is_listed(saver: TransactionalSaver, conn: Any) -> None:
    await asked(saver, "twice")
    await asend(conn, "t", "one")
    await asend(conn, "t", "another")
    async with working(saver):
        first, second = await ended(saver, 2)
    assert (first.state, second.state) == ("interrupted", "failed")
    assert (second.error or "").startswith("AnswerRefused: Question ")
    assert families.twice is not None
    flow = transactional(families.twice.copy(update={"checkpointer": saver}))
    state = await flow.aget_state({"configurable": {"thread_id": "t"}})
    assert [each.value for each in state.interrupts] == ["second?"]  # which "another" was not meant for


async def test_two_answers_that_are_sent_at_once(
    saver: TransactionalSaver, late: TransactionalSaver, conn: Any
) -> None:
    await asked(saver)
    async with saver.transaction() as tx:
        await asend(tx, "t", "one")
        await asend(conn, "t", "another")  # while the other one is not committed: neither waits
    async with working(saver), working(late):
        runs = await ended(saver, 2)
    assert sorted(run.state for run in runs) == ["completed", "failed"]
    assert await seen(saver, "t", "asking") in (["one"], ["another"])


async def test_an_answer_that_somebody_overtakes_is_refused_by_name(saver: TransactionalSaver, conn: Any) -> None:
    flow = await asked(saver, "twice")
    await asend(conn, "t", "late")
    await flow.ainvoke(Command(resume="by hand"), {"configurable": {"thread_id": "t"}})
    async with working(saver):
        (run,) = await ended(saver)
    assert (run.state, (run.error or "").split(":")[0]) == ("failed", "AnswerRefused")
    assert await seen(saver, "t", "twice") == []


@pytest.mark.parametrize("balance", [50, 0])
async def test_an_answer_whose_facts_have_moved_is_listed(saver: TransactionalSaver, conn: Any, balance: int) -> None:
    """Also if nothing is asked any more, and the thread has gone on."""
    flow = await asked(saver, "paying")
    await asend(conn, "t", "yes")
    await Bank(saver).set(balance)
    async with working(saver):
        (run,) = await ended(saver)
        assert (run.state, (run.error or "").split(":")[0]) == ("failed" if balance else "completed", "AnswerRefused")
        if balance:
            state = await flow.aget_state({"configurable": {"thread_id": "t"}})
            assert [each.value for each in state.interrupts] == ["pay of 50?"]
            await asend(conn, "t", "now")
            _, run = await ended(saver, 2)
            assert (run.state, run.error) == ("completed", None)
    assert await seen(saver, "t", "paying") == ["now" if balance else "nothing to pay of"]


async def test_somebody_answers_between_the_look_and_the_run(saver: TransactionalSaver, conn: Any) -> None:
    """The run takes the thread only as it was when its question was looked at."""
    flow = await asked(saver, "twice")

    async def overtake() -> None:
        failpoints.disarm("answer.looked_at")
        await flow.ainvoke(Command(resume="by hand"), {"configurable": {"thread_id": "t"}})

    failpoints.arm("answer.looked_at", overtake)
    await asend(conn, "t", "late")
    async with working(saver):
        (run,) = await ended(saver)
    assert (run.state, (run.error or "").split(":")[0], run.delivery) == ("failed", "AnswerRefused", 2)
    state = await flow.aget_state({"configurable": {"thread_id": "t"}})
    assert [each.value for each in state.interrupts] == ["second?"]


async def test_a_worker_that_dies_with_an_answer_has_not_lost_it(
    saver: TransactionalSaver, late: TransactionalSaver, conn: Any
) -> None:
    """Before it has taken the thread, and after the answer has led to another question."""
    await asked(saver, "twice")
    await asend(conn, "t", "one")
    claimed, wake = asyncio.Event(), asyncio.Event()

    async def die() -> None:
        failpoints.disarm("run.claimed")
        claimed.set()
        await wake.wait()

    failpoints.arm("run.claimed", die)
    graph = f"{FAMILIES}:twice"
    (run,) = await late.fleet.claim(late.runs.worker.id, [graph], 1, 60.0)
    entered = await entry(late, run, late.fleet.request(run, late.serde), begun=False)
    assert isinstance(entered, Entry)
    async with Graphs(late, RunSettings(), [graph]) as graphs, graphs.flow(graph, {}, None) as flow:
        how = {"begun": False, "delivery": entered.delivery}
        first = asyncio.create_task(perform(flow, late, run, entered.request, RunControl(), **how))
        await claimed.wait()  # it has the thread, and is silent from now on
        async with saver.transaction() as tx:
            await tx.execute("UPDATE runtime.queued_run SET lease_until = now() - interval '1 second'")
        async with working(saver):
            (run,) = await ended(saver)
        wake.set()
        with pytest.raises(StaleRun):
            await first
    assert (run.state, run.delivery) == ("interrupted", 2)
    flow = transactional(families.twice.copy(update={"checkpointer": saver}))
    state = await flow.aget_state({"configurable": {"thread_id": "t"}})
    assert [each.value for each in state.interrupts] == ["second?"]
    async with saver.transaction() as tx:  # it was not told how the run has ended
        await tx.execute(
            "UPDATE runtime.queued_run SET state = 'running', ended_at = NULL, worker_id = $1, "
            "lease_until = now() - interval '1 second'",
            late.runs.worker.id,
        )
    async with working(saver):
        (run,) = await ended(saver)
    assert (run.state, run.error) == ("interrupted", None)


@pytest.mark.parametrize(
    ("thread", "how", "error"),
    [
        ("none", {}, ThreadNotFound),
        ("done", {}, AnswerRefused),
        ("t", {"interrupt": "0123456789abcdef"}, AnswerRefused),
        ("t", {"interrupt": ""}, AnswerRefused),
        ("both", {}, AnswerRefused),
        ("unnamed", {}, AnswerRefused),
        ("t", {"value": object()}, ValueNotSerializable),
        ("t", {"value": {1: 2}}, ValueNotSerializable),
        ("t", {"schema": "elsewhere"}, SchemaMissing),
    ],
)
async def test_what_cannot_be_sent(
    saver: TransactionalSaver, conn: Any, thread: str, how: dict[str, Any], error: type[Exception]
) -> None:
    await asked(saver)
    await asked(saver, "child", "done")
    await asked(saver, "both", "both")
    unnamed = transactional(families.asking.copy(update={"checkpointer": saver}))
    await unnamed.ainvoke({"n": 1}, {"configurable": {"thread_id": "unnamed"}})
    async with conn.transaction():
        with pytest.raises(error):
            await asend(conn, thread, how.pop("value", "yes"), **how)
        assert await conn.fetchval("SELECT 1") == 1  # the sender's transaction goes on
    assert await saver.fleet.runs() == []


async def test_a_connection_of_another_driver(saver: TransactionalSaver) -> None:
    with pytest.raises(ConfigError):
        await asend(object(), "t", 1)  # type: ignore[arg-type]


async def test_a_thread_that_runs_and_asks_nothing(saver: TransactionalSaver, conn: Any) -> None:
    async with working(saver):
        await saver.fleet.submit(f"{FAMILIES}:holding", {"n": 1}, thread="t")
        await families.meet["here"].wait()
        with pytest.raises(ThreadBusy):
            await asend(conn, "t", 1)
        families.meet["go here"].set()


async def test_of_several_questions_the_one_that_is_named(saver: TransactionalSaver, conn: Any) -> None:
    flow = await asked(saver, "both", "t")
    config: Any = {"configurable": {"thread_id": "t"}}
    ids = {each.value: each.id for each in (await flow.aget_state(config)).interrupts}
    async with working(saver):
        await asend(conn, "t", "there", interrupt=ids["there?"])
        await ended(saver)
        with pytest.raises(AnswerRefused):  # its task has gone on
            await asend(conn, "t", "again", interrupt=ids["there?"])
        await asend(conn, "t", "here")  # there is one left
        await completed(saver, "t")
    assert sorted(await seen(saver, "t", "both")) == ["here", "there"]


# -- until a certain time ---------------------------------------------------------------------------------------------


async def pass_by(saver: TransactionalSaver) -> None:
    """The time of all questions is over: the database's clock is a day ahead."""
    async with saver.transaction() as tx:
        await tx.execute("UPDATE runtime.question SET expires_at = expires_at - interval '1 day'")


@pytest.mark.parametrize(
    ("terms", "answer"),
    [
        ({"expires": HOUR, "otherwise": {"ok": False}}, {"ok": False}),
        ({"expires": HOUR, "otherwise": None}, None),
        ({"expires": HOUR}, "expired"),
        ({"expires": datetime.now(UTC) + HOUR, "otherwise": 0}, 0),
    ],
)
async def test_when_its_time_is_over_a_worker_answers(
    saver: TransactionalSaver, terms: dict[str, Any], answer: Any
) -> None:
    families.meet["terms"] = terms
    await asked(saver, "waiting")
    async with working(saver):
        await asyncio.gather(*(saver.fleet.look_after() for _ in range(3)))
        assert await saver.fleet.runs() == []  # not before
        await pass_by(saver)
        await completed(saver, "t")
        (run,) = await ended(saver)
    assert (run.state, run.answer, await seen(saver, "t", "waiting")) == ("completed", "expiry", [answer])


async def test_a_time_in_the_past_is_over_at_once(saver: TransactionalSaver) -> None:
    families.meet["terms"] = {"expires": datetime(2020, 1, 1, tzinfo=UTC), "otherwise": "no"}
    await asked(saver, "waiting")
    async with working(saver):
        await completed(saver, "t")
    assert await seen(saver, "t", "waiting") == ["no"]


async def test_an_answer_in_time_cancels_it(saver: TransactionalSaver, conn: Any) -> None:
    families.meet["terms"] = {"expires": HOUR, "otherwise": "no"}
    await asked(saver, "waiting")
    await asend(conn, "t", "yes")
    await pass_by(saver)  # before anybody has delivered it
    await saver.fleet.look_after()
    async with working(saver):
        sent, over = await ended(saver, 2)
    assert (sent.state, over.state, over.error) == ("completed", "completed", None)
    assert await seen(saver, "t", "waiting") == ["yes"]
    assert families.did == ["ask", "ask"]


async def test_an_answer_that_comes_later_is_refused(saver: TransactionalSaver, conn: Any) -> None:
    families.meet["terms"] = {"expires": HOUR, "otherwise": "no"}
    await asked(saver, "waiting")
    await pass_by(saver)
    with pytest.raises(AnswerRefused, match="over"):
        await asend(conn, "t", "yes")
    await saver.fleet.look_after()
    async with working(saver):
        await completed(saver, "t")
    assert await seen(saver, "t", "waiting") == ["no"]


async def test_two_workers_that_see_it_at_once_answer_once(saver: TransactionalSaver, late: TransactionalSaver) -> None:
    families.meet["terms"] = {"expires": HOUR, "otherwise": "no"}
    for n in range(5):
        await asked(saver, "waiting", f"t{n}")
    await pass_by(saver)
    await asyncio.gather(*(each.fleet.look_after() for each in (saver, late) for _ in range(3)))
    await saver.fleet.look_after()
    assert len(await saver.fleet.runs()) == 5


async def test_asked_again_it_keeps_its_time(saver: TransactionalSaver) -> None:
    families.meet["terms"] = {"expires": HOUR, "otherwise": "no"}
    flow = await asked(saver, "waiting")
    await pass_by(saver)
    await flow.ainvoke(None, {"configurable": {"thread_id": "t"}})  # as after a crash
    await saver.fleet.look_after()
    assert [run.answer for run in await saver.fleet.runs()] == ["expiry"]


@pytest.mark.parametrize(
    "terms",
    [
        {"expires": timedelta(seconds=-1)},
        {"expires": timedelta(0)},
        {"expires": datetime(2030, 1, 1)},  # noqa: DTZ001 - that is the case
    ],
)
async def test_times_that_are_none(saver: TransactionalSaver, terms: dict[str, Any]) -> None:
    families.meet["terms"] = terms
    with pytest.raises(ConfigError):
        await asked(saver, "waiting")


async def test_an_otherwise_that_json_cannot_say(saver: TransactionalSaver) -> None:
    families.meet["terms"] = {"expires": HOUR, "otherwise": object()}
    with pytest.raises(ValueNotSerializable):
        await asked(saver, "waiting")
