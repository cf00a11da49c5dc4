"""Checkpoints of several flows that are stored by one statement: together, and each on its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep.checkpointer.commit import group
from superstep.checkpointer.database import failpoints
from superstep.runtime.faults import RuntimeFault, StaleRun
from tests.support.graphs import LARGE, chain, config_of
from tests.support.internals import checkpoints_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.support.bank import Bank

FLOWS = 6


class Held:
    """Holds the first checkpoint after it is stored, until `wanted` others wait; counts what each statement stores."""

    def __init__(self, saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch, wanted: int = FLOWS - 1) -> None:
        self.sizes: list[int] = []
        self.let_go = asyncio.Event()
        self._saver, self.wanted = saver, wanted
        put_roots = group.put_roots

        async def counted(conn: Any, schema: str, puts: Any) -> set[str]:
            self.sizes.append(len(puts))
            return await put_roots(conn, schema, puts)

        monkeypatch.setattr(group, "put_roots", counted)
        failpoints.arm("commit.committed", self._hold)

    async def _hold(self) -> None:
        failpoints.disarm("commit.committed")
        self.let_go.set()
        await checkpoints_wait(self._saver, lambda: self.wanted)


def _names(new_thread: Callable[[], RunnableConfig], many: int = FLOWS) -> list[str]:
    return [new_thread()["configurable"]["thread_id"] for _ in range(many)]


async def _counts(state: Any) -> Any:
    return {"n": state["n"] + 1, "seen": [state["n"]], "bag": {"text": "x" * LARGE, "n": state["n"]}}


async def _together(saver: TransactionalSaver, held: Held, names: list[str]) -> list[Any]:
    """Run a flow on each thread, so that all inputs but the first are stored by one statement."""
    graph = chain(saver, _counts)
    first = asyncio.create_task(graph.ainvoke({"n": 0}, config_of(names[0]), durability="sync"))
    await held.let_go.wait()
    others = (graph.ainvoke({"n": at}, config_of(name), durability="sync") for at, name in enumerate(names[1:], 1))
    return await asyncio.gather(first, *others, return_exceptions=True)


async def test_what_waits_is_stored_by_one_statement(
    saver: TransactionalSaver, new_thread: Callable[[], RunnableConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = _names(new_thread)
    held = Held(saver, monkeypatch)
    ends = await _together(saver, held, names)
    assert held.sizes[0] == FLOWS - 1
    assert [end["n"] for end in ends] == [at + 1 for at in range(FLOWS)]


async def test_what_is_stored_is_the_same_as_alone(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values, writes, metadata and records of flows side by side are those of flows one after the other."""
    together, alone = _names(new_thread), _names(new_thread)
    await _together(saver, Held(saver, monkeypatch), together)
    graph = chain(saver, _counts)
    for at, name in enumerate(alone):
        await graph.ainvoke({"n": at}, config_of(name), durability="sync")
    for one, other in zip(together, alone, strict=True):
        assert await _stored(bank, one) == await _stored(bank, other)
        history = [
            [(state.values, state.next, state.metadata["step"]) async for state in graph.aget_state_history(each)]
            for each in (config_of(one), config_of(other))
        ]
        assert history[0] == history[1]
        assert len(history[0]) == 3


async def _stored(bank: Bank, thread_id: str) -> list[Any]:
    """What the tables have of a thread, without ids and times."""
    queries = (
        "SELECT kind, octet_length(payload), channels, metadata - 'thread_id', stats - 'ms' FROM runtime.checkpoint "
        "WHERE thread_id = $1 ORDER BY checkpoint_id",
        "SELECT channel, kind, value FROM runtime.channel_value WHERE thread_id = $1 ORDER BY channel, version",
        "SELECT idx, channel, kind, value FROM runtime.task_write WHERE thread_id = $1 ORDER BY checkpoint_id, idx",
        "SELECT t.head = (SELECT max(checkpoint_id) FROM runtime.checkpoint c WHERE c.thread_id = t.thread_id) "
        "FROM runtime.thread t WHERE thread_id = $1",
    )
    return [[tuple(row) for row in await bank.do(query, thread_id)] for query in queries]


