"""What comes back from storage as itself, and what is refused because it would not."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections import OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command, Interrupt, Overwrite, Send
from pydantic import BaseModel, ConfigDict, Field, RootModel, SecretStr, computed_field

from superstep.checkpointer.langgraph.codec import dump
from superstep.checkpointer.langgraph.serializer import StateSerializer, strict, with_classes
from superstep.checkpointer.langgraph.state_types import classes_in
from superstep.runtime.faults import ValueNotSerializable

T = TypeVar("T")


class Leaf(BaseModel):
    n: int = 0


class Bud(Leaf):
    more: int = 0


class Twig(BaseModel):
    leaf: Leaf
    anything: Any = None


class Aliased(BaseModel):
    leaf: Leaf = Field(alias="theLeaf")


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    n: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return self.n * 2


class Leaves(RootModel[list[Leaf]]):
    pass


class Box(BaseModel, Generic[T]):
    it: T


class Color(enum.Enum):
    RED = "red"


class Odd(enum.Enum):
    ONE = 1


class Place(enum.Enum):
    HERE = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Tag(enum.StrEnum):
    NEW = "new"


@dataclasses.dataclass
class Note:
    leaf: Leaf
    seen: bool = dataclasses.field(default=False, init=False)


@dataclasses.dataclass(frozen=True)
class Slotted:
    tag: Tag


@dataclasses.dataclass
class Secretive:
    key: dataclasses.InitVar[str]
    n: int = 0


class Pair(NamedTuple):
    one: Leaf
    two: Color


class Unlike(BaseModel):
    n: int = 0

    def model_dump(self, **options: Any) -> Any:
        return {"n": "not a number"}


def seen(note: Note) -> Note:
    note.seen = True
    return note


SCHEMA = [
    Leaf,
    Twig,
    Aliased,
    Computed,
    Leaves,
    Box[Leaf],
    Color,
    Place,
    Level,
    Tag,
    Note,
    Slotted,
    Secretive,
    Pair,
    Unlike,
]
SCHEMA += [Unlike, SecretStr]
KEPT: dict[str, Any] = {
    "model": Leaf(n=3),
    "list": [Leaf(n=1), Leaf(n=2)],
    "deep": {"a": [{"b": Leaf(n=1)}]},
    "nested": Twig(leaf=Leaf(n=1), anything={"plain": [1, None]}),
    "untyped": Twig(leaf=Leaf(), anything=[Leaf(n=1)]),
    "a dump of its own": Unlike(n=2),
    "aliased": Aliased(theLeaf=Leaf(n=1)),
    "computed": Computed(n=2),
    "root": Leaves([Leaf(n=1)]),
    "generic": Box[Leaf](it=Leaf(n=1)),
    "enum": Color.RED,
    "enum of tuples": Place.HERE,
    "int enum": Level.LOW,
    "str enum": [Tag.NEW],
    "dataclass": seen(Note(Leaf(n=1))),
    "frozen": Slotted(Tag.NEW),
    "named tuple": Pair(Leaf(n=1), Color.RED),
    "secret": SecretStr("x"),
    "set": {Color.RED},
    "deque": deque([Leaf(n=1)]),
    "send": Send("node", Leaf(n=1)),
    "sends": [Send("node", {"leaf": Leaf(n=1)}, timeout=3)],
    "interrupt": (Interrupt(value={"leaf": Leaf(n=1)}, id="i"),),
    "command": Command(update={"leaf": Leaf(n=1)}, goto=[Send("node", Color.RED)], resume=Leaf(n=2)),
    "overwrite": Overwrite([Leaf(n=1)]),
}
CHANGED: dict[str, tuple[Any, Any]] = {
    "tuple": ((1, (2,)), [1, [2]]),
    "default dict": (defaultdict(list, a=[1]), {"a": [1]}),
    "ordered dict": (OrderedDict(a=1), {"a": 1}),
    "text": (type("Text", (str,), {})("x"), "x"),
}
PLAIN: dict[str, Any] = {
    "scalars": [1, 1.5, None, True, "x", b"y"],
    "numbers as keys": {1: "a", 2.5: "b", None: "c", (1, 2): "e"},
    "messages": [HumanMessage("hi"), AIMessage("ho", additional_kwargs={"parsed": {"n": 1}})],
    "times": {"d": date(2026, 1, 2), "t": datetime(2026, 1, 2, tzinfo=UTC)},
    "ids": [uuid.UUID(int=1), frozenset({1, 2})],
}
LOST: dict[str, tuple[Any, str]] = {
    "unknown class": (Bud(), "a Bud would come back as a dict"),
    "unknown in a list": ({"it": [Leaf(), Bud()]}, r"a Bud at \['it'\]\[1\] would"),
    "a subclass in a field": (Twig(leaf=Bud(more=1)), r"a Bud at \.leaf would come back as a Leaf"),
    "an unknown model in an untyped field": (Twig(leaf=Leaf(), anything=[Bud()]), r"a Bud at \.anything\[0\] would"),
    "enum as a key": ({Color.RED: 1}, "a Color at its keys would come back as a str"),
    "uuid as a key": ({uuid.UUID(int=1): 1}, "a UUID at its keys would"),
    "date as a key": ({"by": {date(2026, 1, 2): 1}}, r"a date at the keys of \['by'\] would"),
    "an argument that is not kept": (Secretive("k"), "a Secretive would come back as a dict"),
    "in a set": ({"s": {Odd.ONE}}, r"a Odd at \['s'\] would"),
    "in a send": (Send("node", {"x": Bud()}), r"a Bud at \.arg\['x'\]"),
    "in an interrupt": ((Interrupt(value=Bud(), id="i"),), r"a Bud at \[0\]\.value"),
    "in a command": (Command(resume=Bud()), r"a Bud at \.resume"),
    "an exception": (ValueError("x"), "a ValueError would come back as a str"),
}


def serde() -> Any:
    return with_classes(strict(), classes_in(SCHEMA))


def through(value: Any) -> Any:
    return serde().loads_typed(dump(serde(), value, "channel 'it'"))


@pytest.mark.parametrize("name", [*KEPT, *PLAIN])
def test_objects_of_the_schema_and_plain_data_come_back_as_themselves(name: str) -> None:
    value = {**KEPT, **PLAIN}[name]
    back = through(value)
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        back = tuple(back)
    assert type(back) is type(value)
    assert back == value


@pytest.mark.parametrize("name", CHANGED)
def test_a_container_comes_back_as_the_plain_one(name: str) -> None:
    value, back = CHANGED[name]
    assert through(value) == back
    assert type(through(value)) is type(back)


def test_arrays_come_back() -> None:
    assert through({"a": np.arange(6).reshape(2, 3)})["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("name", LOST)
def test_what_would_come_back_as_something_else_is_refused_and_named(name: str) -> None:
    value, said = LOST[name]
    with pytest.raises(ValueNotSerializable, match=said) as caught:
        through(value)
    assert str(caught.value).startswith("channel 'it' cannot be stored: ")


def test_of_two_classes_with_one_name_the_other_is_refused() -> None:
    def make(n: int) -> Any:
        class Twin(BaseModel):
            me: int = n

        return Twin

    one, two = make(1), make(2)
    both = StateSerializer(strict(), [one, two])
    kept = next(iter(both.classes.values()))
    lost = two if kept is one else one
    assert type(both.loads_typed(dump(both, kept(), "it"))) is kept
    with pytest.raises(ValueNotSerializable, match="a Twin"):
        dump(both, lost(), "it")


def test_an_encrypted_serializer_learns_classes_and_stays_encrypted() -> None:
    plain = EncryptedSerializer.from_pycryptodome_aes(strict(), key=b"0123456789abcdef")
    known = with_classes(plain, {Leaf})
    kind, data = dump(known, [Leaf(n=77)], "it")
    assert b"Leaf" not in data
    assert known.loads_typed((kind, data)) == [Leaf(n=77)]
    assert plain.loads_typed((kind, data)) == [{"n": 77}]


def test_classes_a_user_allows_by_name_are_kept_beside_those_of_schemas() -> None:
    own = with_classes(JsonPlusSerializer(allowed_msgpack_modules=[Bud]), {Leaf})
    value = [Bud(n=1), Leaf(n=2), Send("x", Bud())]
    assert own.loads_typed(dump(own, value, "it")) == value
    more = own.with_msgpack_allowlist([Color])  # type: ignore[attr-defined]
    assert more.loads_typed(dump(more, [Leaf(), Bud(), Color.RED], "it")) == [Leaf(), Bud(), Color.RED]


def test_pickle_and_serializers_of_a_users_own_are_trusted() -> None:
    pickling = JsonPlusSerializer(pickle_fallback=True, allowed_msgpack_modules=None)
    assert dump(pickling, {1: complex(1, 2)}, "it")[0] == "pickle"

    class Own:
        def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
            return "own", b""

        def loads_typed(self, data: tuple[str, bytes]) -> Any:
            raise AssertionError

    assert with_classes(Own(), {Leaf}).dumps_typed(1) == ("own", b"")
    assert dump(Own(), Bud(), "it") == ("own", b"")


def test_nothing_of_the_schema_is_rebuilt_by_importing() -> None:
    """A name in the database that is on no list makes no module be imported."""
    stranger = type("Popen", (), {"__module__": "sqlite3.dump"})
    stranger.model_dump = lambda self: {}  # type: ignore[attr-defined]
    data = strict().dumps_typed(stranger())
    assert serde().loads_typed(data) == {}
    assert "sqlite3.dump" not in __import__("sys").modules
