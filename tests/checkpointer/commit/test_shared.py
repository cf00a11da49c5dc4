"""Super-steps that commit in one transaction: together, each after those before it, and each on its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep import transactional
from superstep.checkpointer import current_step
from superstep.checkpointer.commit import order
from superstep.checkpointer.database import failpoints
from superstep.checkpointer.step.protection import Protection
from superstep.runtime.faults import StagedWriteFailed, StaleRun, StepConflict
from tests.support.bank import BALANCE, DEBIT, LOG, SHARE
from tests.support.graphs import chain, config_of, fan, steps_of
from tests.support.internals import assert_nothing_pinned, commits_wait, no_turn_is_free, one_at_a_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.support.bank import Bank

FLOWS = 5
NOTE = "INSERT INTO journal (line) VALUES ($1 || ' ' || pg_current_xact_id())"


class Together:
    """Flows that all wait for their turn, in their order, before the first one begins its transaction."""

    def __init__(self, saver: TransactionalSaver, new_thread: Callable[[], RunnableConfig]) -> None:
        self.saver = saver
        self.threads = [new_thread() for _ in range(FLOWS)]
        self.ran: list[int] = []
        self.decide: Callable[[int], Awaitable[None]] = self._notes  # what each does, unless a test wants another thing
        one_at_a_time(saver)

    async def _notes(self, at: int) -> None:
        await current_step().fetchval(BALANCE, 1 + at % 5)
        current_step().stage(NOTE, str(at))

    async def start(self, *, wrap: bool = False) -> list[asyncio.Task[Any]]:
        """Start them, each in the queue before the next one starts."""
        tasks = []
        async with no_turn_is_free(self.saver):
            for at, thread in enumerate(self.threads):
                tasks.append(asyncio.create_task(self.graph(at, wrap).ainvoke({"n": at}, thread, durability="sync")))
                await commits_wait(self.saver, at + 1)
        return tasks

    async def run(self, *, wrap: bool = False) -> list[Any]:
        """How they ended."""
        async with asyncio.timeout(30):
            return await asyncio.gather(*await self.start(wrap=wrap), return_exceptions=True)

    def graph(self, at: int, wrap: bool) -> Any:
        """The flow of that number."""

        async def node(state: Any) -> Any:
            self.ran.append(at)
            await self.decide(at)
            return {"n": state["n"] + 10}

        graph = chain(self.saver, node)
        return transactional(graph) if wrap else graph


@pytest.fixture(params=["harmless", "protected"])
def together(
    saver: TransactionalSaver,
    new_thread: Callable[[], RunnableConfig],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Together:
    """With reads that are known not to write, and with such as might."""
    monkeypatch.setattr(order, "_OLDEST", 60.0)  # on a busy machine a transaction is soon too old to be gone on in
    if request.param == "protected":
        monkeypatch.setattr(Protection, "_can_do_without", lambda *_: False)
    return Together(saver, new_thread)


def _transactions(lines: list[str]) -> dict[str, str]:
    """Of each flow that has written its line, the transaction."""
    return dict(line.split(" ") for line in lines)


async def test_those_that_wait_commit_in_one_transaction(together: Together, bank: Bank) -> None:
    ends = await together.run()
    assert [end["n"] for end in ends] == [at + 10 for at in range(FLOWS)]
    transactions = _transactions(await bank.journal())
    assert list(transactions) == list("01234")  # first come, first served
    assert len(set(transactions.values())) == 1
    for thread in together.threads:
        (step,) = await steps_of(together.saver, thread)
        assert (step.attempts, step.repairs, step.reads, step.writes, step.commit) == (1, 0, 1, 1, "replay")
    assert_nothing_pinned(together.saver)


async def test_each_is_validated_after_those_before_it(together: Together, bank: Bank) -> None:
    """All have read the same balance: the first takes it, and the others decide anew. Those before are committed."""

    async def decide(_: int) -> None:
        balance = await current_step().fetchval(BALANCE, 1)
        current_step().stage("UPDATE account SET balance = $1 WHERE id = 1", balance - 1)

    together.decide = decide
    ends = await together.run(wrap=True)
    assert [end["n"] for end in ends] == [at + 10 for at in range(FLOWS)]
    assert await bank.balance() == 100 - FLOWS
    assert together.ran.count(0) == 1
    assert all(together.ran.count(at) == 2 for at in range(1, FLOWS))


async def test_one_whose_facts_moved_is_rejected_alone(together: Together, bank: Bank) -> None:
    """It reads what the one before it writes. Nobody else runs again."""

    async def decide(at: int) -> None:
        await current_step().fetchval(BALANCE, 1 if at in (1, 2) else 2)
        current_step().stage(*(DEBIT, 1) if at == 1 else (NOTE, str(at)))

    together.decide = decide
    ends = await together.run()
    assert isinstance(ends[2], StepConflict)
    assert [end["n"] for at, end in enumerate(ends) if at != 2] == [10, 11, 13, 14]
    transactions = _transactions(await bank.journal())
    assert list(transactions) == list("034")
    # Those before it were committed at once, and it went on by itself.
    assert transactions["0"] != transactions["3"] == transactions["4"]


async def test_one_whose_read_is_rejected_after_those_before_it_is_alone_with_that(
    together: Together, bank: Bank
) -> None:
    """It has seen rows, and the writes of another make the statement fail. That ends nobody's transaction."""

    async def decide(at: int) -> None:
        await current_step().fetchval(SHARE, 1 if at == 2 else 2)
        current_step().stage(*("UPDATE account SET balance = 0 WHERE id = 1",) if at == 1 else (NOTE, str(at)))

    together.decide = decide
    ends = await together.run()
    assert isinstance(ends[2], StepConflict)
    assert [end["n"] for at, end in enumerate(ends) if at != 2] == [10, 11, 13, 14]
    assert await bank.balance() == 0
    assert list(_transactions(await bank.journal())) == list("034")