async def test_one_that_lost_its_thread_stops_alone(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = _names(new_thread)
    held = Held(saver, monkeypatch)
    statement = group.put_roots

    async def fenced(conn: Any, schema: str, puts: Any) -> set[str]:
        monkeypatch.setattr(group, "put_roots", statement)
        await bank.do("UPDATE runtime.thread SET token = DEFAULT WHERE thread_id = $1", names[2])
        return await statement(conn, schema, puts)

    monkeypatch.setattr(group, "put_roots", fenced)
    ends = await _together(saver, held, names)
    assert isinstance(ends.pop(2), StaleRun)
    assert [end["n"] for end in ends] == [1, 2, 4, 5, 6]
    assert await bank.do("SELECT 1 FROM runtime.checkpoint WHERE thread_id = $1", names[2]) == []


async def test_one_that_cannot_be_stored_fails_alone(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error is its own, whatever the statement that it was in."""
    names = _names(new_thread)
    await bank.do(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN IF NEW.thread_id = '{names[3]}' THEN RAISE EXCEPTION 'no' USING ERRCODE = '22000'; END IF; "
        "RETURN NEW; END $$"
    )
    await bank.do("CREATE TRIGGER refuse BEFORE INSERT ON runtime.checkpoint FOR EACH ROW EXECUTE FUNCTION refuse()")
    ends = await _together(saver, Held(saver, monkeypatch), names)
    assert isinstance(ends.pop(3), asyncpg.DataError)
    assert [end["n"] for end in ends] == [1, 2, 3, 5, 6]


@pytest.mark.parametrize("stored", [True, False])
async def test_a_connection_lost_under_all_of_them(
    saver: TransactionalSaver,
    new_thread: Callable[[], RunnableConfig],
    monkeypatch: pytest.MonkeyPatch,
    *,
    stored: bool,
) -> None:
    """Whether the answer or the statement was lost, each is stored once."""
    names = _names(new_thread)
    held = Held(saver, monkeypatch)
    statement = group.put_roots

    async def lose(conn: Any, schema: str, puts: Any) -> set[str]:
        monkeypatch.setattr(group, "put_roots", statement)
        if stored:
            await statement(conn, schema, puts)
        raise asyncpg.ConnectionDoesNotExistError

    monkeypatch.setattr(group, "put_roots", lose)
    ends = await _together(saver, held, names)
    assert [end["n"] for end in ends] == [at + 1 for at in range(FLOWS)]
    graph = chain(saver, _counts)
    for name in names:
        assert len([state async for state in graph.aget_state_history(config_of(name))]) == 3


async def test_one_that_is_cancelled_while_it_waits_is_not_stored(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = _names(new_thread, 3)
    held = Held(saver, monkeypatch, wanted=3)  # never that many: the test lets go
    graph = chain(saver, _counts)
    runs = [asyncio.create_task(graph.ainvoke({"n": 0}, config_of(names[0]), durability="sync"))]
    await held.let_go.wait()
    runs += [asyncio.create_task(graph.ainvoke({"n": 0}, config_of(name), durability="sync")) for name in names[1:]]
    await checkpoints_wait(saver, lambda: 2)
    runs[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await runs[1]
    held.wanted = 1
    assert [end["n"] for end in await asyncio.gather(runs[0], runs[2])] == [1, 1]
    assert await bank.do("SELECT 1 FROM runtime.checkpoint WHERE thread_id = $1", names[1]) == []


async def test_a_database_that_stays_away_is_told_to_each(
    saver: TransactionalSaver, new_thread: Callable[[], RunnableConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = _names(new_thread)
    held = Held(saver, monkeypatch)

    async def refuse(*_: Any) -> Any:
        raise RuntimeFault("away")

    async def broken(conn: Any, schema: str, puts: Any) -> set[str]:
        monkeypatch.setattr(group, "put_as_owner", refuse)
        return set(await refuse())

    monkeypatch.setattr(group, "put_roots", broken)
    ends = await _together(saver, held, names)
    assert all(isinstance(end, RuntimeFault) for end in ends)
