"""Values that grow, without a database: what is stored of them, and what it is put together to."""

from __future__ import annotations

import copy
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, RemoveMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph.message import add_messages
from pydantic import BaseModel, PrivateAttr, computed_field

from superstep.checkpointer.langgraph import codec, differences
from superstep.checkpointer.langgraph.codec import checkpoint_row, values_of
from superstep.checkpointer.langgraph.encryption import Where
from superstep.checkpointer.langgraph.marks import marks
from superstep.checkpointer.langgraph.serializer import strict, with_classes
from superstep.runtime.faults import ValueIncomplete, ValueNotSerializable

if TYPE_CHECKING:
    from collections.abc import Callable

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from superstep.checkpointer.langgraph.differences import Held, Piece

PLACE = Where("t", "")
LONG = "x" * 600  # a value with it is large enough to be built on


class Shelf:
    """The versions of one channel's value, stored as a saver does, and nowhere."""

    def __init__(self, serde: SerializerProtocol | None = None) -> None:
        self.serde = serde or strict()
        self.rows: dict[str, Piece] = {}
        self.held: Held | None = None

    def put(self, value: Any) -> str:
        version = f"{len(self.rows) + 1:08x}"
        checkpoint: Any = {
            "v": 1,
            "id": "i",
            "ts": "",
            "channel_values": {"c": value},
            "channel_versions": {"c": version},
        }
        held = {"c": self.held} if self.held is not None else {}
        row, after = checkpoint_row(self.serde, checkpoint, {}, {"c": version}, PLACE, None, {}, held)
        ((kind, data, base),) = zip(row.new_kinds, row.new_values, row.new_bases, strict=True)
        self.rows[version] = differences.Piece(version, base, kind, data)
        self.held = after["c"]
        return version

    def way(self, version: str) -> list[Piece]:
        """What the database gives for it."""
        found = []
        at: str | None = version
        while at is not None and at in self.rows:
            found.append(self.rows[at])
            at = found[-1].base
        return found

    def get(self, version: str) -> Any:
        return self._read(version, to_build_on=False)[0]

    def load(self, version: str) -> Any:
        """As a run does, which goes on from it."""
        value, self.held = self._read(version, to_build_on=True)
        return value

    def _read(self, version: str, *, to_build_on: bool) -> tuple[Any, Held | None]:
        way = self.way(version)
        row = {
            "value_names": ["c"] * len(way),
            "value_kinds": [each.kind for each in way],
            "value_values": [each.data for each in way],
            "value_bases": [each.base for each in way],
        }
        return values_of(self.serde, PLACE, {"c": version}, row, to_build_on=to_build_on)["c"]

    def is_whole(self, version: str) -> bool:
        return self.rows[version].base is None


def grown(shelf: Shelf, *values: Any) -> list[str]:
    return [shelf.put(value) for value in values]


# -- what is noticed ---------------------------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Card(BaseModel):
    said: list[BaseMessage] = []
    number: int = 0
    _secret: str = PrivateAttr("a")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def shown(self) -> str:
        return self._secret


@dataclass
class Note:
    lines: list[str] = field(default_factory=list)


def _in_tool_calls(items: list[Any]) -> None:
    items[1].tool_calls[0]["args"]["deep"]["er"] = 2


CHANGES: dict[str, Callable[[list[Any]], object]] = {
    "a message's text": lambda items: setattr(items[0], "content", "other"),
    "what a message has on the side": lambda items: items[0].additional_kwargs.update(x=1),
    "a field that nobody declared": lambda items: setattr(items[0], "own", 7),
    "deep in the calls of a tool": _in_tool_calls,
    "a number's type": lambda items: items[2].update(n=1.0),
    "a truth for a number": lambda items: items[2].update(n=True),
    "a set in plain data": lambda items: items[2]["set"].add("b"),
    "the order of keys": lambda items: items[2].update(n=items[2].pop("n")),
    "a document's metadata": lambda items: items[3].metadata.update(page=2),
    "a field of a model": lambda items: setattr(items[4], "number", 5),
    "what only the subclass of a declared field has": lambda items: setattr(items[4].said[0], "tool_calls", []),
    "what a model computes from what is private": lambda items: setattr(items[4], "_secret", "b"),
    "a dataclass": lambda items: items[5].lines.append("more"),
    "a member of an enum": lambda items: items[2].update(colour=Colour.BLUE),
    "an artifact": lambda items: items[6].artifact["found"].append(2),
    "which message it is": lambda items: items.__setitem__(0, AIMessage("q", id="0")),
}


