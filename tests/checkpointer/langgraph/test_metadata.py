"""Metadata as jsonb: the same value is stored and looked for in one form."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from superstep.checkpointer.langgraph.ids import usable
from superstep.checkpointer.langgraph.metadata import filter_json, metadata_of, restored, stored_json
from superstep.runtime.faults import ConfigError, RuntimeFault, ValueNotSerializable
from tests.support.graphs import chain, config_of

if TYPE_CHECKING:
    from superstep.checkpointer import TransactionalSaver


class Card(BaseModel):
    n: int = 0


class Color(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    one: int
    two: Card


@dataclasses.dataclass
class Note:
    by: uuid.UUID


ID = uuid.UUID(int=7)
VALUES: dict[str, tuple[Any, Any]] = {
    "text": ("x", "x"),
    "number": (1.5, 1.5),
    "large": (2**200, 2**200),
    "nothing": (None, None),
    "infinity": (math.inf, math.inf),
    "minus infinity": ([-math.inf], [-math.inf]),
    "nul": ("a\0b", "ab"),
    "nul inside": ({"a\0": ["b\0"]}, {"a": ["b"]}),
    "backslash": ("a\\u0000b", "a\\u0000b"),
    "half a pair": ("\ud83d", "?"),
    "pair": ("\U0001f600", "\U0001f600"),
    "uuid": (ID, str(ID)),
    "bytes": (b"\0\xff", "00ff"),
    "time": (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
    "date": ([date(2026, 1, 2)], ["2026-01-02"]),
    "duration": (timedelta(seconds=1), "0:00:01"),
    "decimal": (Decimal("1.10"), "1.10"),
    "path": (Path("a") / "b", "a/b"),
    "enum": (Color.RED, "red"),
    "model": (Card(n=1), {"n": 1}),
    "dataclass": (Note(ID), {"by": str(ID)}),
    "named tuple": (Pair(1, Card()), {"one": 1, "two": {"n": 0}}),
    "tuple": ((1, (2,)), [1, [2]]),
    "set": ({3, 1, 2}, [1, 2, 3]),
    "keys": ({1: "a", None: "b", Color.RED: "c", ID: "d"}, {"1": "a", "null": "b", "red": "c", str(ID): "d"}),
}


@pytest.mark.parametrize("name", VALUES)
async def test_what_is_stored_is_found_by_the_same_value_and_nothing_else(saver: TransactionalSaver, name: str) -> None:
    value, back = VALUES[name]

    async def node(state: Any) -> Any:
        return {"n": 1}

    graph = chain(saver, node)
    await graph.ainvoke({"n": 0}, {**config_of("t"), "metadata": {"it": value}})
    await graph.ainvoke({"n": 0}, {**config_of("u"), "metadata": {"it": "another"}})
    found = [each async for each in saver.alist(None, filter={"it": value})]
    assert {each.config["configurable"]["thread_id"] for each in found} == {"t"}
    assert [each.metadata["it"] for each in found] == [back] * 3  # type: ignore[typeddict-item]
    history = [each async for each in graph.aget_state_history(config_of("t"), filter={"it": value})]
    assert len(history) == 3
    assert [each async for each in saver.alist(None, filter={"it": "nowhere"})] == []


async def test_nan_is_found_and_comes_back(saver: TransactionalSaver) -> None:
    graph = chain(saver, lambda state: {"n": 1})
    nan = float("nan")
    await graph.ainvoke({"n": 0}, {**config_of("t", ratio=nan), "metadata": {"score": nan}})
    found = [each async for each in saver.alist(None, filter={"score": nan, "ratio": nan})]
    assert len(found) == 3
    assert all(math.isnan(each.metadata["score"]) for each in found)  # type: ignore[typeddict-item]


async def test_runs_are_deleted_by_the_ids_they_were_stored_with(saver: TransactionalSaver) -> None:
    graph = chain(saver, lambda state: {"n": 1})
    await graph.ainvoke({"n": 0}, {**config_of("t"), "metadata": {"run_id": ID}})
    await saver.adelete_for_runs([ID])  # type: ignore[list-item]
    assert [each async for each in saver.alist(None)] == []


WITHOUT: dict[str, Any] = {
    "object": object(),
    "function": print,
    "class": Card,
    "complex": 1j,
    "inside": {"a": [object()]},
    "key": {(1, 2): 3},
    "digits": 10**5000,
}


@pytest.mark.parametrize("name", WITHOUT)
async def test_what_json_has_no_form_for_is_named_where_it_would_be_looked_for(
    saver: TransactionalSaver, name: str
) -> None:
    """LangGraph keeps texts and numbers of a config's metadata and leaves out the rest; so is this."""
    if name != "digits":
        await chain(saver, lambda state: {"n": 1}).ainvoke(
            {"n": 0}, {**config_of("t"), "metadata": {"it": WITHOUT[name]}}
        )
        assert all("it" not in each.metadata for each in [each async for each in saver.alist(None)])
    with pytest.raises(ValueNotSerializable, match="the filter of metadata has under 'it'"):
        _ = [each async for each in saver.alist(None, filter={"it": WITHOUT[name]})]
    with pytest.raises(ValueNotSerializable, match="under 'it'"):
        stored_json({"it": WITHOUT[name]})


