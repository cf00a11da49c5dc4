"""A workspace to test on: the example files, counts of what was paid for, and a check of the whole history."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.graphs import workspace
from superstep.graphs.workspace import rules
from superstep.graphs.workspace.merging import diff, digest
from tests.support import desks
from tests.support.commands import _own_folder, on_db, process_env, runtime, start
from tests.support.desks import at, saver_without_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.checkpointer import TransactionalSaver
    from superstep.providers import OfflineRequest

__all__ = ["_own_folder", "on_db", "process_env", "runtime", "start"]

RULES = rules.answer


class Desk(desks.Desk):
    """Runs tasks, and looks at what was merged.

    Attributes:
        asked: the schemas that a model was really asked to fill, in order.
    """

    def __init__(self, saver: TransactionalSaver) -> None:
        super().__init__(saver, transactional(workspace.graph.compile(checkpointer=saver)))
        self.asked: list[str | None] = []

    def answer(self, request: OfflineRequest) -> Any:
        self.asked.append(request.schema_name)
        return RULES(request)

    async def run(self, *tasks: str, thread: str = "t") -> Any:
        return await self.flow.ainvoke({"tasks": list(tasks)}, at(thread))

    async def merge(self, path: str, content: str) -> None:
        """As if somebody else had merged."""
        async with self.saver.transaction() as tx:
            latest = await tx.fetchval("SELECT max(id) FROM workspace.merge")
            await tx.execute(
                "INSERT INTO workspace.merge (id, thread_id, agent, task, reviewed, tested) "
                "VALUES ($1, '', 'somebody', '', '', '')",
                latest + 1,
            )
            await tx.execute("INSERT INTO workspace.file VALUES ($1, $2, $3)", path, latest + 1, content)

    async def history(self) -> list[tuple[dict[str, Any], dict[str, str]]]:
        """Every merge with the files as of it."""
        async with self.saver.transaction() as tx:
            merges = await tx.fetch("SELECT * FROM workspace.merge ORDER BY id")
            rows = await tx.fetch("SELECT path, merge, content FROM workspace.file ORDER BY merge, path")
        found: list[tuple[dict[str, Any], dict[str, str]]] = []
        files: dict[str, str] = {}
        for merge in merges:
            files = {**files, **{row["path"]: row["content"] for row in rows if row["merge"] == merge["id"]}}
            found.append((dict(merge), files))
        return found

    async def files(self) -> dict[str, str]:
        return (await self.history())[-1][1]

    async def check_history(self) -> int:
        """How many merges there are, each of which is exactly what was reviewed and what was tested."""
        history = await self.history()
        assert [merge["id"] for merge, _ in history] == list(range(len(history)))
        for (_, before), (merge, after) in pairwise(history):
            if merge["agent"] != "somebody":
                assert merge["reviewed"] == digest(diff(before, after))
                assert merge["tested"] == digest(after)
        return len(history) - 1


def statuses(out: Any) -> list[str]:
    return [out["changes"][agent]["status"] for agent in sorted(out["changes"])]


@pytest.fixture
async def desk(
    database_url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Desk]:
    """See `saver_without_keys` for the parameter."""
    async with saver_without_keys(database_url, monkeypatch, request) as saver:
        await workspace.setup(saver)
        made = Desk(saver)
        monkeypatch.setattr(rules, "answer", made.answer)
        yield made
