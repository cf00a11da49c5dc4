"""docs/fastapi.md: its application, served by uvicorn in a process of its own, over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
from langgraph.graph import START, StateGraph

import superstep
from superstep import Settings, TransactionalSaver, transactional
from tests.docs.pages import ROOT, blocks, page
from tests.support.databases import fresh_database
from tests.support.serving import free_port, runtime_toml, serving
from tests.support.vendors import Vendor, answer, hang_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.databases import Admin

PAGE = page("fastapi.md")
(APP,) = blocks(PAGE, "python")
PAYMENT = {"account": "A", "amount": 30}


@pytest.fixture(scope="module")
def vendor() -> Iterator[Vendor]:
    with Vendor() as vendor:
        yield vendor


@pytest.fixture(scope="module")
def database(admin: Admin, server_url: str, template: str) -> Iterator[str]:
    with fresh_database(admin, server_url, template) as url:
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE account (id text PRIMARY KEY, balance int NOT NULL CHECK (balance >= 0))")
            connection.execute("INSERT INTO account VALUES ('A', 0)")
        yield url


@pytest.fixture
async def saver(database: str, vendor: Vendor) -> AsyncIterator[TransactionalSaver]:
    """For looking at the database, whose account holds 100. The vendor has been asked nothing."""
    vendor.requests.clear()
    vendor.always(answer("It may pay."))
    async with TransactionalSaver.from_conn_string(database) as saver:
        async with saver.transaction() as tx:
            await tx.execute("UPDATE account SET balance = 100")
        yield saver


@pytest.fixture(scope="module")
def url(database: str, vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a worker that serves the page's application."""
    folder = tmp_path_factory.mktemp("fastapi")
    (folder / "app.py").write_text(APP)
    (folder / "runtime.toml").write_text(runtime_toml(vendor.openai_url))
    (command,) = re.findall(r"^\$ (uvicorn app:app) --workers 4$", PAGE, re.MULTILINE)
    url = f"http://127.0.0.1:{(port := free_port())}"
    line = [sys.executable, "-m", *command.split(), "--port", str(port)]
    env = {"DATABASE_URL": database, "PYTHONPATH": str(ROOT)}
    with serving(line, folder=folder, url=url, ready="/openapi.json", env=env):
        yield url


@pytest.fixture
def name() -> str:
    """Of a thread."""
    return uuid.uuid4().hex


@pytest.fixture
async def client(url: str, saver: TransactionalSaver) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=90) as client:
        yield client


async def balance(saver: TransactionalSaver) -> int:
    async with saver.transaction() as tx:
        return int(await tx.fetchval("SELECT balance FROM account"))


def status(name: str) -> int:
    (code,) = re.findall(rf"^\| `{name}`.*? \| (\d+)", PAGE, re.MULTILINE)
    return int(code)


async def test_a_payment_is_asked_about_and_paid(
    client: httpx.AsyncClient, name: str, saver: TransactionalSaver, vendor: Vendor
) -> None:
    vendor.always(answer("It may."))
    begun = await client.post(f"/threads/{name}/payments", json=PAYMENT)
    (question,) = begun.json()["questions"]
    assert question["value"] == {"balance": 100, "advice": "It may."}
    assert (await client.get(f"/threads/{name}")).json() == begun.json()
    given = {"question": question["id"], "value": True}
    ended = await client.post(f"/threads/{name}/answers", json=given)
    assert ended.json() == {"values": {**PAYMENT, "advice": "It may.", "paid": True}, "questions": []}
    assert (await client.post(f"/threads/{name}/resume")).json() == ended.json()
    assert (await balance(saver), vendor.count) == (70, 1)
    assert (await client.post(f"/threads/{name}/payments", json={"account": "A"})).status_code == 422


async def test_an_answer_to_an_older_question_counts_for_none(
    client: httpx.AsyncClient, name: str, saver: TransactionalSaver
) -> None:
    (first,) = (await client.post(f"/threads/{name}/payments", json=PAYMENT)).json()["questions"]
    async with saver.transaction() as tx:
        await tx.execute("UPDATE account SET balance = 40")
    given = {"question": first["id"], "value": True}
    (second,) = (await client.post(f"/threads/{name}/answers", json=given)).json()["questions"]
    assert (second["value"]["balance"], await balance(saver)) == (40, 40)
    assert second["id"] != first["id"]


async def test_a_thread_that_runs_is_busy(
    client: httpx.AsyncClient, name: str, vendor: Vendor, saver: TransactionalSaver
) -> None:
    """409, in the same process and from another one."""
    goes_on = threading.Event()
    vendor.script(answer("It may.").stall(until=goes_on))
    try:
        running = asyncio.create_task(client.post(f"/threads/{name}/payments", json=PAYMENT))
        await vendor.until(lambda: vendor.count == 1)
        second = await client.post(f"/threads/{name}/payments", json=PAYMENT)
        assert (second.status_code, second.json()["error"]) == (status("ThreadBusy"), "ThreadBusy")
        assert second.headers["retry-after"] == "1"
        streamed = await client.post(f"/threads/{name}/payments/stream", json=PAYMENT)
        assert streamed.status_code == status("ThreadBusy")
        with pytest.raises(superstep.ThreadBusy):
            await here(saver, Settings(take_over=False)).ainvoke(None, thread(name))
    finally:
        goes_on.set()
    assert (await running).status_code == 200


