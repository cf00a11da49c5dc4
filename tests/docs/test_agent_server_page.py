"""docs/agent-server.md: the stock Agent Server serves its flow, and is talked to by LangGraph's own client.

The server's packages are no dependency of the project, and some of them exclude versions that the tests use: they stand
in an environment of their own, which `make agent-server` makes, beside those of this one.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from langgraph_sdk import get_client

from superstep import TransactionalSaver
from tests.docs.pages import ROOT, blocks, page
from tests.support.databases import fresh_database
from tests.support.serving import free_port, runtime_toml, serving
from tests.support.vendors import Vendor, answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langgraph_sdk.client import LangGraphClient

    from tests.support.databases import Admin

PAGE = page("agent-server.md")
FOLDER = ROOT / ".venv" / "agent-server"
PAYMENT = {"account": "A", "amount": 30}
DRAW = """
from langgraph.config import get_store
from langgraph.graph import START, MessagesState, StateGraph
from superstep import chat_model, current_step, transactional

async def draw(state: MessagesState):
    step = current_step()
    balance = await step.fetchval("SELECT balance FROM account WHERE id = 'A'")
    said = await chat_model("fast").ainvoke(str(balance))
    step.stage("UPDATE account SET balance = $1 WHERE id = 'A'", balance - 1, expect_rows=1)
    step.stage("INSERT INTO journal (line) VALUES ($1)", f"{step.thread_id} {balance}")
    await get_store().aput(("draws",), step.thread_id, {"balance": balance})
    return {"messages": [said]}

flow = transactional(StateGraph(MessagesState).add_node(draw).add_edge(START, "draw").compile())
plain = StateGraph(MessagesState).add_node(draw).add_edge(START, "draw").compile()

def says(state: MessagesState):
    return {"messages": ["below"]}

inner = StateGraph(MessagesState).add_node(says).add_edge(START, "says").compile()

def calls(state: MessagesState):
    return {"messages": inner.invoke({"messages": []})["messages"]}

blocking = transactional(StateGraph(MessagesState).add_node(calls).add_edge(START, "calls").compile())
"""

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not (FOLDER / ".installed").exists(), reason="The Agent Server is not installed: make agent-server"
    ),
]


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
            connection.execute("CREATE TABLE journal (seq serial PRIMARY KEY, line text NOT NULL)")
        yield url


@pytest.fixture(scope="module")
def served(database: str, vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that serves the page's flow, and one of the tests'."""
    folder = tmp_path_factory.mktemp("agent-server")
    (app,), (config,) = blocks(PAGE, "python"), blocks(PAGE, "json")
    document = json.loads(config)
    document["graphs"] |= {"draw": "./draw.py:flow", "plain": "./draw.py:plain", "blocking": "./draw.py:blocking"}
    (folder / "app.py").write_text(app)
    (folder / "draw.py").write_text(DRAW)
    (folder / "langgraph.json").write_text(json.dumps(document))
    (folder / "runtime.toml").write_text(runtime_toml(vendor.openai_url))
    assert re.findall(r"^\$ (langgraph dev)$", PAGE, re.MULTILINE)
    port = free_port()
    line = [
        str(FOLDER / "bin" / "python"),
        "-m",
        "langgraph_cli",
        "dev",
        "--no-browser",
        "--no-reload",
        "--port",
        str(port),
    ]
    env = {
        "DATABASE_URL": database,
        "PYTHONPATH": str(ROOT),
        "LANGSMITH_TRACING": "false",
        "LANGGRAPH_NO_VERSION_CHECK": "true",
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
        "NO_COLOR": "1",
    }
    url = f"http://127.0.0.1:{port}"
    with serving(line, folder=folder, url=url, ready="/ok", env=env):
        yield url


@pytest.fixture
async def saver(database: str, vendor: Vendor) -> AsyncIterator[TransactionalSaver]:
    """For looking at the database, whose account holds 100."""
    vendor.always(answer("It may."))
    async with TransactionalSaver.from_conn_string(database) as saver:
        async with saver.transaction() as tx:
            await tx.execute("UPDATE account SET balance = 100; DELETE FROM journal")
        yield saver


@pytest.fixture
async def client(served: str, saver: TransactionalSaver) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=served) as client:
        yield client


@pytest.fixture
async def thread(client: LangGraphClient) -> str:
    return str((await client.threads.create())["thread_id"])


async def balance(saver: TransactionalSaver) -> int:
    async with saver.transaction() as tx:
        return int(await tx.fetchval("SELECT balance FROM account"))


async def journal(saver: TransactionalSaver) -> list[str]:
    async with saver.transaction() as tx:
        return [row["line"] for row in await tx.fetch("SELECT line FROM journal ORDER BY seq")]


