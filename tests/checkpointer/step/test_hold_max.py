"""A transaction ends by age, however busy its super-step is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import ConfigError, StepConflict
from tests.support.bank import BALANCE, Bank, make_bank
from tests.support.graphs import chain, steps_of
from tests.support.internals import pinned

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

BUSY = {"hold_idle": 1000}  # it never ends by idleness here


@pytest.mark.parametrize(("hold_max", "seen", "commit"), [(0, 55, "replay"), (1000, 100, "direct")])
async def test_a_later_read_sees_what_happened_since_if_nothing_that_was_read_has_moved(
    database_url: str, thread: RunnableConfig, hold_max: float, seen: int, commit: str
) -> None:
    async with TransactionalSaver.from_conn_string(database_url, hold_max=hold_max, **BUSY) as saver:
        await make_bank(saver)
        bank = Bank(saver)

        async def node(state: Any) -> Any:
            first = await current_step().fetchval(BALANCE, 1)
            await bank.set(55, 2)
            return {"seen": [first, await current_step().fetchval(BALANCE, 2)]}

        assert (await chain(saver, node).ainvoke({"n": 0}, thread))["seen"] == [100, seen]
        (step,) = await steps_of(saver, thread)
        assert step.commit == commit


async def test_a_later_read_stops_a_step_whose_facts_have_moved(database_url: str, thread: RunnableConfig) -> None:
    """Before another call of a model is paid, and not at the commit only."""
    async with TransactionalSaver.from_conn_string(database_url, hold_max=0, **BUSY) as saver:
        await make_bank(saver)
        bank, went_on = Bank(saver), False

        async def node(state: Any) -> Any:
            nonlocal went_on
            await current_step().fetchval(BALANCE, 1)
            await bank.set(55, 1)
            await current_step().fetchval(BALANCE, 2)
            went_on = True

        with pytest.raises(StepConflict):
            await chain(saver, node).ainvoke({"n": 0}, thread)
        assert not went_on


async def test_an_old_transaction_is_given_back_while_nothing_happens(
    database_url: str, thread: RunnableConfig
) -> None:
    async with TransactionalSaver.from_conn_string(database_url, hold_max=0.01, **BUSY) as saver:
        await make_bank(saver)

        async def node(state: Any) -> Any:
            await current_step().fetchval(BALANCE, 1)
            async with asyncio.timeout(20):
                while pinned(saver):  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.001)
            return {"n": 1}

        assert (await chain(saver, node).ainvoke({"n": 0}, thread))["n"] == 1


async def test_what_is_held_for_ever_does_not_grow_old(database_url: str) -> None:
    async with TransactionalSaver.from_conn_string(database_url, hold_idle="forever") as saver:
        assert saver.database.connections.hold_max == float("inf")
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        assert saver.database.connections.hold_max == 1


@pytest.mark.parametrize("hold_max", [-1, "forever", float("nan"), True])
def test_what_is_no_age(hold_max: Any) -> None:
    with pytest.raises(ConfigError, match="hold_max"):
        TransactionalSaver.from_conn_string("postgresql://h/d", hold_max=hold_max)
