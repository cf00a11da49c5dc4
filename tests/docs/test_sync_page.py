"""docs/sync.md: its program does what it says, and each name in its table is there."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from typing import Any

import psycopg
import pytest

from superstep import Transactional, prompt_sync
from superstep.checkpointer import SyncStep, TransactionalSaver
from superstep.checkpointer.memory.store import MemoryStore
from tests.docs.pages import blocks, page

PAGE = page("sync.md")


@pytest.fixture
def names(database_url: str) -> dict[str, Any]:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE account (id text PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0))")
        connection.execute("INSERT INTO account VALUES ('A', 150)")
    names: dict[str, Any] = {}
    (source,) = blocks(PAGE, "python")
    exec(source, names)
    return names


def test_the_program_returns_what_the_page_says(names: dict[str, Any], database_url: str) -> None:
    (said,) = re.findall(r"`main` returns `(.*?)`", PAGE)
    assert names["main"](database_url) == eval(said)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT balance FROM account").fetchall() == [(0,)]


def test_threads_that_meet_on_the_row_are_serial(
    names: dict[str, Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All three have read the same balance before the first one commits."""
    met = threading.Barrier(3)
    answered = []

    class Model:
        text = "drawn"

        def invoke(self, _: str) -> Model:
            answered.append(1)
            if len(answered) <= 3:
                met.wait(30)
            return self

    monkeypatch.setitem(names, "chat_model", lambda route: Model())
    assert names["main"](database_url)[0] == [30, 30, 30]
    assert len(answered) > 4  # three that met, those of them that ran again, and the large one
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT balance FROM account").fetchall() == [(0,)]


def test_the_names_of_the_table_are_there(names: dict[str, Any], database_url: str) -> None:
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)[1:]
    here = " ".join(cells[1] for cells in rows)
    for owner, found in [
        (Transactional, r"flow\.(\w+)|`(\w+_state\w*)`"),
        (SyncStep, r"sync\.(\w+)"),
        (MemoryStore, r"store\.(\w+)"),
        (TransactionalSaver, r"saver\.(\w+)"),
    ]:
        wanted = ["".join(each) for each in re.findall(found, here)]
        assert wanted, found
        assert [name for name in wanted if not hasattr(owner, name)] == []
    assert callable(prompt_sync)
    asynchronous = {name for name, _ in inspect.getmembers(Transactional, inspect.iscoroutinefunction)}
    assert {"areport", "aget_state", "aupdate_state"} <= asynchronous


def test_a_report_of_a_saver_without_a_loop(names: dict[str, Any], database_url: str) -> None:
    from langgraph.graph import START, StateGraph

    with TransactionalSaver.from_conn_string(database_url) as saver:
        builder = StateGraph(names["State"]).add_node(names["draw"]).add_edge(START, "draw")
        flow = Transactional and names["transactional"](builder.compile(checkpointer=saver))
        flow.invoke({"account": "A", "amount": 30}, names["on"]("t"))
        report = asyncio.run(flow.areport(names["on"]("t")))
    assert (report.status, report.usage["llm_paid"]) == ("completed", 1)