def test_circles_are_named() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueNotSerializable, match="levels"):
        filter_json({"it": circle})


def test_what_langgraph_says_of_a_checkpoint_is_not_overruled() -> None:
    given: Any = {"metadata": {"source": "mine", "thread_id": "x", "__private": 1, "more": [1]}, "configurable": {}}
    assert metadata_of(given, {"source": "loop", "step": 3}) == {"source": "loop", "step": 3, "more": [1]}


text = st.text(st.characters(exclude_categories=()))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), text, st.binary(), st.uuids(), st.datetimes())
values = st.recursive(scalars, lambda each: st.lists(each) | st.dictionaries(text, each), max_leaves=10)


@given(st.dictionaries(text, values, max_size=4))
def test_everything_plain_has_one_form_that_jsonb_can_hold(metadata: dict[str, Any]) -> None:
    stored = stored_json(metadata)
    assert stored == filter_json(metadata)
    assert "\\u0000" not in stored.replace("\\\\", "")
    stored.encode()
    json.loads(stored, parse_constant=lambda name: pytest.fail(name))
    assert stored_json(restored(stored)) == stored  # what comes back finds it too


# -- ids ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["a\0b", "\ud83d", "x" + "\udc00"])
async def test_an_id_that_a_column_of_text_cannot_hold_is_refused_by_name(saver: TransactionalSaver, bad: str) -> None:
    graph = chain(saver, lambda state: {"n": 1})
    calls: list[Any] = [
        lambda: graph.ainvoke({"n": 0}, config_of(bad)),
        lambda: graph.aget_state(config_of(bad)),
        lambda: graph.aget_state(config_of("t", checkpoint_id=bad)),
        lambda: graph.aupdate_state(config_of(bad), {"n": 1}),
        lambda: saver.adelete_thread(bad),
        lambda: saver.acopy_thread("t", bad),
        lambda: saver.aprune([bad]),
        lambda: saver.athread(bad),
        lambda: saver.asteps(bad),
        lambda: saver.alatest_run(bad),
        lambda: saver.aget_tuple(config_of("t", checkpoint_ns=bad)),
        lambda: saver.aput_writes(config_of("t", checkpoint_ns="", checkpoint_id="1"), [(bad, 1)], "task"),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match=r"NUL|surrogate"):
            await call()
    with pytest.raises(ConfigError, match=r"NUL|surrogate"):
        _ = [each async for each in saver.alist(config_of(bad))]


async def test_a_node_whose_name_cannot_be_stored_is_refused_by_name(saver: TransactionalSaver) -> None:
    async def node(state: Any) -> Any:
        return {"n": 1}

    node.__name__ = "a\0b"
    with pytest.raises(ConfigError, match="NUL"):
        await chain(saver, node).ainvoke({"n": 0}, config_of("t"), durability="sync")


async def test_an_id_that_no_index_can_hold_is_refused_by_name(saver: TransactionalSaver) -> None:
    graph = chain(saver, lambda state: {"n": 1})
    long = "".join(uuid.uuid4().hex for _ in range(300))
    with pytest.raises(ConfigError, match="too long"):
        await graph.ainvoke({"n": 0}, config_of(long))
    with pytest.raises(RuntimeFault, match="too long"):
        await graph.aupdate_state(config_of(long), {"n": 1})


def test_numbers_and_uuids_are_ids() -> None:
    assert usable(7, "it") == "7"
    assert usable(ID, "it") == str(ID)