def things() -> list[Any]:
    call: Any = {"name": "look", "args": {"deep": {"er": 1}}, "id": "c"}
    return [
        HumanMessage("q", id="0"),
        AIMessage("a", id="1", tool_calls=[call]),
        {"n": 1, "set": {"a"}, "colour": Colour.RED, "m": 2},
        Document("text", metadata={"page": 1}),
        Card(said=[AIMessage("a", id="2", tool_calls=[call])]),
        Note(["one"]),
        ToolMessage("t", tool_call_id="c", id="3", artifact={"found": [1]}),
        LONG,
        *range(20),
    ]


@pytest.mark.parametrize("how", CHANGES)
def test_a_change_in_place_is_stored(how: str) -> None:
    shelf = Shelf(with_classes(strict(), {Card, Note, Colour}))
    value = things()
    first = shelf.put(value)
    before = copy.deepcopy(shelf.get(first))
    CHANGES[how](value)
    value.append("more")
    second = shelf.put(value)
    plainly = Shelf(shelf.serde)
    assert shelf.get(second) == plainly.get(plainly.put(value))
    assert repr(shelf.get(second)) == repr(plainly.get("00000001")), "1 is 1.0 is True, but not when it is shown"
    assert repr(shelf.get(first)) == repr(before), "what was stored stays what it was"
    assert not shelf.is_whole(second), "it was not noticed, but written again"


@pytest.mark.parametrize("how", [how for how in CHANGES if "private" not in how])  # that is not stored by itself
def test_a_change_in_place_of_what_was_loaded_is_stored(how: str) -> None:
    shelf = Shelf(with_classes(strict(), {Card, Note, Colour}))
    (version,) = grown(shelf, things())
    value = shelf.load(version)
    CHANGES[how](value)
    plainly = Shelf(shelf.serde)
    assert repr(shelf.get(shelf.put(value))) == repr(plainly.get(plainly.put(value)))


def test_what_was_not_changed_is_not_written_again() -> None:
    shelf = Shelf(with_classes(strict(), {Card, Note, Colour}))
    value = things()
    versions = grown(shelf, value, [*value, "more"], [copy.deepcopy(each) for each in (*value, "more")])
    assert [shelf.is_whole(version) for version in versions] == [True, False, False]
    assert all(len(shelf.rows[version].data) < 30 for version in versions[1:])


