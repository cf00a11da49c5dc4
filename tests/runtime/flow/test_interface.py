"""A flow is what a compiled graph is: its class, its attributes, its answers about itself, its copies."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel import Pregel
from langgraph.runtime import RunControl
from langgraph.store.memory import InMemoryStore
from langgraph.types import StateUpdate
from typing_extensions import TypedDict  # pydantic needs it to describe one on Python 3.11

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import ConfigError, GraphInvalid, NoActiveStep
from superstep.runtime.flow.retry import Settings
from tests.support.bank import BALANCE, LOG
from tests.support.graphs import chain
from tests.support.race import Race

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


async def one(state: Any) -> Any:
    return {"n": 1, "seen": ["one"]}


class Described(TypedDict):
    """A state that graphs can describe."""

    seen: Annotated[list[str], operator.add]


def described(**schemas: Any) -> CompiledStateGraph[Any]:
    inner = StateGraph(Described).add_node("one", one).add_edge(START, "one").compile(name="inner")
    builder = StateGraph(Described, **schemas).add_node("first", one).add_node("inside", inner)
    return builder.add_edge(START, "first").add_edge("first", "inside").compile(name="outer")


ANSWERS: dict[str, Callable[[Any], Any]] = {
    "input": lambda graph: graph.get_input_jsonschema(),
    "output": lambda graph: graph.get_output_jsonschema(),
    "input_schema": lambda graph: graph.input_schema.model_json_schema(),
    "output_schema": lambda graph: graph.output_schema.model_json_schema(),
    "context": lambda graph: graph.get_context_jsonschema(),
    "graph": lambda graph: graph.get_graph().to_json(),
    "mermaid": lambda graph: graph.get_graph(xray=True).draw_mermaid(),
    "tool": lambda graph: graph.as_tool(description="does one").args,
    "name": lambda graph: graph.get_name(),
    "nodes": lambda graph: list(graph.nodes),
    "channels": lambda graph: {name: type(channel) for name, channel in graph.channels.items()},
    "builder": lambda graph: graph.builder,
    "stream_channels": lambda graph: graph.stream_channels_list,
    "subgraphs": lambda graph: [name for name, _ in graph.get_subgraphs(recurse=True)],
}


@pytest.mark.filterwarnings("ignore:This API is in beta")  # as_tool
@pytest.mark.parametrize("question", ANSWERS)
def test_a_flow_answers_about_itself_as_its_graph_does(question: str) -> None:
    graph = described(context_schema=Described)
    flow = transactional(graph)
    assert ANSWERS[question](flow) == ANSWERS[question](graph)
    assert ANSWERS[question](flow.with_config(tags=["t"])) == ANSWERS[question](graph)


@pytest.mark.filterwarnings("ignore:This API is in beta")  # as_tool
@pytest.mark.parametrize("question", [name for name in ANSWERS if name != "builder"])
def test_a_graph_with_a_flow_in_it_answers_as_if_that_was_its_graph(question: str) -> None:
    inner = described()

    def around(node: Any) -> CompiledStateGraph[Any]:
        return StateGraph(Described).add_node("part", node).add_edge(START, "part").compile()

    assert ANSWERS[question](around(transactional(inner))) == ANSWERS[question](around(inner))


def test_a_flow_shows_what_it_is() -> None:
    flow = transactional(described())
    assert repr(flow).startswith("transactional(<langgraph.graph.state.CompiledStateGraph object at ")
    assert type(flow).__name__ == "CompiledStateGraph"


async def test_a_flow_is_a_graph_of_the_class_of_its_graph(saver: TransactionalSaver) -> None:
    @entrypoint(checkpointer=saver)
    async def functional(given: int) -> int:
        return given

    flow = transactional(chain(saver, one))
    assert isinstance(flow, CompiledStateGraph)
    assert isinstance(transactional(functional), Pregel)
    assert not isinstance(transactional(functional), CompiledStateGraph)
    assert type(flow.graph) is CompiledStateGraph
    assert type(transactional(flow).graph) is CompiledStateGraph


async def test_functions_of_the_functional_api_are_flows(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 55)

    @task
    async def decide() -> int:
        return await race.decide()

    @entrypoint(checkpointer=saver)
    async def functional(given: int) -> int:
        return given + await decide()

    assert await transactional(functional).ainvoke(1, thread) == 56


@pytest.mark.parametrize("made", ["copy", "with_config", "copied copy"])
async def test_a_copy_is_as_transactional(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, made: str
) -> None:
    """As the Agent Server does it: the graph has no checkpointer, each run gets a copy that has one."""
    race = Race(bank, 55)
    conflicts: list[Any] = []

    async def node(state: Any) -> Any:
        return {"seen": [await race.decide()]}

    flow = transactional(chain(None, node), settings=Settings(max_attempts=3), name="served")
    flow.on_conflict = conflicts.append
    store = InMemoryStore()
    copy = flow.copy(update={"checkpointer": saver, "store": store})
    if made == "with_config":
        copy = copy.with_config({"tags": ["t"]})
    elif made == "copied copy":
        copy = copy.copy()
    assert isinstance(copy, CompiledStateGraph)
    assert (copy.store, copy.checkpointer, copy.settings, copy.label) == (store, saver, flow.settings, "served")
    assert flow.checkpointer is None
    assert (await copy.ainvoke({"seen": []}, thread))["seen"] == [55]
    assert len(conflicts) == 1
    assert (await copy.areport(thread)).graph == "served"


class Adapter(BaseCheckpointSaver[str]):
    """As servers put one around a checkpointer: methods that they change, and all other attributes forwarded."""

    def __init__(self, inner: TransactionalSaver) -> None:
        super().__init__(serde=inner.serde)
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        return await self.inner.aput(config, checkpoint, {**metadata, "served": True}, new_versions)

    async def aget_tuple(self, config: Any) -> Any:
        return await self.inner.aget_tuple(config)

    async def aput_writes(self, *args: Any) -> None:
        await self.inner.aput_writes(*args)

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self.inner.get_next_version(current, channel)


async def test_a_saver_in_an_adapter_is_that_saver(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race = Race(bank, 55)

    async def node(state: Any) -> Any:
        return {"seen": [await race.decide()]}

    served = transactional(chain(None, node)).copy(update={"checkpointer": Adapter(saver)})
    assert (await served.ainvoke({"seen": []}, thread))["seen"] == [55]
    assert (await served.areport(thread)).status == "completed"
    assert (await served.aget_state(thread)).metadata["served"]  # type: ignore[typeddict-item, index]


async def test_a_copy_keeps_what_compile_has_set(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    """LangGraph's copy of a compiled graph forgets it."""
    graph = chain(saver, one)
    copy = transactional(graph).copy()
    assert {key: vars(copy)[key] for key in vars(graph)} == vars(graph)


