"""A payments desk to test on: example data, a sanctions service, and counts of what was paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import Command

from superstep import transactional
from superstep.graphs import approvals
from superstep.graphs.approvals import rules, sanctions
from tests.support import desks
from tests.support.commands import _own_folder, on_db, process_env, runtime, start
from tests.support.desks import at, saver_without_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.checkpointer import TransactionalSaver
    from superstep.graphs.approvals.sanctions import Service
    from superstep.providers import OfflineRequest

__all__ = ["_own_folder", "on_db", "process_env", "runtime", "start"]

ONE = {
    "vendor_id": "V-001",
    "invoice": "INV-1",
    "budget_id": "workshop",
    "amount": 9_000_00,
    "purpose": "parts",
    "requested_by": "E-kim",
}
TWO = {**ONE, "amount": 18_500_00}  # takes two approvers
NEW_ACCOUNT = "XX99 2000 0001"


class Desk(desks.Desk):
    """Runs requests and answers questions.

    Attributes:
        written: how many cases a model was really asked for.
        service: the sanctions service.
    """

    def __init__(self, saver: TransactionalSaver, service: Service) -> None:
        super().__init__(saver, transactional(approvals.graph.compile(checkpointer=saver)))
        self.service = service
        self.written = 0

    def answer(self, request: OfflineRequest) -> Any:
        self.written += 1
        return RULES(request)

    async def ask(self, request: dict[str, Any], thread: str = "t") -> Any:
        return await self.flow.ainvoke(request, at(thread))

    async def say(self, by: str, thread: str = "t", *, approved: bool = True) -> Any:
        return await self.flow.ainvoke(Command(resume={"by": by, "approved": approved}), at(thread))

    async def move_account(self, account: str = NEW_ACCOUNT) -> None:
        await self.sql("UPDATE approvals.vendor SET bank_account = $1 WHERE id = 'V-001'", account)

    async def payments(self) -> list[tuple[Any, ...]]:
        """Of this test: invoice, account, amount."""
        sql = "SELECT invoice, bank_account, amount FROM approvals.payment WHERE paid_at > '2024-01-01' ORDER BY 1"
        return [tuple(row) for row in await self.rows(sql)]

    async def spent(self, budget: str = "workshop") -> Any:
        return await self.sql("SELECT spent FROM approvals.budget WHERE id = $1", budget)


RULES = rules.answer


@pytest.fixture
async def desk(
    database_url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Desk]:
    """See `saver_without_keys` for the parameter."""
    async with saver_without_keys(database_url, monkeypatch, request) as saver:
        await approvals.setup(saver)
        with sanctions.serve() as service:
            monkeypatch.setenv("SANCTIONS_URL", service.url)
            made = Desk(saver, service)
            monkeypatch.setattr(rules, "answer", made.answer)
            yield made