async def test_one_whose_write_is_rejected_fails_alone(together: Together, bank: Bank) -> None:
    async def decide(at: int) -> None:
        if at == 2:
            current_step().stage("UPDATE account SET balance = -1 WHERE id = 3")
        current_step().stage(NOTE, str(at))

    together.decide = decide
    ends = await together.run()
    assert isinstance(ends[2], StagedWriteFailed)
    assert list(_transactions(await bank.journal())) == list("0134")
    assert (await steps_of(together.saver, together.threads[1]))[0].repairs == 0


async def test_one_that_lost_its_thread_stops_alone(
    together: Together, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bank.do("CREATE TABLE lost (id int)")

    async def decide(at: int) -> None:
        if at == 3:
            thread_id = together.threads[3]["configurable"]["thread_id"]
            await bank.do("UPDATE runtime.thread SET token = DEFAULT WHERE thread_id = $1", thread_id)
        current_step().stage(NOTE, str(at))

    together.decide = decide
    ends = await together.run()
    assert isinstance(ends[3], StaleRun)
    assert list(_transactions(await bank.journal())) == list("0124")


async def test_what_is_refused_at_commit_fails_alone(together: Together, bank: Bank) -> None:
    """A deferred constraint stands for no one in particular: all try again alone, and its own task is told."""
    await bank.do("CREATE TABLE pair (id int PRIMARY KEY, of int REFERENCES pair DEFERRABLE INITIALLY DEFERRED)")

    async def decide(at: int) -> None:
        current_step().stage("INSERT INTO pair VALUES ($1, $2)", at, 99 if at == 1 else None)

    together.decide = decide
    ends = await together.run()
    assert isinstance(ends[1], StagedWriteFailed)
    assert [row["id"] for row in await bank.do("SELECT id FROM pair ORDER BY id")] == [0, 2, 3, 4]


@pytest.mark.parametrize("applied", [True, False], ids=["committed", "not committed"])
async def test_a_lost_answer_to_commit_is_looked_up_by_each(together: Together, bank: Bank, applied: bool) -> None:
    commit = asyncpg.Connection.execute
    lost = 0

    async def execute(self: Any, query: str, *args: Any, **options: Any) -> Any:
        nonlocal lost
        if query.startswith("COMMIT") and not lost:
            lost += 1
            if applied:
                await commit(self, query, *args, **options)
            self.terminate()
        return await commit(self, query, *args, **options)

    patch = pytest.MonkeyPatch()
    tasks = await together.start()
    patch.setattr(asyncpg.Connection, "execute", execute)
    try:
        ends = await asyncio.gather(*tasks)
    finally:
        patch.undo()
    assert lost == 1
    assert [end["n"] for end in ends] == [at + 10 for at in range(FLOWS)]
    assert sorted(_transactions(await bank.journal())) == list("01234")
    assert len(await bank.journal()) == FLOWS  # applied once
    assert together.ran == list(range(FLOWS))


async def _there_and_back(bank: Bank) -> None:
    """The facts hold, and the transaction cannot update the row: to it, the change is in its future."""
    await bank.set(0, 5)
    await bank.set(100, 5)


async def _dangerously(bank: Bank) -> None:
    """Reads what the transaction writes, and writes what it has read: the two have no order."""
    async with bank.saver.transaction() as tx:
        await tx.fetch("SELECT * FROM journal")
        await tx.execute("UPDATE account SET note = 'moved' WHERE id = 1")


@pytest.mark.parametrize(
    ("move", "repairs", "transactions"),
    [(_there_and_back, [0, 0, 0, 0, 1], 2), (_dangerously, [1, 1, 1, 0, 0], 4)],
    ids=["its row", "whole"],
)
async def test_nothing_runs_again_when_the_transaction_is_aborted(
    together: Together,
    bank: Bank,
    move: Callable[[Bank], Awaitable[None]],
    repairs: list[int],
    transactions: int,
) -> None:
    """What is wrong with one write alone is repaired by that one; if all of it is aborted, by each. Alone, then."""

    async def decide(at: int) -> None:
        await current_step().fetchval(BALANCE, 1 + at)
        if at == 4:
            current_step().stage(DEBIT, 5)
        current_step().stage(NOTE, str(at))

    together.decide = decide

    validated = 0

    async def at_the_third() -> None:
        nonlocal validated
        validated += 1
        if validated == 3:
            await move(bank)

    failpoints.arm("commit.validated", at_the_third)
    ends = await together.run()
    assert [end["n"] for end in ends] == [at + 10 for at in range(FLOWS)]
    assert await bank.balance(5) == 99
    assert together.ran == list(range(FLOWS))
    assert [(await steps_of(together.saver, thread))[0].repairs for thread in together.threads] == repairs
    assert len(set(_transactions(await bank.journal()).values())) == transactions


async def test_one_that_came_later_has_a_newer_snapshot(
    together: Together, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    """The transaction under way shows neither what it has read nor the checkpoint that it started from."""
    late: list[asyncio.Task[Any]] = []
    thread = new_thread()

    async def come_late() -> None:
        failpoints.disarm("commit.begun")
        await bank.set(55, 1)
        late.append(asyncio.create_task(together.graph(0, wrap=False).ainvoke({"n": 50}, thread, durability="sync")))
        await commits_wait(together.saver, FLOWS)

    failpoints.arm("commit.begun", come_late)

    async def decide(at: int) -> None:
        balance = await current_step().fetchval(BALANCE, 1) if late else at
        current_step().stage(NOTE, str(balance))

    together.decide = decide
    ends = await together.run()
    assert [end["n"] for end in ends] == [at + 10 for at in range(FLOWS)]
    assert (await late[0])["n"] == 60
    transactions = _transactions(await bank.journal())
    assert list(transactions) == [*"01234", "55"]
    assert len(set(transactions.values())) == 2
    (step,) = await steps_of(together.saver, thread)
    assert (step.attempts, step.repairs, step.drifts) == (1, 0, 0)


@pytest.mark.parametrize("which", [1, 2, 4])
async def test_one_that_is_cancelled_leaves_the_others(together: Together, bank: Bank, which: int) -> None:
    """Its own commit may still come, as the answer to any COMMIT may that nobody waits for: then all of it."""
    tasks = await together.start()
    tasks[which].cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(ends[which], asyncio.CancelledError)
    transactions = _transactions(await bank.journal())
    assert len(transactions) == len(await bank.journal())
    assert transactions.keys() - {str(which)} == {str(at) for at in range(FLOWS) if at != which}
    state = await together.graph(which, wrap=False).aget_state(together.threads[which])
    assert state.values["n"] == which + 10 * (str(which) in transactions)
    assert_nothing_pinned(together.saver)


async def test_one_whose_connection_is_cut_in_the_middle_is_repeated_with_all_others(
    together: Together, bank: Bank
) -> None:
    tasks = await together.start()
    reached = 0

    async def cut() -> None:
        nonlocal reached
        reached += 1
        if reached == 3:
            await bank.do(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle in transaction'"
            )

    failpoints.arm("commit.staged", cut)
    ends = await asyncio.gather(*tasks)
    assert [end["n"] for end in ends] == [at + 10 for at in range(FLOWS)]
    assert sorted(_transactions(await bank.journal())) == list("01234")
    assert len(await bank.journal()) == FLOWS
    assert together.ran == list(range(FLOWS))


async def test_what_a_trigger_sets_is_not_seen_by_the_next(together: Together, bank: Bank) -> None:
    """In a transaction of its own it would not be either."""
    await bank.do(
        "CREATE FUNCTION signs() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM set_config('app.signed', NEW.line, true); "
        "PERFORM set_config('search_path', 'nowhere', false); CREATE TEMP TABLE journal (line text); RETURN NEW; END $$"
    )
    await bank.do("CREATE TRIGGER signs AFTER INSERT ON journal FOR EACH ROW EXECUTE FUNCTION signs()")
    seen = "INSERT INTO journal (line) VALUES ($1 || ' [' || coalesce(current_setting('app.signed', true), '') || ']')"

    async def decide(at: int) -> None:
        await current_step().fetchval(BALANCE, 1)
        current_step().stage(seen, str(at))

    together.decide = decide
    ends = await together.run()
    assert [end["n"] for end in ends] == [at + 10 for at in range(FLOWS)]
    assert await bank.journal() == [f"{at} []" for at in range(FLOWS)]


async def test_what_sets_something_by_itself_is_followed_by_nobody(together: Together, bank: Bank) -> None:
    async def decide(at: int) -> None:
        if at == 2:
            current_step().stage("SELECT set_config('app.user', 'two', true)")
        current_step().stage(NOTE, str(at))

    together.decide = decide
    await together.run()
    transactions = _transactions(await bank.journal())
    assert transactions["0"] == transactions["1"] == transactions["2"] != transactions["3"] == transactions["4"]


async def test_subgraphs_do_not_share(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    """Their commit rests on their callers', who may drift meanwhile. They take part in the order all the same."""
    one_at_a_time(saver)
    inner = chain(None, _notes)

    async def outer(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        return {"n": (await inner.ainvoke({"n": state["n"]}))["n"]}

    threads = [new_thread() for _ in range(4)]
    ends = await asyncio.gather(*(chain(saver, outer).ainvoke({"n": at}, thread) for at, thread in enumerate(threads)))
    assert [end["n"] for end in ends] == [10, 11, 12, 13]
    transactions = _transactions(await bank.journal())
    assert len(set(transactions.values())) == 4


async def _notes(state: Any) -> Any:
    await current_step().fetchval(BALANCE, 2)
    current_step().stage(NOTE, str(state["n"]))
    return {"n": state["n"] + 10}


async def test_siblings_are_ordered_within_a_shared_transaction(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    """Two tasks of one super-step that rest on the same fact conflict there as anywhere."""
    one_at_a_time(saver)

    def drawer(name: str) -> Callable[[Any], Awaitable[Any]]:
        async def node(_: Any) -> Any:
            balance = await current_step().fetchval(BALANCE, 1)
            if balance >= 70:
                current_step().stage("UPDATE account SET balance = balance - 70 WHERE id = 1")
            current_step().stage(LOG, f"{name} {balance}")

        node.__name__ = name
        return node

    graph = transactional(fan(saver, drawer("a"), drawer("b")))
    await asyncio.gather(*(graph.ainvoke({"n": 0}, config_of(new_thread()["configurable"]["thread_id"])) for _ in "12"))
    assert await bank.balance() == 30
    assert sorted(line.split(" ")[1] for line in await bank.journal()) == ["100", "30", "30", "30"]