async def move(saver: TransactionalSaver, balance: int) -> None:
    async with saver.transaction() as tx:
        await tx.execute("UPDATE account SET balance = $1", balance)


async def question(client: LangGraphClient, thread: str) -> Any:
    (asked,) = (await client.threads.get_state(thread))["interrupts"]
    return asked


async def test_an_interrupt_is_answered(client: LangGraphClient, thread: str, saver: TransactionalSaver) -> None:
    await client.runs.wait(thread, "agent", input=PAYMENT)
    assert (await client.threads.get(thread))["status"] == "interrupted"
    asked = await question(client, thread)
    assert asked["value"] == {"balance": 100}
    ended: Any = await client.runs.wait(thread, "agent", command={"resume": {asked["id"]: True}})
    assert (ended["paid"], ended["messages"][0]["content"]) == (True, "It may.")
    assert await balance(saver) == 70
    items = await client.store.search_items(("payments", "A"))
    assert [(item["key"], item["value"]) for item in items["items"]] == [(thread, {"amount": 30})]


async def test_a_synchronous_node_calls_a_subgraph(client: LangGraphClient, thread: str) -> None:
    ended: Any = await client.runs.wait(thread, "blocking", input={"messages": []})
    assert [said["content"] for said in ended["messages"]] == ["below"]


async def test_an_answer_to_what_has_moved_does_not_count(
    client: LangGraphClient, thread: str, saver: TransactionalSaver
) -> None:
    await client.runs.wait(thread, "agent", input=PAYMENT)
    first = await question(client, thread)
    await move(saver, 50)
    await client.runs.wait(thread, "agent", command={"resume": {first["id"]: True}})
    second = await question(client, thread)
    assert (second["value"], await balance(saver)) == ({"balance": 50}, 50)
    assert second["id"] != first["id"]


async def test_history_fork_and_update(client: LangGraphClient, thread: str, saver: TransactionalSaver) -> None:
    await client.runs.wait(thread, "agent", input=PAYMENT)
    history = await client.threads.get_history(thread)
    assert [each["next"] for each in history] == [["pay"], ["advise"], ["__start__"]]
    await client.threads.update_state(thread, {"amount": 500})
    ended: Any = await client.runs.wait(thread, "agent", input=None)
    assert (ended["amount"], ended["paid"]) == (500, False)
    fork = await client.threads.update_state(thread, {"amount": 7}, checkpoint_id=history[0]["checkpoint_id"])
    await client.runs.wait(thread, "agent", input=None, checkpoint=fork["checkpoint"])
    state = await client.threads.get_state(thread)
    assert (state["values"]["amount"], state["next"]) == (7, ["pay"])  # type: ignore[call-overload]
    assert await balance(saver) == 100


async def test_a_copy_of_a_thread_goes_on_by_itself(
    client: LangGraphClient, thread: str, saver: TransactionalSaver
) -> None:
    await client.runs.wait(thread, "agent", input=PAYMENT)
    copied: Any = await client.threads.copy(thread)
    copy = str(copied["thread_id"])
    assert len(await client.threads.get_history(copy)) == 3
    for each in (copy, thread):
        ended: Any = await client.runs.wait(each, "agent", command={"resume": True})
        if "__interrupt__" in ended:  # the one before has moved what this one was asked about
            ended = await client.runs.wait(each, "agent", command={"resume": True})
        assert ended["paid"]
    assert await balance(saver) == 40
    await client.threads.delete(copy)
    assert await saver.athread(copy) is None
    assert await saver.athread(thread) is not None


async def test_a_conflict_is_retried_and_written_once(
    client: LangGraphClient, thread: str, saver: TransactionalSaver, vendor: Vendor
) -> None:
    """The balance moves between the node's read and its commit."""
    goes_on, before = threading.Event(), vendor.count
    vendor.script(answer("old").stall(until=goes_on))
    vendor.always(answer("new"))
    try:
        running = asyncio.create_task(stream(client, thread, "draw", {}, ["values", "updates", "messages-tuple"]))
        await vendor.until(lambda: vendor.count == before + 1)
        await move(saver, 60)
    finally:
        goes_on.set()
    events = await running
    assert [data for kind, data in events if kind == "error"] == []
    (update,) = [data for kind, data in events if kind == "updates"]
    (message,) = messages_of(update["draw"])
    assert message["content"] == "new"
    (told,) = [data for kind, data in events if kind == "metadata"]
    assert told["attempt"] == 1
    assert [request.text for request in vendor.requests[before:]] == ["100", "60"]
    assert (await balance(saver), await journal(saver)) == (59, [f"{thread} 60"])
    item = await client.store.get_item(("draws",), thread)
    assert item["value"] == {"balance": 60}
    (version,) = await saver.store.ahistory(("draws",), thread)  # what the first execution has put was never there
    assert version.value == {"balance": 60}
    (step,) = [each for each in await saver.asteps(thread) if "draw" in each.nodes]
    assert (step.attempts, step.drifts) == (2, 1)