async def test_config_of_the_flow_names_the_thread(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    flow = transactional(chain(saver, one)).with_config(thread)
    assert (await flow.ainvoke({"seen": []}))["seen"] == ["one"]
    assert [c async for c in flow.astream({}, stream_mode="updates")] == [{"one": {"n": 1, "seen": ["one"]}}]
    assert (await flow.aget_state({"configurable": {}})).values["seen"] == ["one", "one"]
    assert (await flow.areport({})).status == "completed"


async def test_updates_in_bulk(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    flow = transactional(chain(saver, one))
    updates = [[StateUpdate({"seen": ["a"]}, "one")], [StateUpdate({"seen": ["b"]}, "one")]]
    await flow.abulk_update_state(thread, updates)
    assert (await flow.aget_state(thread)).values["seen"] == ["a", "b"]


async def test_without_any_checkpointer_a_flow_does_what_langgraph_does(thread: RunnableConfig) -> None:
    async def asks_for_its_step(state: Any) -> Any:
        return {"n": await current_step().fetchval(BALANCE, 1)}

    assert await transactional(chain(None, one)).ainvoke({"seen": []}) == {"n": 1, "seen": ["one"]}
    with pytest.raises(NoActiveStep, match="has no TransactionalSaver"):
        await transactional(chain(None, asks_for_its_step)).ainvoke({"seen": []}, thread)
    with pytest.raises(ConfigError, match="no checkpointer"):
        await transactional(chain(None, one)).areport(thread)


async def test_another_kind_of_checkpointer_is_refused_by_name(thread: RunnableConfig) -> None:
    with pytest.raises(GraphInvalid, match="InMemorySaver"):
        transactional(chain(InMemorySaver(), one))
    served = transactional(chain(None, one)).copy(update={"checkpointer": InMemorySaver()})
    with pytest.raises(GraphInvalid, match="InMemorySaver"):
        await served.ainvoke({}, thread)


async def test_a_request_to_drain_outlives_the_attempt_in_which_it_is_made(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    race, control = Race(bank, 55), RunControl()

    async def first(state: Any) -> Any:
        control.request_drain("deploy")
        return {"seen": [await race.decide()]}

    async def second(state: Any) -> Any:
        current_step().stage(LOG, "second")
        return {"seen": ["second"]}

    flow = transactional(chain(saver, first, second))
    with pytest.raises(Exception, match="deploy") as caught:
        await flow.ainvoke({"seen": []}, thread, control=control)
    assert type(caught.value).__name__ == "GraphDrained"
    assert race.seen in ([100, 55], [100])  # the request may stop the attempt that would repeat the first
    assert (await flow.ainvoke(None, thread))["seen"] == [55, "second"]
    assert await bank.journal() == ["second"]
