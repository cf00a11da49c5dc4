"""What a report says of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from tests.support.graphs import chain

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver


async def test_an_error_that_no_database_can_store_is_still_the_error(
    saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        raise ValueError("a\x00b \ud800")

    flow = transactional(chain(saver, node))
    with pytest.raises(ValueError, match="a\x00b"):
        await flow.ainvoke({"n": 0}, thread)
    report = await flow.areport(thread)
    assert (report.status, report.error) == ("failed", {"type": "ValueError", "message": "ab ?"})