async def test_a_run_that_lost_its_thread_is_gone(
    client: httpx.AsyncClient, name: str, vendor: Vendor, saver: TransactionalSaver
) -> None:
    goes_on = threading.Event()
    vendor.script(answer("It may.").stall(until=goes_on))
    try:
        running = asyncio.create_task(client.post(f"/threads/{name}/payments", json=PAYMENT))
        await vendor.until(lambda: vendor.count == 1)
        await here(saver, Settings()).ainvoke({"account": "B"}, thread(name))
    finally:
        goes_on.set()
    lost = await running
    assert (lost.status_code, lost.json()["error"]) == (status("StaleRun"), "StaleRun")
    assert (await client.get(f"/threads/{name}")).json()["values"] == {"account": "B", "amount": 30}


async def test_a_model_that_does_not_answer(client: httpx.AsyncClient, name: str, vendor: Vendor) -> None:
    vendor.script(hang_up())
    failed = await client.post(f"/threads/{name}/payments", json=PAYMENT)
    assert failed.json() == {"error": "ProviderExhausted", "status": status("ProviderExhausted")}
    assert failed.status_code == status("ProviderExhausted")
    assert len((await client.post(f"/threads/{name}/resume")).json()["questions"]) == 1


async def test_a_stream_says_what_is_committed_and_tokens_at_once(
    client: httpx.AsyncClient, name: str, vendor: Vendor
) -> None:
    vendor.always(answer("It may pay."))
    events = await read(client, name, PAYMENT)
    kinds = [kind for kind, _ in events]
    assert kinds[-2:] == ["updates", "questions"]
    assert set(kinds[:-2]) == {"messages"}
    assert "".join(data for kind, data in events if kind == "messages") == "It may pay."
    assert events[-2][1] == {"advise": {"advice": "It may pay."}}


async def test_a_stream_that_fails_on_the_way_says_so(
    client: httpx.AsyncClient, name: str, vendor: Vendor, saver: TransactionalSaver
) -> None:
    goes_on = threading.Event()
    vendor.script(answer("It may pay.").stall(after=1, until=goes_on))
    try:
        running = asyncio.create_task(read(client, name, PAYMENT))
        await vendor.until(lambda: vendor.count == 1 and vendor.requests[0].state == "stalled")
        await here(saver, Settings()).ainvoke({"account": "B"}, thread(name))
    finally:
        goes_on.set()
    kind, data = (await running)[-1]
    assert (kind, data["error"], data["status"]) == ("error", "StaleRun", status("StaleRun"))


async def test_a_client_that_hangs_up_leaves_a_free_thread(
    client: httpx.AsyncClient, name: str, vendor: Vendor, saver: TransactionalSaver
) -> None:
    goes_on = threading.Event()
    vendor.script(answer("It may pay.").stall(after=1, until=goes_on))
    async with client.stream("POST", f"/threads/{name}/payments/stream", json=PAYMENT) as response:
        await anext(response.aiter_lines())
    try:
        async with asyncio.timeout(60):
            while (resumed := await client.post(f"/threads/{name}/resume")).status_code == 409:
                pass
    finally:
        goes_on.set()
    assert len(resumed.json()["questions"]) == 1
    async with asyncio.timeout(30), saver.transaction() as tx:
        while await tx.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in tr%'"
        ):
            await tx.execute("SELECT pg_stat_clear_snapshot()")


def test_every_code_of_the_table_is_that_of_the_application() -> None:
    names: dict[str, Any] = {}
    exec(APP, names)
    said = re.findall(r"^\| `(\w+)`.*? \| (\d+)", PAGE, re.MULTILINE)
    assert len(said) == 6
    for name, code in said:
        kind = getattr(superstep, name)
        error = kind.__new__(kind, "it", [ValueError("x")]) if issubclass(kind, ExceptionGroup) else kind.__new__(kind)
        assert names["status_of"](error) == int(code)


def here(saver: TransactionalSaver, settings: Settings) -> Any:
    """A flow on the same threads, in this process, whose one node does nothing."""
    names: dict[str, Any] = {}
    exec(APP, names)
    builder = StateGraph(names["State"]).add_node("note", lambda state: {}).add_edge(START, "note")
    return transactional(builder.compile(checkpointer=saver), settings=settings)


def thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}}


async def read(client: httpx.AsyncClient, name: str, payment: Any) -> list[tuple[str, Any]]:
    """The events of a stream, to its end."""
    async with client.stream("POST", f"/threads/{name}/payments/stream", json=payment) as response:
        assert response.status_code == 200
        text = (await response.aread()).decode()
    return [(kind, json.loads(data)) for kind, data in re.findall(r"event: (\w+)\ndata: (.*)\n\n", text)]
