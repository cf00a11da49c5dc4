"""`setup()` by itself where a thread can be blocked, awaited elsewhere: on an empty database each time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver
from superstep.runtime.faults import SchemaMissing
from tests.support.graphs import chain, config_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def one(state: Any) -> Any:
    return {"n": state["n"] + 1}


def assert_works(saver: TransactionalSaver) -> None:
    """A graph runs, flows and plain, and what it stored is there."""
    graph = chain(saver, one)
    assert graph.invoke({"n": 1}, config_of("plain"))["n"] == 2
    assert transactional(graph).invoke({"n": 2}, config_of("flow"))["n"] == 3
    assert graph.get_state(config_of("flow")).values["n"] == 3
    assert [each.config["configurable"]["thread_id"] for each in saver.list(None, limit=1)] == ["flow"]


def test_a_program_without_an_event_loop(empty_database_url: str) -> None:
    with TransactionalSaver.from_conn_string(empty_database_url) as saver:
        with pytest.raises(SchemaMissing, match="without `await`"):
            chain(saver, one).invoke({"n": 1}, config_of("t"))
        saver.setup()
        assert_works(saver)
        saver.setup()
    with TransactionalSaver.from_conn_string(empty_database_url) as saver:
        assert_works(saver)


def test_a_program_without_an_event_loop_that_makes_one_for_it(empty_database_url: str) -> None:
    with TransactionalSaver.from_conn_string(empty_database_url) as saver:
        assert asyncio.run(saver.setup())[0] == "0001_core"  # done before the loop exists, and named all the same
        assert asyncio.run(saver.setup()) == []
        assert_works(saver)


def test_a_program_that_runs_its_loop_by_hand(empty_database_url: str) -> None:
    """The loop that must do the work is not running when `setup()` is called."""
    opened = TransactionalSaver.from_conn_string(empty_database_url)
    with asyncio.Runner() as runner:

        async def enter() -> TransactionalSaver:
            return await opened.__aenter__()

        saver = runner.run(enter())
        try:
            assert runner.get_loop().run_until_complete(saver.setup())
        finally:
            runner.run(opened.__aexit__(None, None, None))


async def test_in_a_notebook_whose_loop_runs_all_the_time(empty_database_url: str) -> None:
    with TransactionalSaver.from_conn_string(empty_database_url) as saver:
        saver.setup()
        assert_works(saver)
        assert await saver.setup() == []


WAYS: dict[str, Callable[[TransactionalSaver], Coroutine[Any, Any, list[str]]]] = {
    "await": lambda saver: saver.setup(),
    "task": lambda saver: _awaited(asyncio.create_task(saver.setup())),
    "gather": lambda saver: _first(asyncio.gather(saver.setup(), saver.setup())),
    "timeout": lambda saver: asyncio.wait_for(saver.setup(), 60),
    "another thread": lambda saver: asyncio.to_thread(lambda: asyncio.run(_awaited(saver.setup()))),
    "another loop": lambda saver: asyncio.to_thread(lambda: asyncio.run(_later(saver))),
}


async def _awaited(work: Any) -> Any:
    return await work


async def _first(work: Any) -> Any:
    one, other = await work
    return one or other


async def _later(saver: TransactionalSaver) -> list[str]:
    return await saver.setup()


@pytest.mark.parametrize("way", WAYS)
async def test_in_asynchronous_code(empty_database_url: str, way: str) -> None:
    async with TransactionalSaver.from_conn_string(empty_database_url) as saver:
        expected = await saver.apending()
        assert await WAYS[way](saver) == expected
        assert expected[0] == "0001_core"
        assert await saver.apending() == []
        assert (await chain(saver, one).ainvoke({"n": 1}, config_of("t")))["n"] == 2


async def test_nothing_happens_before_it_is_awaited(empty_database_url: str) -> None:
    async with TransactionalSaver.from_conn_string(empty_database_url) as saver:
        setup = saver.setup()
        assert await saver.apending()
        applied = await setup
        assert applied
        assert await setup == applied  # and awaiting it again says the same
        unused = saver.setup()
        unused.close()


def test_what_goes_wrong_is_raised_at_once(empty_database_url: str) -> None:
    with (
        TransactionalSaver.from_conn_string(empty_database_url, schema="pg_mine") as saver,
        pytest.raises(Exception, match="pg_mine"),
    ):
        saver.setup()