async def test_a_plain_graph_tells_of_the_conflict_and_can_go_on(
    client: LangGraphClient, thread: str, saver: TransactionalSaver, vendor: Vendor
) -> None:
    goes_on, before = threading.Event(), vendor.count
    vendor.script(answer("old").stall(until=goes_on))
    try:
        running = asyncio.create_task(client.runs.wait(thread, "plain", input={}))
        await vendor.until(lambda: vendor.count == before + 1)
        await move(saver, 60)
    finally:
        goes_on.set()
    with pytest.raises(Exception, match=r"^Drift: "):
        await running
    assert (await balance(saver), await journal(saver)) == (60, [])
    await client.runs.wait(thread, "plain", input=None)
    assert await journal(saver) == [f"{thread} 60"]


async def stream(
    client: LangGraphClient, thread: str, graph: str, given: Any, modes: list[Any]
) -> list[tuple[str, Any]]:
    """The events of a run, to its end."""
    return [(part.event, part.data) async for part in client.runs.stream(thread, graph, input=given, stream_mode=modes)]


def messages_of(update: dict[str, Any]) -> list[dict[str, Any]]:
    given = update["messages"]
    return given if isinstance(given, list) else [given]


async def test_streams(client: LangGraphClient, thread: str) -> None:
    events = await stream(client, thread, "agent", PAYMENT, ["values", "updates", "messages-tuple"])
    kinds = [kind for kind, _ in events]
    updates = [data for kind, data in events if kind == "updates"]
    assert [name for each in updates for name in each] == ["advise", "__interrupt__"]
    tokens = [data[0]["content"] for kind, data in events if kind == "messages"]
    assert "".join(tokens) == "It may."
    values = [data for kind, data in events if kind == "values"]
    assert ("paid" in values[-1], values[-1]["account"], len(values[-1]["messages"])) == (False, "A", 1)
    assert kinds[0] == "metadata"
    assert "error" not in kinds


async def test_a_stream_that_is_left_leaves_a_thread_that_goes_on(
    client: LangGraphClient, thread: str, saver: TransactionalSaver, vendor: Vendor
) -> None:
    goes_on, before = threading.Event(), vendor.count
    vendor.script(answer("It may pay.").stall(after=1, until=goes_on))
    try:
        parts = client.runs.stream(
            thread, "draw", input={}, stream_mode="messages-tuple", on_disconnect="cancel", if_not_exists="create"
        )
        async for part in parts:
            if part.event == "messages":
                break
        await parts.aclose()  # type: ignore[attr-defined]
        await vendor.until(lambda: vendor.requests[before].state == "gone", seconds=60)
    finally:
        goes_on.set()
    assert await journal(saver) == []
    await client.runs.wait(thread, "draw", input=None)
    assert await journal(saver) == [f"{thread} 100"]


async def test_two_clients_on_one_thread(
    client: LangGraphClient, served: str, thread: str, saver: TransactionalSaver, vendor: Vendor
) -> None:
    """The second one is queued, or refused, as it asks for; nothing is written twice."""
    goes_on, before = threading.Event(), vendor.count
    vendor.script(answer("first").stall(until=goes_on))
    async with get_client(url=served) as other:
        try:
            first = asyncio.create_task(client.runs.wait(thread, "draw", input={}))
            await vendor.until(lambda: vendor.count == before + 1)
            with pytest.raises(Exception, match="409"):
                await other.runs.wait(thread, "draw", input={}, multitask_strategy="reject")
            queued = await other.runs.create(thread, "draw", input={}, multitask_strategy="enqueue")
        finally:
            goes_on.set()
        await first
        await other.runs.join(thread, queued["run_id"])
    assert (await balance(saver), await journal(saver)) == (98, [f"{thread} 100", f"{thread} 99"])
    state: Any = await client.threads.get_state(thread)
    assert len(state["values"]["messages"]) == 2


async def test_a_run_without_a_thread_has_no_step(client: LangGraphClient) -> None:
    with pytest.raises(Exception, match=r"^NoActiveStep: "):
        await client.runs.wait(None, "draw", input={})


async def test_the_store_of_the_client(client: LangGraphClient, saver: TransactionalSaver) -> None:
    await client.store.put_item(("users", "ana"), "colour", {"is": "blue"})
    found = await saver.store.aget(("users", "ana"), "colour")
    assert found is not None
    assert found.value == {"is": "blue"}
    assert (await client.store.list_namespaces(prefix=["users"]))["namespaces"] == [["users", "ana"]]
    await client.store.delete_item(("users", "ana"), "colour")
    assert await saver.store.aget(("users", "ana"), "colour") is None