def test_a_value_that_another_thread_changes_while_it_is_stored_is_not_built_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise the next version would rest on what was there before, or after, and never was stored."""
    for how in ("new", "grows", "changes"):
        shelf = Shelf()
        value: list[Any] = [{"n": 1}, LONG, *range(9)]
        if how != "new":
            shelf.put(list(value))
            value = [*value, {"n": 1}] if how == "grows" else [{"n": 1, "new": 0}, *value[1:-1]]
        changing = value[-1 if how == "grows" else 0]
        dump = codec.dump

        def changed_meanwhile(*given: Any, what: Any = changing, dump: Any = dump) -> Any:
            if given[2] == "the checkpoint":
                return dump(*given)
            what["n"] = 2
            found = dump(*given)
            what["n"] = 3
            return found

        with monkeypatch.context() as patch:
            patch.setattr(codec, "dump", changed_meanwhile)
            shelf.put(value)
        changing["n"] = 1
        assert shelf.get(shelf.put(value)) == value


# -- what is written ---------------------------------------------------------------------------------------------------


def chat(turns: int) -> list[list[AnyMessage]]:
    """The values of a channel of messages, turn by turn."""
    said: list[AnyMessage] = []
    found = []
    for n in range(turns):
        said = add_messages(said, [HumanMessage(f"q {n}" * 10, id=f"q{n}"), AIMessage(f"a {n}" * 20, id=f"a{n}")])  # type: ignore[assignment, arg-type]
        found.append(said)
    return found


def test_a_chat_is_written_about_in_proportion_to_what_is_said() -> None:
    shelf = Shelf()
    turns = chat(1000)
    versions = grown(shelf, *turns)
    size = [len(shelf.rows[version].data) for version in versions]
    of_all = len(shelf.serde.dumps_typed(turns[-1])[1])
    assert sum(size) < 5 * of_all, "twice by differences, and at most twice by whole values"
    assert sorted(size)[len(size) // 2] < 2 * of_all / len(turns)
    assert shelf.get(versions[-1]) == turns[-1]
    for version in versions:
        way = shelf.way(version)
        assert len(way) <= 100, "there are a thousand versions before it"
        assert sum(len(each.data) for each in way[:-1]) <= len(way[-1].data), "more is read than twice the whole"


def test_a_chat_that_is_loaded_at_every_turn_is_written_the_same() -> None:
    """A run that loads it knows as much as one that has stored it."""
    one, other = Shelf(), Shelf()
    for value in chat(200):
        one.put(value)
        if other.rows:
            other.load(max(other.rows))
        other.put(value)
    assert one.rows == other.rows
    assert one.held == other.held


def messages(n: int = 12) -> list[AnyMessage]:
    return [HumanMessage(f"{at}" * 100, id=str(at)) for at in range(n)]


SHAPES: dict[str, Any] = {
    "the same again": lambda v: list(v),
    "one removed": lambda v: add_messages(v, [RemoveMessage(id="5")]),
    "one replaced": lambda v: add_messages(v, [AIMessage("other", id="5")]),
    "one replaced, one added": lambda v: add_messages(v, [AIMessage("other", id="5"), AIMessage("more", id="x")]),
    "the window moves": lambda v: [*v[1:], AIMessage("more", id="x")],
    "one in front": lambda v: [AIMessage("first", id="x"), *v],
    "one twice": lambda v: [*v, v[0]],
    "two change places": lambda v: [*v[:3], v[4], v[3], *v[5:]],
    "shorter": lambda v: v[:4],
}


@pytest.mark.parametrize("how", SHAPES)
def test_a_list_that_changes_a_little_writes_a_little(how: str) -> None:
    shelf = Shelf()
    before = messages()
    after = SHAPES[how](before)
    first, second = grown(shelf, before, after)
    assert (shelf.get(first), shelf.get(second)) == (before, after)
    if how != "shorter":
        assert len(shelf.rows[second].data) < len(shelf.rows[first].data) / 3


@pytest.mark.parametrize(
    ("after", "is_whole"),
    [
        ({"a": LONG, "b": 2, "c": 3, "d": [4], "e": 5}, False),
        ({"a": LONG, "b": 7, "c": 3, "d": [4]}, False),
        ({"a": LONG, "c": 3, "d": [4]}, False),
        ({"a": LONG, "b": 2, "c": 3, "d": [4, 5]}, False),
        ({"b": 2, "a": LONG, "c": 3, "d": [4]}, True),  # another order
        ({}, True),
        ([1], True),
        ({"a": LONG, "b": 2, "c": 3, "d": [4], 1: 2}, True),  # a key that is no text
    ],
)
def test_a_dict_writes_the_keys_that_were_set_or_went(after: Any, is_whole: bool) -> None:
    shelf = Shelf()
    before = {"a": LONG, "b": 2, "c": 3, "d": [4]}
    first, second = grown(shelf, before, after)
    assert shelf.get(first) == before
    assert shelf.get(second) == after
    assert list(shelf.get(second)) == list(after)
    assert shelf.is_whole(second) is is_whole


def test_what_is_small_or_new_is_stored_whole() -> None:
    shelf = Shelf()
    assert all(map(shelf.is_whole, grown(shelf, [1], [1, 2], [LONG] * 2, ["y" * 600] * 2)))


def test_a_serializer_of_a_users_own_is_given_whole_values_only() -> None:
    class Own:
        def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
            assert isinstance(obj, list)
            return strict().dumps_typed(obj)

        def loads_typed(self, data: tuple[str, bytes]) -> Any:
            return strict().loads_typed(data)

    shelf = Shelf(Own())
    assert all(map(shelf.is_whole, grown(shelf, *chat(20))))


def test_what_cannot_be_stored_is_named_where_it_is() -> None:
    shelf = Shelf()
    shelf.put(messages())
    with pytest.raises(ValueNotSerializable, match=r"channel 'c' cannot be stored: a Note at \[12\] "):
        shelf.put([*messages(), Note()])
    assert shelf.get(shelf.put(messages(13))) == messages(13)


@pytest.mark.parametrize("how", ["its base is gone", "its base is not said", "its base is another"])
def test_a_value_that_is_not_all_there_is_refused(how: str) -> None:
    shelf = Shelf()
    one, two, three = grown(shelf, *(messages(n) for n in (12, 14, 15)))
    if how == "its base is gone":
        del shelf.rows[two]
    elif how == "its base is not said":
        shelf.rows[two] = shelf.rows[two]._replace(base=None)
    else:
        shelf.rows[three] = shelf.rows[three]._replace(base=one)
    with pytest.raises(ValueIncomplete, match="builds on one that is not there"):
        shelf.get(three)
    assert shelf.get(one) == messages()


# -- whatever happens --------------------------------------------------------------------------------------------------

leaf = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=False), st.text(max_size=3), st.binary(max_size=3)
)
item = st.one_of(
    leaf,
    st.lists(leaf, max_size=3),
    st.dictionaries(st.text(max_size=2), leaf, max_size=3),
    st.builds(lambda text, n: HumanMessage(text, id=str(n)), st.text(max_size=5), st.integers(0, 5)),
    st.sets(st.integers(0, 3)),
    st.dictionaries(st.integers(0, 3), leaf, max_size=2),
    st.builds(lambda text: text * 300, st.text("xy", min_size=1, max_size=2)),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_every_version_of_a_list_is_what_it_was(data: st.DataObject) -> None:
    shelf = Shelf()
    value: list[Any] = [LONG]
    stored: dict[str, str] = {}
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(value)))
        to = data.draw(st.integers(at, min(len(value), at + 2)))
        value[at:to] = data.draw(st.lists(item, max_size=3))
        if data.draw(st.booleans()):
            value = copy.deepcopy(value)
        version = shelf.put(value)
        stored[version] = repr(shelf.serde.loads_typed(shelf.serde.dumps_typed(value)))
        if data.draw(st.booleans()):
            version = data.draw(st.sampled_from(sorted(stored)))
            value = shelf.load(version)  # a fork, perhaps
    assert {version: repr(shelf.get(version)) for version in stored} == stored


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_every_version_of_a_dict_is_what_it_was(data: st.DataObject) -> None:
    shelf = Shelf()
    value: dict[Any, Any] = {"": LONG}
    stored: dict[str, str] = {}
    keys = st.one_of(st.text("abcdef", max_size=1), st.sampled_from("abcdef"))
    for _ in range(data.draw(st.integers(1, 8))):
        for key in data.draw(st.lists(keys, max_size=2)):
            value.pop(key, None)
        value |= data.draw(st.dictionaries(keys, item, max_size=3))
        version = shelf.put(value)
        stored[version] = repr(shelf.serde.loads_typed(shelf.serde.dumps_typed(value)))
        if data.draw(st.booleans()):
            value = shelf.load(data.draw(st.sampled_from(sorted(stored))))
    assert {version: repr(shelf.get(version)) for version in stored} == stored


@given(st.lists(item, max_size=20))
def test_marks_are_those_of_the_items_one_after_the_other(items: list[Any]) -> None:
    found = marks(JsonPlusSerializer(), items)
    assert found is not None
    each = found.each()
    assert (len(each), b"".join(each)) == (len(items), found.packed)
    for at in range(len(items)):
        before = marks(JsonPlusSerializer(), items[:at])
        assert before is not None
        assert found.continues(before)
