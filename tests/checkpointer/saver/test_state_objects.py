"""Objects of a graph's schemas come back as themselves, however the run comes to be loaded again."""

from __future__ import annotations

import dataclasses
import enum
import operator
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypedDict

import pytest
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableLambda
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph, add_messages
from langgraph.prebuilt import create_react_agent
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel, create_model

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import ValueNotSerializable
from tests.support.bank import Bank, make_bank
from tests.support.databases import tables
from tests.support.graphs import config_of
from tests.support.race import Race

if TYPE_CHECKING:
    from collections.abc import Callable


class Person(BaseModel):
    name: str


class Stranger(BaseModel):
    name: str


class Color(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    one: Person
    two: Color


@dataclasses.dataclass
class Note:
    about: Person


class State(TypedDict, total=False):
    people: Annotated[list[Person], operator.add]
    by_name: dict[str, Person]
    note: Note | None
    color: Color
    pair: Pair
    whatever: Any


ANN = Person(name="Ann")
MADE: State = {
    "people": [ANN],
    "by_name": {"Ann": ANN},
    "note": Note(ANN),
    "color": Color.RED,
    "pair": Pair(ANN, Color.RED),
}


async def make(state: State) -> Any:
    return MADE


async def make_on_a_fact(state: State) -> Any:
    await current_step().fetchval("SELECT count(*) FROM account")
    return MADE


async def ask(state: State) -> Any:
    interrupt({"about": state["note"]})


def line(saver: Any, *nodes: Callable[..., Any], schema: Any = State, **options: Any) -> Any:
    builder = StateGraph(schema, **options)
    last = START
    for node in nodes:
        name = getattr(node, "__name__", "inner")
        builder.add_node(name, node)
        builder.add_edge(last, name)
        last = name
    return builder.compile(checkpointer=saver)


def assert_made(state: Any) -> None:
    assert {name: state[name] for name in MADE} == MADE
    assert [type(state["people"][0]), type(state["note"].about), type(state["pair"])] == [Person, Person, Pair]


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("first", [make, make_on_a_fact])
async def test_after_an_interrupt_and_a_resume_by_another_process(
    database_url: str, first: Callable[..., Any], *, wrap: bool
) -> None:
    seen: list[Any] = []

    async def use(state: State) -> Any:
        seen.append(state)
        return {"people": [Person(name=state["people"][0].name + "!")]}

    def flow(saver: TransactionalSaver) -> Any:
        graph = line(saver, first, ask, use)
        return transactional(graph) if wrap else graph

    async with TransactionalSaver.from_conn_string(database_url) as saver:
        await make_bank(saver)
        asked = await flow(saver).ainvoke({}, config_of("t"))
        assert asked["__interrupt__"][0].value == {"about": Note(ANN)}
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        state = await flow(saver).aget_state(config_of("t"))
        assert_made(state.values)
        assert state.interrupts[0].value == {"about": Note(ANN)}
        result = await flow(saver).ainvoke(Command(resume=1), config_of("t"))
        assert result["people"] == [ANN, Person(name="Ann!")]
        history = [each.values async for each in flow(saver).aget_state_history(config_of("t"))]
    assert_made(seen[0])
    assert_made(history[1])


async def test_after_a_conflict(saver: TransactionalSaver, bank: Bank) -> None:
    seen: list[Any] = []
    race = Race(bank, 55)

    async def use(state: State) -> Any:
        seen.append(state)
        await race.decide()
        return {"note": Note(state["people"][0])}

    result = await transactional(line(saver, make, use)).ainvoke({}, config_of("t"))
    assert race.over
    assert len(seen) == 2
    for state in seen:
        assert_made(state)
    assert result["note"] == Note(ANN)


async def test_the_result_of_a_finished_sibling_after_a_conflict(saver: TransactionalSaver, bank: Bank) -> None:
    race = Race(bank, 55)
    made: list[int] = []

    async def once(state: State) -> Any:
        made.append(1)
        return MADE

    async def drift(state: State) -> Any:
        await race.decide()

    builder = StateGraph(State).add_node(once).add_node(drift).add_edge(START, "once").add_edge(START, "drift")
    result = await transactional(builder.compile(checkpointer=saver)).ainvoke({}, config_of("t"))
    assert race.over
    assert made == [1]
    assert_made(result)


async def test_after_a_failure_and_a_resume(saver: TransactionalSaver) -> None:
    broken = [True]

    async def sometimes(state: State) -> Any:
        assert_made(state)
        if broken.pop() if broken else False:
            raise ZeroDivisionError

    graph = line(saver, make, sometimes)
    with pytest.raises(ZeroDivisionError):
        await graph.ainvoke({}, config_of("t"))
    assert_made(await graph.ainvoke(None, config_of("t")))


@pytest.mark.parametrize("wrap", [False, True])
async def test_a_state_that_is_a_model_with_classes_of_a_function(saver: TransactionalSaver, *, wrap: bool) -> None:
    class Inner(BaseModel):
        color: Color

    Outer: Any = create_model("Outer", inner=(Inner, ...), more=(list[Inner], []))

    async def first(state: Any) -> Any:
        return {"more": [state.inner]}

    async def wait(state: Any) -> Any:
        interrupt("?")

    async def last(state: Any) -> Any:
        return {"more": [*state.more, Inner(color=Color.RED)]}

    graph = line(saver, first, wait, last, schema=Outer)
    flow = transactional(graph) if wrap else graph
    await flow.ainvoke(Outer(inner=Inner(color=Color.RED)), config_of("t"))
    result = await flow.ainvoke(Command(resume=1), config_of("t"))
    assert result["more"] == [Inner(color=Color.RED)] * 2
    assert (await flow.aget_state(config_of("t"))).values["inner"] == Inner(color=Color.RED)


class Talk(BaseModel):
    """Pydantic dumps its messages, and its person, as what the annotations say, and not as what they are."""

    messages: Annotated[list[BaseMessage], add_messages] = []
    about: Person = Person(name="?")
    nested: list[Talk] = []


class Employee(Person):
    boss: str


@dataclasses.dataclass
class Minutes:
    talk: Talk
    by: Employee


ANN_SAID = Talk(messages=[HumanMessage("hi", id="1")], nested=[Talk(about=Employee(name="Ann", boss="Bob"))])


class Meeting(TypedDict, total=False):
    talk: Talk | None
    minutes: Minutes | None
    seen: Annotated[list[Talk], operator.add]
    log: Annotated[list[Talk], DeltaChannel(lambda known, new: [*known, *(t for w in new for t in w)], list)]


AES = EncryptedSerializer.from_pycryptodome_aes(
    JsonPlusSerializer(allowed_msgpack_modules=None), key=b"0123456789abcdef"
)


@pytest.mark.parametrize("serde", [None, AES], ids=["plain", "encrypted"])
@pytest.mark.parametrize("wrap", [False, True])
async def test_fields_of_models_come_back_as_what_they_are(
    database_url: str, *, wrap: bool, serde: EncryptedSerializer | None
) -> None:
    async with TransactionalSaver.from_conn_string(database_url, serde=serde) as saver:
        await _talk(saver, wrap=wrap)


async def test_what_does_not_come_back_is_refused_with_encryption_too(database_url: str) -> None:
    async def node(state: State) -> Any:
        return {"by_name": {"x": Stranger(name="x")}}

    async with TransactionalSaver.from_conn_string(database_url, serde=AES) as saver:
        graph = StateGraph(State).add_node(node).add_edge(START, "node").compile(checkpointer=saver)
        with pytest.raises(ValueNotSerializable, match=r"by_name.*Stranger"):
            await graph.ainvoke({}, config_of("t"))


async def _talk(saver: TransactionalSaver, *, wrap: bool) -> None:
    async def plan(state: Meeting) -> Any:
        minutes = Minutes(ANN_SAID, Employee(name="Ann", boss="Bob"))
        update = {"talk": ANN_SAID, "minutes": minutes, "log": [ANN_SAID]}
        return Command(goto=[Send("each", ANN_SAID), Send("each", {"talk": ANN_SAID})], update=update)

    async def each(given: Any) -> Any:
        return {"seen": [interrupt(given if isinstance(given, Talk) else given["talk"])]}

    builder = StateGraph(Meeting).add_node(plan, destinations=("each",)).add_node(each, input_schema=Any)
    graph = builder.add_edge(START, "plan").compile(checkpointer=saver)
    flow = transactional(graph) if wrap else graph
    asked = (await flow.ainvoke({}, config_of("t")))["__interrupt__"]
    questions = (await flow.aget_state(config_of("t"))).interrupts
    assert [question.value for question in asked] == [ANN_SAID] * 2
    assert [question.value for question in questions] == [ANN_SAID] * 2
    result = await flow.ainvoke(Command(resume={question.id: ANN_SAID for question in asked}), config_of("t"))
    values = (await flow.aget_state(config_of("t"))).values
    for state in (result, values):
        assert state["seen"] == [ANN_SAID, ANN_SAID]
        assert [state["talk"], state["minutes"].talk, *state["log"]] == [ANN_SAID] * 3
        assert type(state["talk"].messages[0]) is HumanMessage
        assert type(state["talk"].nested[0].about) is Employee


@pytest.mark.parametrize("wrap", [False, True])
async def test_payloads_of_sends_answers_and_questions(saver: TransactionalSaver, *, wrap: bool) -> None:
    async def plan(state: State) -> Any:
        return Command(goto=[Send("each", Note(ANN)), Send("each", Note(ANN))], update={"people": [ANN]})

    async def each(note: Note) -> Any:
        answer = interrupt(note.about)
        return {"people": [answer, note.about]}

    builder = StateGraph(State).add_node(plan, destinations=("each",)).add_node(each, input_schema=Note)
    graph = builder.add_edge(START, "plan").compile(checkpointer=saver)
    flow = transactional(graph) if wrap else graph
    asked = (await flow.ainvoke({}, config_of("t")))["__interrupt__"]
    assert [question.value for question in asked] == [ANN, ANN]
    bob = Person(name="Bob")
    half = await flow.ainvoke(Command(resume={asked[0].id: bob}), config_of("t"))
    assert [question.value for question in half["__interrupt__"]] == [ANN]
    result = await flow.ainvoke(Command(resume=bob), config_of("t"))
    assert result["people"] == [ANN, bob, ANN, bob, ANN]


@pytest.mark.parametrize("wrap", [False, True])
async def test_a_subgraph_has_classes_of_its_own(saver: TransactionalSaver, *, wrap: bool) -> None:
    class Own(BaseModel):
        person: Person

    adding = Annotated[list[Person], operator.add]
    under: Any = TypedDict("under", {"own": Own, "people": adding}, total=False)

    async def fill(state: Any) -> Any:
        return {"own": Own(person=ANN)}

    async def wait(state: Any) -> Any:
        interrupt(state["own"])

    async def give(state: Any) -> Any:
        return {"people": [state["own"].person]}

    inner = line(None, fill, wait, give, schema=under)

    async def call(state: State) -> Any:
        return {"people": (await inner.ainvoke({}))["people"]}

    for number, node in enumerate((inner, call)):
        graph = line(saver, make, node)
        flow = transactional(graph) if wrap else graph
        config = config_of(f"t{number}")
        await flow.ainvoke({}, config)
        state = await flow.aget_state(config, subgraphs=True)
        if node is inner:
            assert state.tasks[0].state.values["own"] == Own(person=ANN)
        result = await flow.ainvoke(Command(resume=1), config)
        assert result["people"] == [ANN] * (3 if node is inner else 2)  # a node gives back what it was given, too


@pytest.mark.parametrize("wrap", [False, True])
async def test_a_function_its_tasks_and_what_it_saves(saver: TransactionalSaver, *, wrap: bool) -> None:
    before: list[Any] = []
    ran: list[str] = []

    @task
    async def look(person: Person) -> Note:
        ran.append(person.name)
        return Note(person)

    @entrypoint(checkpointer=saver)
    async def work(given: Person, *, previous: Pair | None = None) -> entrypoint.final[Note, Pair]:
        before.append(previous)
        note = await look(given)
        interrupt("?")
        return entrypoint.final(value=note, save=Pair(note.about, Color.RED))

    flow = transactional(work) if wrap else work
    for _ in range(2):
        await flow.ainvoke(ANN, config_of("t"))
        assert await flow.ainvoke(Command(resume=1), config_of("t")) == Note(ANN)
    assert before == [None, None, Pair(ANN, Color.RED), Pair(ANN, Color.RED)]
    assert ran == ["Ann", "Ann"]


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
async def test_what_an_agent_was_told_to_answer_with(saver: TransactionalSaver) -> None:
    class Model(FakeListChatModel):
        def with_structured_output(self, schema: Any, **options: Any) -> Any:
            return RunnableLambda(lambda _: schema(name="Ann"))

    agent = create_react_agent(
        Model(responses=["done"]), [], response_format=Person, checkpointer=saver, interrupt_after=["agent"]
    )
    await agent.ainvoke({"messages": ["hi"]}, config_of("t"))
    assert (await agent.ainvoke(None, config_of("t")))["structured_response"] == ANN
    assert (await agent.aget_state(config_of("t"))).values["structured_response"] == ANN


async def test_a_graph_that_got_its_saver_after_it_was_compiled(saver: TransactionalSaver) -> None:
    """As a server does it, which compiles graphs by itself."""
    graph = line(None, make, ask).copy(update={"checkpointer": saver})
    await graph.ainvoke({}, config_of("t"))
    assert_made((await graph.aget_state(config_of("t"))).values)
    renamed = graph.with_config({"run_name": "other"})
    assert_made((await renamed.aget_state(config_of("t"))).values)


async def test_an_update_from_outside(saver: TransactionalSaver) -> None:
    graph = line(saver, make, ask)
    await graph.ainvoke({}, config_of("t"))
    await graph.aupdate_state(config_of("t"), {"note": Note(Person(name="Bob")), "people": [ANN]})
    values = (await graph.aget_state(config_of("t"))).values
    assert values["note"] == Note(Person(name="Bob"))
    assert values["people"] == [ANN, ANN]


def test_without_an_event_loop(sync_saver: TransactionalSaver) -> None:
    def first(state: State) -> Any:
        return MADE

    def wait(state: State) -> Any:
        interrupt("?")

    def use(state: State) -> Any:
        assert_made(state)
        return {"people": [ANN]}

    graph = line(sync_saver, first, wait, use)
    graph.invoke({}, config_of("t"))
    assert_made(graph.get_state(config_of("t")).values)
    assert graph.invoke(Command(resume=1), config_of("t"))["people"] == [ANN, ANN]


# -- and nothing more ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("value", [Stranger(name="Eve"), [{"deep": Stranger(name="Eve")}], {Color.RED: 1}])
async def test_what_no_schema_names_is_refused_when_it_is_stored_and_the_thread_goes_on(
    saver: TransactionalSaver, bank: Bank, value: Any, *, wrap: bool
) -> None:
    broken = [True]

    async def node(state: State) -> Any:
        current_step().stage("INSERT INTO journal (line) VALUES ('written')")
        return {"whatever": value if broken[0] else "plain"}

    async def after(state: State) -> Any:
        return {"color": Color.RED}

    graph = line(saver, node, after)
    flow = transactional(graph) if wrap else graph
    with pytest.raises(ValueNotSerializable, match="channel 'whatever'"):
        await flow.ainvoke({"color": Color.RED}, config_of("t"), durability="sync")
    assert await bank.journal() == []
    assert not [each async for each in flow.aget_state_history(config_of("t")) if "whatever" in each.values]
    broken[0] = False
    assert (await flow.ainvoke(None, config_of("t")))["whatever"] == "plain"
    assert await bank.journal() == ["written"]


@pytest.mark.parametrize(
    ("channel", "given"), [("'__start__'", {"whatever": Stranger(name="Eve")}), ("'__resume__'", "resume")]
)
async def test_input_and_answers_are_refused_too(saver: TransactionalSaver, channel: str, given: Any) -> None:
    graph = line(saver, make, ask)
    if given == "resume":
        await graph.ainvoke({}, config_of("t"))
        given = Command(resume=Stranger(name="Eve"))
    with pytest.raises(ValueNotSerializable, match=channel):
        await graph.ainvoke(given, config_of("t"), durability="sync")


async def test_a_question_is_refused_too(saver: TransactionalSaver) -> None:
    async def node(state: State) -> Any:
        interrupt(Stranger(name="Eve"))

    with pytest.raises(ValueNotSerializable, match="'__interrupt__'"):
        await line(saver, node).ainvoke({}, config_of("t"), durability="sync")


async def test_a_class_in_the_database_that_the_schema_does_not_name_is_not_rebuilt(saver: TransactionalSaver) -> None:
    graph = line(saver, make, ask)
    await graph.ainvoke({"whatever": {"a": 1}}, config_of("t"))
    planted = saver.with_classes(frozenset({Stranger})).serde.dumps_typed({"a": Stranger(name="Eve")})
    assert "channel_value" in await tables(saver)
    async with saver.transaction() as tx:
        await tx.execute("UPDATE runtime.channel_value SET kind = $1, value = $2 WHERE channel = 'whatever'", *planted)
    values = (await graph.aget_state(config_of("t"))).values
    assert values["whatever"] == {"a": {"name": "Eve"}}
    assert_made(values)


async def test_graphs_of_one_saver_do_not_share_their_classes(saver: TransactionalSaver) -> None:
    async def node(state: Any) -> Any:
        return {"whatever": Stranger(name="Eve")}

    strange: Any = TypedDict("strange", {"whatever": Stranger})
    await line(saver, node, schema=strange).ainvoke({}, config_of("a"), durability="sync")
    with pytest.raises(ValueNotSerializable):
        await line(saver, node).ainvoke({}, config_of("b"), durability="sync")


async def test_graphs_with_other_savers_are_left_alone(saver: TransactionalSaver) -> None:
    other = InMemorySaver()
    graph = line(other, make)
    assert graph._resolve_checkpointer({}) is other


def test_under_langgraphs_own_switch(database_url: str) -> None:
    """`LANGGRAPH_STRICT_MSGPACK`, which is read when LangGraph is imported."""
    code = (
        "import sys\n"
        "from superstep import TransactionalSaver\n"
        "from tests.checkpointer.saver.test_state_objects import *\n"
        "def first(state): return MADE\n"
        "def wait(state): interrupt('?')\n"
        "with TransactionalSaver.from_conn_string(sys.argv[1]) as saver:\n"
        "    graph = line(saver, line(None, first), wait)\n"
        "    graph.invoke({}, config_of('t'))\n"
        "    assert_made(graph.invoke(Command(resume=1), config_of('t')))\n"
    )
    env = {**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true"}
    subprocess.run([sys.executable, "-c", code, database_url], env=env, check=True, timeout=60)
