"""Runs a side: all flows at once, watched from outside in the same way on both sides."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.memory import InMemorySaver

from superstep.checkpointer import StoredThreads
from superstep.runtime.cli.demo.desks import CachedDesk, StepDesk
from superstep.runtime.cli.demo.flow import build
from superstep.runtime.cli.demo.measures import Recorded
from superstep.runtime.cli.demo.meeting import Meeting
from superstep.runtime.cli.demo.model import Model
from superstep.runtime.cli.demo.tables import contents, new_name, own_schema
from superstep.runtime.cli.session import open_saver
from superstep.runtime.flow.transactional import transactional
from superstep.runtime.settings.settings import DatabaseSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from langgraph.checkpoint.base import BaseCheckpointSaver

    from superstep.checkpointer import TransactionalSaver
    from superstep.runtime.cli.demo.desks import Desk
    from superstep.runtime.cli.demo.progress import Watch
    from superstep.runtime.cli.demo.scenario import Application, Scenario
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["Arena", "cached", "opened", "superstep"]


class Arena:
    """Where the race is run: connections of the plain side, and a name for schemas.

    Attributes:
        scenario: who applies for what.
        database: connections to the same database as Superstep's, as many at most, in a pool of their own.
        settings: of the command.
        name: what the names of the schemas begin with.
    """

    def __init__(self, scenario: Scenario, database: StoredThreads, settings: CommandSettings) -> None:
        self.scenario = scenario
        self.database = database
        self.settings = settings
        self.name = new_name()


@asynccontextmanager
async def opened(scenario: Scenario, settings: CommandSettings) -> AsyncIterator[Arena]:
    """Connect.

    Raises:
        DatabaseUnavailable: There is no such database, or it does not let us in.
    """
    where = settings.database
    async with StoredThreads.opened(where.url, pool_min=1, pool_max=where.pool_max) as database:
        yield Arena(scenario, database, settings)


async def cached(arena: Arena, watch: Watch, checkpointer: BaseCheckpointSaver[Any] | None = None) -> Recorded:
    """The plain side: a checkpointer of LangGraph's, by default in memory, and a cache in front of the database."""
    async with own_schema(arena.database, f"{arena.name}_plain", arena.scenario) as sql:
        desk = CachedDesk(arena.database, arena.scenario.ttl)
        side = _Side(arena, sql, desk, watch)
        found = await side.run(side.graph.compile(checkpointer=checkpointer or InMemorySaver()))
        found.llm_paid = len(side.model.asked)
        return found


async def superstep(arena: Arena, watch: Watch) -> Recorded:
    """The same graph as a transactional flow. The runtime's tables are in the same schema as the application's."""
    schema = f"{arena.name}_superstep"
    # How long a super-step holds its transaction is as it is by default: what is shown is that, whatever a file says.
    where = DatabaseSettings(url=arena.settings.database.url, schema=schema, pool_max=arena.settings.database.pool_max)
    settings = replace(arena.settings, database=where)
    async with own_schema(arena.database, schema, arena.scenario) as sql, open_saver(settings, prepare=True) as saver:
        side = _Side(arena, sql, StepDesk(), watch)
        found = await side.run(transactional(side.graph.compile(checkpointer=saver), name="drift"))
        found.llm_paid = len(side.model.asked)
        await _add_records(found, saver, arena.scenario)
        return found


async def _add_records(found: Recorded, saver: TransactionalSaver, scenario: Scenario) -> None:
    for application in scenario.applications():
        for step in await saver.asteps(application.id):
            found.llm_reused += step.llm_reused
            found.ran_again += step.drifts


class _Side:
    """One side of the race."""

    def __init__(self, arena: Arena, sql: Mapping[str, str], desk: Desk, watch: Watch) -> None:
        self.model = Model(arena.scenario.thinking)
        self.graph = build(desk, self.model, Meeting(arena.scenario.flows), sql)
        self._arena = arena
        self._sql = sql
        self._watch = watch
        self._found = Recorded()

    async def run(self, graph: Any) -> Recorded:
        """Run all flows to their ends. One that fails ends the others, and its error is raised."""
        began = time.monotonic()
        self._watch.began(self.model)
        try:
            async with asyncio.TaskGroup() as flows:
                for application in self._arena.scenario.applications():
                    flows.create_task(self._flow(graph, application), name=application.id)
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        self._found.seconds = time.monotonic() - began
        self._watch.ended()
        for name, rows in (await contents(self._arena.database, self._sql)).items():
            setattr(self._found, name, rows)
        return self._found

    async def _flow(self, graph: Any, application: Application) -> None:
        """Run one, and note what it has done when it is done: updates come after the node, here after the commit."""
        what = {"id": application.id, "account_id": application.account_id, "amount": application.amount}
        config = {"configurable": {"thread_id": application.id}}
        read_at = 0.0
        async for update in graph.astream({"application": what}, config, stream_mode="updates"):
            for node, given in update.items():
                self._watch.passed(application, node, given or {})
                if node == "planner":
                    read_at = given["plan"]["read_at"]
                elif node == "executor" and "reference" in given:
                    self._found.ages[application.id] = (time.monotonic() - read_at) * 1000
                elif node == "executor":
                    self._found.invalidated += 1
