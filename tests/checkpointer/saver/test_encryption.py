"""With an `EncryptedSerializer` nothing but names, ids and numbers lies open, and a value counts in its row only."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from langchain_core.language_models import FakeListChatModel
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from superstep import current_step, transactional
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.threads.digest_key import digest_key
from superstep.providers import chat_model
from superstep.providers.catalog.model import Recording
from superstep.providers.chat.registry import configure
from superstep.runtime.faults import ProviderExhausted, ValueNotAuthentic
from tests.checkpointer.calls.vendor import calls, use
from tests.checkpointer.threads.test_delta_channels import delta_graph, values_of
from tests.support.bank import BALANCE, LOG, Bank, make_bank
from tests.support.databases import tables
from tests.support.graphs import LARGE, chain, config_of
from tests.support.vendors import Vendor, answer, status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MARK = "MARK-4711"


def aes(key: bytes = b"0123456789abcdef") -> EncryptedSerializer:
    return EncryptedSerializer.from_pycryptodome_aes(JsonPlusSerializer(allowed_msgpack_modules=None), key=key)


@pytest.fixture
async def secret(database_url: str) -> AsyncIterator[TransactionalSaver]:
    """A saver that encrypts, and the accounts."""
    async with TransactionalSaver.from_conn_string(database_url, serde=aes()) as saver:
        await make_bank(saver)
        yield saver


@pytest.fixture
async def plain(database_url: str, secret: TransactionalSaver) -> AsyncIterator[TransactionalSaver]:
    """Another saver of the same database, without a key."""
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        yield saver


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with Vendor() as vendor:
        yield vendor
    configure(None)


async def everything(saver: TransactionalSaver) -> dict[str, str]:
    """All rows of the saver's tables as text."""
    found = {}
    async with saver.transaction() as tx:
        for table, binary in (await tables(saver)).items():
            columns = ", ".join(f"encode({column}, 'escape')" for column in binary) or "''"
            rows = await tx.fetch(f"SELECT t::text, concat({columns}) FROM runtime.{table} t")
            found[table] = "\n".join(f"{row[0]} {row[1]}" for row in rows)
    return found


