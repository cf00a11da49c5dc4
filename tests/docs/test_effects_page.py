"""docs/effects.md: its graph pays once, its examples and its commands run."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from superstep import EffectRepeated, TransactionalSaver, transactional
from superstep.checkpointer.effects import handlers
from tests.docs.pages import blocks, commands, page, perform
from tests.support.effects import become, outbox

if TYPE_CHECKING:
    from tests.docs.pages import Shell

PAGE = page("effects.md")
GRAPH, WORK, GO_ON, WEBHOOK = blocks(PAGE, "python")


class State(TypedDict, total=False):
    account: str
    payee: str
    cents: int
    settled: bool


class Bank:
    """Recognises what it has had."""

    def __init__(self) -> None:
        self.paid: dict[str, tuple[str, int]] = {}
        self.calls = 0

    async def pay(self, to: str, cents: int, *, idempotency_key: str) -> None:
        self.calls += 1
        if self.calls == 1:
            raise ConnectionError("no answer")
        self.paid.setdefault(idempotency_key, (to, cents))

    async def refund(self, *, idempotency_key: str) -> None:
        self.paid.pop(idempotency_key, None)


@pytest.fixture(autouse=True)
def _own_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "_handlers", {})


def test_the_graph_pays_once_and_the_commands_show_it(shell: Shell, database_url: str) -> None:
    bank = Bank()
    asyncio.run(_example(database_url, bank))
    listed, dead = perform(commands(PAGE), shell).values()
    assert "payment" in listed
    assert "undone" in listed
    assert "No effect was given up." in dead
    assert bank.paid == {}


async def _example(url: str, bank: Bank) -> None:
    names: dict[str, Any] = {"bank": bank}
    for block in (GRAPH, WORK, GO_ON):
        exec(block, names)
    async with TransactionalSaver.from_conn_string(url) as saver:
        await saver.setup()
        async with saver.transaction() as tx:
            await tx.execute("CREATE TABLE account (id text PRIMARY KEY, balance int)")
        builder = StateGraph(State)
        builder.add_node("settle", names["settle"])
        builder.add_edge(START, "settle")
        flow = transactional(builder.compile(checkpointer=saver))
        stop = asyncio.Event()
        work = asyncio.create_task(names["work"](saver, stop))
        config: Any = {"configurable": {"thread_id": "t-1"}}
        await flow.ainvoke({"account": "A-1", "payee": "ann", "cents": 5}, config)
        await become(saver, "delivered")
        assert list(bank.paid.values()) == [("ann", 5)]
        (start,) = [state async for state in flow.aget_state_history(config) if state.next == ("settle",)]
        with pytest.raises(EffectRepeated):
            await flow.ainvoke(None, start.config)
        await names["go_on"](flow, "t-1")
        await become(saver, "delivered", "kept")
        await saver.outbox.undo((await outbox(saver))[0].id)
        await become(saver, "undone", "kept")
        stop.set()
        await work


def test_the_webhook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", base64.b64encode(b"x" * 24).decode())
    exec(WEBHOOK, {})
    assert handlers.handler_of("order.paid") is not None


def test_every_setting_and_every_state_is_on_the_page() -> None:
    from dataclasses import fields

    assert {each.name for each in fields(handlers.EffectHandler)} - {"topic", "deliver"} <= {
        line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")
    }
    for state in ("waiting", "delivered", "dead", "dropped", "kept", "undoing", "undone", "stuck"):
        assert f"`{state}`" in PAGE
