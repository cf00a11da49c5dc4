"""What stored values become: rows, plain data, errors that name them, ciphertext."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.langgraph.codec import WriteRows, checkpoint_row, load_payload, write_rows
from superstep.runtime.faults import ValueNotSerializable
from tests.support.bank import Bank, make_bank
from tests.support.databases import tables
from tests.support.graphs import chain, config_of, fan
from tests.support.race import Race
from tests.support.values import SERDE, plain

MARKER = "xyzzy-plugh-0451"
NAMES = st.characters(exclude_characters="\0", exclude_categories=["Cs"])  # others cannot be stored as text


@dataclass
class Note:
    text: str


class Card(BaseModel):
    text: str


async def kinds(saver: TransactionalSaver) -> set[str]:
    async with saver.transaction() as tx:
        rows = await tx.fetch(
            "SELECT kind FROM runtime.checkpoint UNION SELECT kind FROM runtime.channel_value "
            "UNION SELECT kind FROM runtime.task_write UNION SELECT kind FROM runtime.task_effect"
        )
    return {row["kind"] for row in rows}


@pytest.mark.parametrize("value", [Note("hello"), Card(text="hello")])
async def test_types_nobody_allowed_are_refused(saver: TransactionalSaver, value: Any) -> None:
    async def node(state: Any) -> Any:
        return {"bag": {"it": value, "more": [value]}}

    graph = chain(saver, node)
    with pytest.raises(ValueNotSerializable, match="channel 'bag'"):
        await graph.ainvoke({"n": 0}, config_of("t"), durability="sync")
    assert "bag" not in (await graph.aget_state(config_of("t"))).values
    assert "pickle" not in await kinds(saver)


@pytest.mark.parametrize("value", [Note("hello"), Card(text="hello")])
async def test_types_on_the_allow_list_round_trip(database_url: str, value: Any) -> None:
    allowed = [(kind.__module__, kind.__qualname__) for kind in (Note, Card)]
    serde = JsonPlusSerializer(allowed_msgpack_modules=allowed)
    async with TransactionalSaver.from_conn_string(database_url, serde=serde) as saver:

        async def node(state: Any) -> Any:
            return {"bag": {"it": value}}

        graph = chain(saver, node)
        await graph.ainvoke({"n": 0}, config_of("t"))
        assert (await graph.aget_state(config_of("t"))).values["bag"] == {"it": value}


@pytest.mark.parametrize("where", ["node", "input"])
@pytest.mark.parametrize("wrap", [False, True])
async def test_what_msgpack_refuses_is_named_and_nothing_is_stored(
    saver: TransactionalSaver, bank: Bank, where: str, *, wrap: bool
) -> None:
    broken = [True]
    bad = {"f": lambda: 1}

    async def node(state: Any) -> Any:
        current_step().stage("INSERT INTO journal (line) VALUES ('written')")
        return {"bag": bad if broken[0] and where == "node" else {}, "n": 1}

    async def second(state: Any) -> Any:
        return {"n": state["n"] + 1}

    graph = chain(saver, node, second)
    flow = transactional(graph) if wrap else graph
    with pytest.raises(ValueNotSerializable, match="msgpack") as caught:
        await flow.ainvoke({"bag": bad if where == "input" else {}}, config_of("t"), durability="sync")
    assert ("'__start__'" if where == "input" else "'bag'") in str(caught.value)
    assert await bank.do("SELECT * FROM journal") == []
    assert await bank.do("SELECT * FROM runtime.task_effect") == []
    assert await bank.do("SELECT * FROM runtime.task_write WHERE task_path NOT LIKE '%__start__%'") == []
    checkpoints = [item async for item in saver.alist(config_of("t"))]
    assert len(checkpoints) == (0 if where == "input" else 2)
    broken[0] = False
    result = await flow.ainvoke({"bag": {}} if where == "input" else None, config_of("t"), durability="sync")
    assert result["n"] == 2
    assert await bank.journal() == ["written"]
    assert "pickle" not in await kinds(saver)


async def test_staged_argument_that_msgpack_refuses_fails_the_run_and_not_the_thread(
    saver: TransactionalSaver, bank: Bank
) -> None:
    """Noticed when the task finishes, whether or not its result will be stored apart from the commit."""
    broken = [True]

    async def quick(state: Any) -> Any:
        argument = (lambda: 1) if broken[0] else "written"
        current_step().stage("INSERT INTO journal (line) VALUES ($1)", argument)

    async def slow(state: Any) -> Any:
        return {"n": 1}

    flow = transactional(fan(saver, quick, slow))
    with pytest.raises(ValueNotSerializable, match="'quick'"):
        await flow.ainvoke({"n": 0}, config_of("t"))
    assert await bank.journal() == []
    broken[0] = False
    await flow.ainvoke(None, config_of("t"))
    assert await bank.journal() == ["written"]


async def test_encryption_leaves_no_state_in_the_clear(database_url: str) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    async with TransactionalSaver.from_conn_string(database_url, serde=serde) as saver:
        await make_bank(saver)
        bank = Bank(saver)
        model = FakeListChatModel(responses=[f"answer {MARKER}"])
        race = Race(bank, 99)

        async def node(state: Any) -> Any:
            step = current_step()
            await step.fetch("SELECT balance FROM account WHERE note IS DISTINCT FROM $1 AND id = 1", MARKER)
            said = await model.ainvoke(f"question {MARKER}")
            await race.move()
            step.stage("UPDATE account SET note = $1 WHERE id = 2", MARKER, expect_rows=1)
            return {"bag": {"said": said.content, "long": MARKER * 100}, "seen": [MARKER]}

        async def ask(state: Any) -> Any:
            step = current_step()
            await step.fetch("SELECT balance FROM account WHERE note IS DISTINCT FROM $1 AND id = 3", MARKER)
            return {"seen": [interrupt({"question": MARKER})]}

        flow = transactional(chain(saver, node, ask))
        first = await flow.ainvoke({"seen": [MARKER], "bag": {"in": MARKER}}, config_of("t"))
        assert race.over
        assert [i.value for i in first["__interrupt__"]] == [{"question": MARKER}]
        await _assert_nowhere(saver)
        result = await flow.ainvoke(Command(resume=f"yes {MARKER}"), config_of("t"))
        assert result["seen"] == [MARKER, MARKER, f"yes {MARKER}"]
        assert result["bag"]["said"] == f"answer {MARKER}"
        await _assert_nowhere(saver)
        assert (await bank.do("SELECT note FROM account WHERE id = 2"))[0]["note"] == MARKER
        for table in ("checkpoint", "channel_value", "task_write", "task_effect", "llm_call"):
            assert await bank.do(f"SELECT * FROM runtime.{table}"), f"{table} proves nothing: it is empty"


async def _assert_nowhere(saver: TransactionalSaver) -> None:
    found = []
    for table, binary in (await tables(saver)).items():
        async with saver.transaction() as tx:
            if await tx.fetchval(f"SELECT count(*) FROM runtime.{table} t WHERE t::text LIKE $1", f"%{MARKER}%"):
                found.append(table)
            for column in binary:
                sql = f"SELECT count(*) FROM runtime.{table} WHERE position($1::bytea in {column}) > 0"
                if await tx.fetchval(sql, MARKER.encode()):
                    found.append(f"{table}.{column}")
    assert found == []


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["x", "__resume__", "__interrupt__"]), st.integers(0, 99))
    )
)
def test_of_writes_to_one_slot_the_last_counts(written: list[tuple[str, str, int]]) -> None:
    parts = [write_rows(SERDE, [(channel, value)], task, "") for task, channel, value in written]
    merged = WriteRows.merged(parts)
    slots = list(zip(merged.tasks, merged.idx, strict=True))
    assert len(slots) == len(set(slots))
    last = {(part.tasks[0], part.idx[0]): part.values[0] for part in parts}
    assert dict(zip(slots, merged.values, strict=True)) == last


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first example of a loaded machine may take seconds
@given(
    st.dictionaries(st.text(NAMES, min_size=1), st.one_of(plain, st.lists(plain), st.text(min_size=300)), max_size=6)
)
def test_a_checkpoint_keeps_small_values_and_refers_to_the_others(channels: dict[str, Any]) -> None:
    versions: dict[str, Any] = {name: f"{n:08x}" for n, name in enumerate(channels)}
    checkpoint: Any = {"v": 1, "id": "i", "ts": "", "channel_values": channels, "channel_versions": versions}
    row, _ = checkpoint_row(SERDE, checkpoint, {}, versions)
    body, inline = load_payload(SERDE, row.kind, row.payload)
    stored = {
        name: SERDE.loads_typed((kind, value))
        for name, kind, value in zip(row.new_channels, row.new_kinds, row.new_values, strict=True)
    }
    assert {**inline, **stored} == channels
    assert not set(inline) & set(stored)
    assert "channel_values" not in body
