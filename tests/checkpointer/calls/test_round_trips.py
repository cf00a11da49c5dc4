"""How many statements a call costs, and what a repeated one does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.calls.records import record_call, spent
from superstep.checkpointer.database.pool import register_codecs
from tests.checkpointer.calls.models import FAILED, CountingModel
from tests.support.bank import make_bank
from tests.support.graphs import chain
from tests.support.internals import repeat_statements
from tests.support.statements import all_statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from langchain_core.runnables import RunnableConfig


pytestmark = pytest.mark.usefixtures("own_cache")


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
