"""`runtime effects`: what it shows, and what it does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.effects import handlers
from superstep.effects import handler
from tests.support.effects import Received, become, working
from tests.support.graphs import chain, config_of

if TYPE_CHECKING:
    from tests.support.commands import Runtime


@pytest.fixture(autouse=True)
def _own_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "_handlers", {})


async def emits(state: Any) -> Any:
    step = current_step()
    step.emit("mail", {"n": 1})
    step.emit("unheard", {"n": 2}, key="k-1")
    step.emit("later", {"n": 3})
    return {}


async def _work(url: str, *wanted: str) -> None:
    handler("mail", undo=Received())(Received())
    if "later" not in handlers._handlers:
        handler("later")(Received())
    async with TransactionalSaver.from_conn_string(url) as saver, working(saver):
        await become(saver, *wanted)


@pytest.fixture
def emitted(database_url: str) -> None:
    async def emit() -> None:
        async with TransactionalSaver.from_conn_string(database_url) as saver:
            await saver.setup()
            await chain(saver, emits).ainvoke({}, config_of("t-1"))

    asyncio.run(emit())


def test_effects_are_listed_and_decided_about(on_db: Runtime, database_url: str, emitted: None) -> None:
    later, unheard, mail = on_db("effects", "list", "--json").json
    assert [each["state"] for each in (mail, unheard, later)] == ["waiting"] * 3
    assert on_db("effects", "drop", later["id"], "--json").json == {"id": later["id"], "state": "dropped"}
    asyncio.run(_work(database_url, "delivered", "dead", "dropped"))

    (dead,) = on_db("effects", "list", "--dead", "--json").json
    assert (dead["id"], dead["topic"], dead["key"], dead["thread_id"]) == (unheard["id"], "unheard", "k-1", "t-1")
    assert "no handler" in dead["failure"]
    shown = on_db("effects", "list")
    assert all(each["id"] in shown.out for each in (mail, unheard, later))
    assert len(on_db("effects", "list", "--limit", "1", "--json").json) == 1
    (older,) = on_db("effects", "list", "--before", str(unheard["number"]), "--json").json
    assert older["id"] == mail["id"]

    assert "is waiting now" in on_db("effects", "retry", unheard["id"]).out
    assert "is undoing now" in on_db("effects", "undo", mail["id"]).out
    handlers._handlers.clear()
    handler("unheard")(Received())
    asyncio.run(_work(database_url, "undone", "delivered", "dropped"))
    assert "No effect was given up." in on_db("effects", "list", "--dead").out


def test_what_cannot_be_done_is_named(on_db: Runtime, emitted: None) -> None:
    (mail,) = [each for each in on_db("effects", "list", "--json").json if each["topic"] == "mail"]
    done = on_db("effects", "undo", mail["id"], "--json")
    assert (done.code, done.json["error"]["type"]) == (3, "EffectNotFound")
    assert "waiting" in done.json["error"]["message"]
    assert on_db("effects", "retry", "nobody").code == 3


def test_an_empty_outbox(on_db: Runtime) -> None:
    assert "There are no effects." in on_db("effects", "list").out
    assert on_db("effects", "list", "--json").json == []
