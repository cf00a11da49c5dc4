"""What LangGraph's serializer has stored is taken over byte by byte, and only if it comes back as what it was."""

from __future__ import annotations

import datetime
import pickle
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Interrupt, Send

from superstep.checkpointer.imports.values import Translator, named_classes
from superstep.checkpointer.langgraph.serializer import strict, with_classes
from superstep.runtime.faults import ValueNotSerializable
from tests.support.stored_by_langgraph import Card, Hand, Pair, Suit

LANGGRAPHS = JsonPlusSerializer()


def stored(value: Any, *classes: type) -> tuple[str, bytes]:
    target = with_classes(strict(), classes)
    return Translator(LANGGRAPHS, target).stored(target, *LANGGRAPHS.dumps_typed(value), "channel 'x'")


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"\0",
        bytearray(b"\1"),
        "text",
        {"a": [1, 2.5, None], 3: {"b"}},
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        [HumanMessage("hi", id="1"), Send("node", {"n": 1}), Interrupt(value={"q": 1}, id="i")],
    ],
    ids=repr,
)
def test_plain_data_messages_and_langgraphs_own_are_copied(value: Any) -> None:
    assert stored(value) == LANGGRAPHS.dumps_typed(value)


@pytest.mark.parametrize("value", [Card(suit=Suit.HEARTS), Hand([]), Suit.SPADES, Pair(1, 2), Send("n", Pair(1, 2))])
def test_objects_need_their_class(value: Any) -> None:
    for deep in (value, {"deep": [value]}):
        with pytest.raises(ValueNotSerializable, match=r"channel 'x' holds a tests\.support\.stored_by_langgraph\."):
            stored(deep)
        assert stored(deep, Card, Suit, Hand, Pair) == LANGGRAPHS.dumps_typed(deep)


def test_an_object_that_its_class_refuses_now_is_refused() -> None:
    """The class is known, and what is stored is none of it: loading it gives plain data."""
    kind, data = LANGGRAPHS.dumps_typed(Suit.SPADES)
    broken = data.replace(b"spades", b"spider")
    target = with_classes(strict(), [Suit])
    with pytest.raises(ValueNotSerializable, match="Suit"):
        Translator(LANGGRAPHS, target).stored(target, kind, broken, "it")


def test_pickle_is_refused_and_never_loaded() -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("it was loaded",))

    target = strict()
    with pytest.raises(ValueNotSerializable, match="pickle"):
        Translator(LANGGRAPHS, target).stored(target, "pickle", pickle.dumps(Bomb()), "it")


def test_classes_are_found_without_importing_anything() -> None:
    kind, data = LANGGRAPHS.dumps_typed([Hand([Card(suit=Suit.HEARTS)]), Send("n", {"k": Pair(1, 2)})])
    assert kind == "msgpack"
    names = {name for _, name in named_classes(data)}
    assert {"Hand", "Card", "Suit", "Send", "Pair"} <= names


def test_a_serializer_of_ones_own_loads_and_stores() -> None:
    class Reversed:
        def dumps_typed(self, value: Any) -> tuple[str, bytes]:
            return "reversed", str(value).encode()[::-1]

        def loads_typed(self, data: tuple[str, bytes]) -> Any:
            return data[1][::-1].decode()

    target = Reversed()
    got = Translator(LANGGRAPHS, target).stored(target, *LANGGRAPHS.dumps_typed("abc"), "it")
    assert got == ("reversed", b"cba")
