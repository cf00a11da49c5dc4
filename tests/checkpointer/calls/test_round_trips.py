"""How many statements a call costs, and what a repeated one does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer.calls.records import record_call, spent
from tests.checkpointer.calls.models import FAILED, CountingModel
from tests.support.graphs import chain
from tests.support.internals import repeat_statements
from tests.support.statements import Log, logged_saver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def log() -> Log:
    return Log(leave_out={"put_root", "put_writes"})


@pytest.fixture
async def logged(database_url: str, log: Log) -> AsyncIterator[TransactionalSaver]:
    """A saver whose statements are counted."""
    async with logged_saver(database_url, log) as saver:
        yield saver


async def test_a_call_is_one_statement_to_look_it_up_and_one_to_store_it(
    logged: TransactionalSaver, log: Log, thread: RunnableConfig, routed: CountingModel
) -> None:
    sent: list[str] = []

    async def decide(state: Any) -> Any:
        for work in (routed.ainvoke("well?"), record_call(FAILED), spent(route="strong")):
            sent.extend(await log.during(work))

    await chain(logged, decide).ainvoke({"seen": []}, thread)
    assert sent == ["memo_get", "memo_put", "record_call", "spent"]
    assert await log.during(logged.asteps(thread["configurable"]["thread_id"])) == ["steps"]


async def test_a_statement_repeated_after_a_lost_answer_counts_once(
    saver: TransactionalSaver, thread: RunnableConfig, routed: CountingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def decide(state: Any) -> Any:
        repeat_statements(saver, monkeypatch)
        await routed.ainvoke("well?")
        await record_call(FAILED)
        monkeypatch.undo()

    flow = transactional(chain(saver, decide))
    await flow.ainvoke({"seen": []}, thread)
    assert [call["outcome"] for call in (await flow.areport(thread)).steps[0].calls] == ["answered", "failed"]