async def test_nothing_that_a_flow_says_lies_open(
    secret: TransactionalSaver, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_KEY", "k")
    use(vendor, recording=Recording(content=True))
    vendor.script(status(400, message=f"{MARK} is no input"), answer(f"{MARK} said"))

    async def work(state: Any) -> Any:
        step = current_step()
        await step.fetch(f"SELECT '{MARK}', $1::text", MARK)
        step.stage("INSERT INTO journal (line) VALUES ($1)", MARK)
        step.uses(f"{MARK}@1")
        with pytest.raises(ProviderExhausted):
            await chat_model("r").ainvoke(MARK, {"tags": [MARK]})
        said = await chat_model("r").ainvoke(MARK, {"tags": [MARK]})
        return {"seen": [said.content], "bag": {"long": MARK * LARGE, MARK: MARK}}

    async def ask(state: Any) -> Any:
        await current_step().fetch(f"SELECT '{MARK}', $1::text", MARK)
        return {"seen": [interrupt({"question": MARK})]}

    async def fail(state: Any) -> Any:
        raise ValueError(f"{MARK} cannot be")

    flow = transactional(chain(secret, work, ask, fail))
    config: Any = {**config_of("t", token=MARK), "metadata": {"who": MARK, MARK: 1}, "tags": [MARK]}
    await flow.ainvoke({"seen": [MARK], "bag": {}}, config)
    found = await everything(secret)
    assert {table for table, rows in found.items() if MARK in rows} == set()
    with pytest.raises(ValueError, match=MARK):
        await flow.ainvoke(Command(resume=MARK), config)
    assert {table for table, rows in (await everything(secret)).items() if MARK in rows} == set()
    shown = ("checkpoint", "channel_value", "task_write", "task_effect", "llm_call", "model_call", "thread")
    assert [table for table in shown if not found[table]] == [], "empty: they prove nothing"

    # Whoever has the key reads all of it.
    assert [thread.error for thread in await secret.athreads()] == [f"ValueError: {MARK} cannot be"]
    (first, *_) = await secret.asteps("t")
    assert first.prompts == [f"{MARK}@1"]
    failed, answered = first.calls
    assert (failed["tags"], failed["tried"][0]["why"]) == ([MARK], "status 400")
    assert (answered["tags"], answered["content"]["output"]) == ([MARK], f"{MARK} said")
    loaded = await secret.aget_tuple(config_of("t"))
    assert loaded is not None
    assert (loaded.metadata["who"], loaded.metadata["token"]) == (MARK, MARK)  # type: ignore[typeddict-item]
    assert [d.deployment for d in await secret.adeployment_health(seconds=60)] == ["r/vendor"]


async def test_a_digest_that_lies_open_is_keyed(secret: TransactionalSaver, plain: TransactionalSaver) -> None:
    model = FakeListChatModel(responses=["yes"])

    async def node(state: Any) -> Any:
        return {"seen": [(await model.ainvoke("is it so?")).content]}

    for thread, saver in (("secret", secret), ("plain", plain)):
        await transactional(chain(saver, node)).ainvoke({"seen": []}, config_of(thread))
    async with plain.transaction() as tx:
        requests = {r["thread_id"]: r["request"] for r in await tx.fetch("SELECT * FROM runtime.llm_call")}
    assert requests["secret"] != requests["plain"]
    assert len(requests["secret"]) == len(requests["plain"])


async def test_savers_that_start_together_have_one_digest_key(database_url: str, secret: TransactionalSaver) -> None:
    savers = [TransactionalSaver.from_conn_string(database_url, serde=aes()) for _ in range(5)]
    opened = [await each.__aenter__() for each in savers]
    keys = await asyncio.gather(*(digest_key(each.database, each.serde) for each in opened))
    for each in savers:
        await each.__aexit__(None, None, None)
    assert len(set(keys)) == 1
    other = aes(b"another-key-1234")
    async with TransactionalSaver.from_conn_string(database_url, serde=other) as saver:
        with pytest.raises(ValueNotAuthentic, match="not encrypted with this key"):
            await digest_key(saver.database, saver.serde)


# -- what comes in without the key -------------------------------------------------------------------------------------


async def two_threads(saver: TransactionalSaver) -> Any:
    """Two runs that failed at the second of two tasks, each with a saved result, staged writes and an answer."""
    model = FakeListChatModel(responses=["yes"] * 9)
    broken = asyncio.Event()

    async def writes(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        step.stage(LOG, f"written for {step.thread_id}")
        broken.set()
        return {"seen": [step.thread_id], "bag": {"of": step.thread_id, "long": "x" * LARGE}}

    async def fails(state: Any) -> Any:
        await model.ainvoke("is it so?")
        await broken.wait()
        await asyncio.sleep(0.1)  # its sibling's result is stored by itself, as those of interrupted steps are
        raise ValueError(f"of {current_step().thread_id}")

    async def first(state: Any) -> Any:
        return {"bag": {"first": current_step().thread_id, "long": "y" * LARGE}}

    class S(TypedDict, total=False):
        seen: list[Any]
        bag: dict[str, Any]

    builder = StateGraph(S).add_node("first", first).add_node("writes", writes).add_node("fails", fails)
    graph = builder.add_edge(START, "first").add_edge("first", "writes").add_edge("first", "fails")
    flow = transactional(graph.compile(checkpointer=saver))
    for thread in ("a", "b"):
        with pytest.raises(ValueError, match="of"):
            await flow.ainvoke({}, {**config_of(thread), "metadata": {"who": thread}})
    return flow


MOVED = {
    "payload": "UPDATE runtime.checkpoint t SET kind = s.kind, payload = s.payload FROM runtime.checkpoint s "
    "WHERE s.thread_id = 'a' AND t.thread_id = 'b' AND s.metadata -> 'step' = t.metadata -> 'step'",
    "metadata": "UPDATE runtime.checkpoint t SET metadata = s.metadata FROM runtime.checkpoint s "
    "WHERE s.thread_id = 'a' AND t.thread_id = 'b' AND s.metadata -> 'step' = t.metadata -> 'step'",
    "value": "UPDATE runtime.channel_value t SET value = s.value FROM runtime.channel_value s "
    "WHERE s.thread_id = 'a' AND t.thread_id = 'b' AND s.channel = t.channel",
    "write": "UPDATE runtime.task_write t SET value = s.value FROM runtime.task_write s "
    "WHERE s.thread_id = 'a' AND t.thread_id = 'b' AND s.channel = t.channel AND s.idx = t.idx",
    "write to another channel": "UPDATE runtime.task_write SET channel = 'bag' "
    "WHERE thread_id = 'b' AND channel = 'seen'",
    "write before others": "UPDATE runtime.task_write SET task_path = '' WHERE thread_id = 'b'",
    "effect": "UPDATE runtime.task_effect t SET effect = s.effect FROM runtime.task_effect s "
    "WHERE s.thread_id = 'a' AND t.thread_id = 'b'",
    "version of a channel": "UPDATE runtime.checkpoint SET versions = ARRAY(SELECT version FROM runtime.channel_value "
    "WHERE thread_id = 'b' AND channel = 'bag' ORDER BY version LIMIT 1) WHERE thread_id = 'b' AND channels <> '{}'; "
    "UPDATE runtime.channel_value t SET value = s.value, version = s.version || 'x' FROM runtime.channel_value s "
    "WHERE s.thread_id = 'a' AND t.thread_id = 'b'; UPDATE runtime.checkpoint c SET versions = ARRAY(SELECT version "
    "FROM runtime.channel_value v WHERE v.thread_id = 'b') WHERE c.thread_id = 'b' AND channels <> '{}'",
    "values taken out": "UPDATE runtime.checkpoint SET channels = '{}', versions = '{}' WHERE thread_id = 'b'",
    "a changed byte": "UPDATE runtime.task_effect SET effect = set_byte(effect, 40, get_byte(effect, 40) # 1)",
    "another kind": "UPDATE runtime.task_effect SET kind = 'pickle+aes'",
}


@pytest.mark.parametrize("how", MOVED)
async def test_a_value_counts_in_its_row_only(secret: TransactionalSaver, how: str) -> None:
    flow = await two_threads(secret)
    async with secret.transaction() as tx:
        await tx.execute(MOVED[how])
    with pytest.raises(ValueNotAuthentic):
        await flow.ainvoke(None, config_of("b"))
    assert await Bank(secret).journal() == []


async def test_an_answer_of_a_model_counts_in_its_row_only(secret: TransactionalSaver) -> None:
    flow = await two_threads(secret)
    async with secret.transaction() as tx:
        moved = await tx.execute(
            "INSERT INTO runtime.llm_call (thread_id, ns, checkpoint_id, task_id, attempt, request, nth, kind, answer) "
            "SELECT 'b', ns, checkpoint_id, task_id, attempt, request, nth, kind, answer FROM runtime.llm_call"
        )
        assert moved == "INSERT 0 0"  # a task that fails forgets its answers
    asked = []

    async def node(state: Any) -> Any:
        asked.append((await FakeListChatModel(responses=["mine"]).ainvoke("?")).content)
        return {"seen": [interrupt("?")]}

    flow = transactional(chain(secret, node))
    for thread in ("c", "d"):
        await flow.ainvoke({"seen": []}, config_of(thread))
    async with secret.transaction() as tx:
        await tx.execute(
            "UPDATE runtime.llm_call t SET answer = s.answer FROM runtime.llm_call s "
            "WHERE s.thread_id = 'c' AND t.thread_id = 'd'"
        )
    with pytest.raises(ValueNotAuthentic, match="another place"):
        await flow.ainvoke(Command(resume="yes"), config_of("d"))
    assert asked == ["mine", "mine"]


async def test_a_planted_effect_is_not_executed(secret: TransactionalSaver) -> None:
    flow = await two_threads(secret)
    effect = ["writes", [], [["DELETE FROM account", [], None]], "", False, {}]
    kind, data = JsonPlusSerializer().dumps_typed(effect)
    async with secret.transaction() as tx:
        await tx.execute("UPDATE runtime.task_effect SET kind = $1, effect = $2", kind, data)
    with pytest.raises(ValueNotAuthentic, match="not encrypted"):
        await flow.ainvoke(None, config_of("a"))
    assert len(await Bank(secret).do("SELECT FROM account")) == 5


async def test_what_nobody_touched_goes_on(secret: TransactionalSaver) -> None:
    """The threads of the tests above, as they are."""
    flow = await two_threads(secret)
    with pytest.raises(ValueError, match="of b"):
        await flow.ainvoke(None, config_of("b"))
    assert (await flow.aget_state(config_of("b"))).values["bag"]["of"] == "b"


async def test_threads_without_encryption_are_refused_and_the_other_way_round(
    secret: TransactionalSaver, plain: TransactionalSaver
) -> None:
    async def node(state: Any) -> Any:
        raise ValueError(f"said of {state['seen']}")

    for thread, saver in (("secret", secret), ("plain", plain)):
        with pytest.raises(ValueError, match="said of"):
            await transactional(chain(saver, node)).ainvoke({"seen": [thread]}, config_of(thread))
    for saver, theirs in ((secret, "plain"), (plain, "secret")):
        with pytest.raises(ValueNotAuthentic, match="encrypt"):
            await saver.aget_tuple(config_of(theirs))
        with pytest.raises(ValueNotAuthentic, match="encrypt"):
            [each async for each in saver.alist(config_of(theirs))]
        errors = {thread.thread_id: thread.error for thread in await saver.athreads()}
        assert errors.pop(theirs) == "(encrypted)"
        assert [error.startswith("ValueError: said of") for error in errors.values() if error] == [True]
    assert await plain.asteps("secret") == []


# -- what still works --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frequency", [1, 3, 1000])
async def test_copies_and_pruned_threads_say_the_same(secret: TransactionalSaver, frequency: int) -> None:
    graph = delta_graph(secret, frequency)
    for n in range(4):
        await graph.ainvoke({"n": n, "log": [f"in{n}"]}, config_of("t"))
    before = await values_of(graph, config_of("t"))
    await secret.acopy_thread("t", "copy")
    assert await values_of(graph, config_of("copy")) == before
    steps, copied = await secret.asteps("t"), await secret.asteps("copy")
    assert [step.nodes for step in copied] == [step.nodes for step in steps]
    await secret.aprune(["copy"])
    assert (await values_of(graph, config_of("copy")))[0] == before[0]
    await graph.ainvoke({"n": 5, "log": ["more"]}, config_of("copy"))


async def test_a_copy_of_a_thread_with_all_that_there_is(
    secret: TransactionalSaver, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENDOR_KEY", "k")
    use(vendor)
    vendor.script(answer("yes"))

    async def node(state: Any) -> Any:
        said = await chat_model("r").ainvoke("?")
        current_step().stage(LOG, said.text)
        return {"seen": [said.text, interrupt("?")], "bag": {"long": "x" * LARGE}}

    async def fails(state: Any) -> Any:
        raise ValueError("at the end")

    flow = transactional(chain(secret, node, fails))
    await flow.ainvoke({"seen": []}, config_of("t"))
    await secret.acopy_thread("t", "early")
    with pytest.raises(ValueError, match="at the end"):
        await flow.ainvoke(Command(resume="go"), config_of("early"))
    await secret.acopy_thread("early", "late")
    assert (await flow.aget_state(config_of("late"))).values["seen"] == ["yes", "go"]
    assert [each["tried"] for each in await calls(secret, config_of("late"))] == [[]]
    assert {thread.error for thread in await secret.athreads() if thread.error} == {"ValueError: at the end"}
    assert len(vendor.requests) == 1


async def test_a_copy_from_what_was_tampered_with_is_none(secret: TransactionalSaver) -> None:
    await two_threads(secret)
    async with secret.transaction() as tx:
        await tx.execute(MOVED["effect"])
    with pytest.raises(ValueNotAuthentic):
        await secret.acopy_thread("b", "copy")
    assert "copy" not in {thread.thread_id for thread in await secret.athreads()}


async def test_runs_are_found_and_deleted_by_their_id(secret: TransactionalSaver) -> None:
    async def node(state: Any) -> Any:
        return {"n": 1}

    for run in ("r-1", "r-2"):
        config: Any = {**config_of(run), "metadata": {"run_id": run}}
        await chain(secret, node).ainvoke({"n": 0}, config)
    await secret.adelete_for_runs(["r-1"])
    assert {each.config["configurable"]["thread_id"] async for each in secret.alist(None)} == {"r-2"}


METADATA: list[dict[str, Any]] = [
    {"who": "ann", "n": 1, "deep": {"a": [1, {"b": None}], "c": True}},
    {"who": "ann", "n": 1.0, "deep": {"a": [], "c": 1}},
    {"who": "bob", "n": 100, "deep": {}},
    {"n": -0.5, "list": ["x", "y", ["z"]]},
    {"n": 10**30, "source": "loop"},
    {},
]
WANTED: list[dict[str, Any]] = [
    *METADATA,
    {"who": "ann"},
    {"who": "Ann"},
    {"n": 1},
    {"n": "1"},
    {"n": True},
    {"n": 1e2},
    {"n": 100.0, "who": "bob"},
    {"deep": {"a": [{"b": None}]}},
    {"deep": {"a": [{"b": False}]}},
    {"deep": {"c": True}},
    {"deep": []},
    {"list": ["y"]},
    {"list": [["z"]]},
    {"list": "y"},
    {"source": "loop"},
    {"source": "loop", "n": 10.0**30},
    {"a": {"who": "ann"}},
]


async def test_metadata_can_be_filtered_as_without_encryption(
    secret: TransactionalSaver, plain: TransactionalSaver
) -> None:
    checkpoint: Any = {"v": 1, "ts": "", "channel_values": {}, "channel_versions": {}, "versions_seen": {}}
    for saver, ns in ((secret, "secret"), (plain, "plain")):
        for n, metadata in enumerate(METADATA):
            config: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ns}}
            await saver.aput(config, {**checkpoint, "id": str(n)}, metadata, {})  # type: ignore[arg-type,typeddict-item]

    async def found(saver: TransactionalSaver, ns: str, wanted: Any) -> list[tuple[Any, Any]]:
        config = config_of("t", checkpoint_ns=ns)
        listed = [each async for each in saver.alist(config, filter=wanted)]
        return [(each.checkpoint["id"], each.metadata) for each in listed]

    matched = 0
    for wanted in WANTED:
        expected = await found(plain, "plain", wanted)
        assert await found(secret, "secret", wanted) == expected, wanted
        matched += len(expected)
    assert matched >= len(WANTED)


async def test_without_encryption_rows_are_what_they_were(saver: TransactionalSaver) -> None:
    async def node(state: Any) -> Any:
        current_step().uses("p@1")
        raise ValueError("plain words")

    async def before(state: Any) -> Any:
        current_step().uses("p@1")
        return {"n": 1}

    config: Any = {**config_of("t"), "metadata": {"sealed": "mine", "match": "too"}}
    with pytest.raises(ValueError, match="plain words"):
        await transactional(chain(saver, before, node)).ainvoke({}, config)
    async with saver.transaction() as tx:
        row = await tx.fetchrow("SELECT * FROM runtime.checkpoint WHERE stats IS NOT NULL")
        assert row is not None
        assert json.loads(row["stats"])["prompts"] == ["p@1"]
        assert (json.loads(row["metadata"])["sealed"], row["kind"]) == ("mine", "msgpack")
        assert await tx.fetchval("SELECT error FROM runtime.thread") == "ValueError: plain words"
        assert await tx.fetch("SELECT * FROM runtime.encryption") == []
    loaded = await saver.aget_tuple(config_of("t"))
    assert loaded is not None
    assert loaded.metadata["match"] == "too"  # type: ignore[typeddict-item]
