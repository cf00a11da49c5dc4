"""The store as LangGraph, LangChain and langmem use it; synchronous programs and other loops."""

from __future__ import annotations

import asyncio
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.config import get_store
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import InjectedStore
from langgraph.store.base import BaseStore

from superstep import MemoryStore, TransactionalSaver, transactional
from superstep.runtime.faults import ConfigError, NoActiveStep
from tests.checkpointer.memory.conftest import Letters
from tests.support.graphs import State, chain, steps_of

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.runtime import Runtime

NS = ("users", "ada")


def with_store(saver: TransactionalSaver, store: MemoryStore, node: Any) -> Any:
    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(checkpointer=saver, store=store)


async def versions(store: MemoryStore, key: str) -> list[str | None]:
    """Of each version, the node that put it."""
    return [each.origin.node if each.origin else None for each in await store.ahistory(NS, key)]


async def test_it_is_what_nodes_are_given(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    async def node(state: State, *, store: BaseStore) -> Any:
        await store.aput(NS, "given", {"n": 1})
        await get_store().aput(NS, "asked for", {"n": 1})
        await below(state)

    async def below(state: State) -> None:
        assert await get_store().aget(NS, "given") is not None

    async def by_runtime(state: State, runtime: Runtime[Any]) -> Any:
        assert runtime.store is not None
        await runtime.store.aput(NS, "of the runtime", {"n": 1})

    builder = StateGraph(State).add_node("node", node).add_node("by_runtime", by_runtime)
    builder.add_edge(START, "node").add_edge("node", "by_runtime")
    flow = transactional(builder.compile(checkpointer=saver, store=store))
    await flow.ainvoke({"n": 0}, thread)
    assert await versions(store, "given") == await versions(store, "asked for") == ["node"]
    assert await versions(store, "of the runtime") == ["by_runtime"]
    assert isinstance(saver.store, BaseStore)
    assert saver.store is saver.store


class Model(GenericFakeChatModel):
    """Says what it is given, and takes any tools."""

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        return self


def calls(*named: tuple[str, dict[str, Any]]) -> Model:
    """A model that calls these tools at once, then is done."""
    called = [{"name": name, "args": args, "id": f"c{n}"} for n, (name, args) in enumerate(named)]
    return Model(messages=iter([AIMessage("", tool_calls=called), AIMessage("done")]))


@tool
async def save(text: str, store: Annotated[Any, InjectedStore()]) -> str:
    """Save a text."""
    await store.aput(NS, text, {"text": text})
    return "saved"


@tool
def recall(text: str, store: Annotated[Any, InjectedStore()]) -> str:
    """Recall a text, in a thread."""
    store.put(NS, "recalled", {"text": text})
    return str([each.key for each in store.search(NS, query=text)])


async def test_tools_of_an_agent(store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig) -> None:
    await store.aput(NS, "before", {"text": "abc"})
    model = calls(("save", {"text": "xyz"}), ("recall", {"text": "abc"}))
    agent = transactional(create_agent(model, [save, recall], checkpointer=saver, store=store))
    found = await agent.ainvoke({"messages": [("user", "go")]}, thread)
    said = [each.content for each in found["messages"]]
    assert said[-1] == "done"
    assert said[2:4] == ["saved", "['before', 'recalled', 'xyz']"]
    assert await versions(store, "xyz") == await versions(store, "recalled") == ["tools"]
    assert sum(step.writes for step in await steps_of(saver, thread)) == 2


async def test_what_a_tool_put_before_it_failed_is_nowhere(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    @tool
    async def fails(text: str, store: Annotated[Any, InjectedStore()]) -> str:
        """Save a text, and fail."""
        await store.aput(NS, text, {"text": text})
        raise KeyError("x")

    agent = create_agent(calls(("fails", {"text": "xyz"})), [fails], checkpointer=saver, store=store)
    with pytest.raises(KeyError):
        await agent.ainvoke({"messages": [("user", "go")]}, thread)
    assert await store.aget(NS, "xyz") is None


async def test_langmem(store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it imports of LangGraph has moved
        from langmem import create_manage_memory_tool, create_search_memory_tool

    namespace = ("users", "{who}")
    manage, search = create_manage_memory_tool(namespace), create_search_memory_tool(namespace)
    given: Any = {"configurable": {**thread["configurable"], "who": "ada"}}

    async def turn(name: str, **args: Any) -> str:
        model = calls((name, args))
        store_of_values = store.configured(index={"fields": ["content"]})
        agent = transactional(create_agent(model, [manage, search], checkpointer=saver, store=store_of_values))
        found = await agent.ainvoke({"messages": [("user", "go")]}, given)
        return str(found["messages"][-2].content)

    await turn("manage_memory", content="likes tea", action="create")
    (item,) = await store.asearch(NS)
    assert item.value["content"] == "likes tea"
    assert item.key in await turn("search_memory", query="tea")
    await turn("manage_memory", content="likes coffee", action="update", id=item.key)
    (item,) = await store.asearch(NS)
    assert item.value["content"] == "likes coffee"
    assert await versions(store, item.key) == ["tools", "tools"]
    await turn("manage_memory", action="delete", id=item.key)
    assert await store.asearch(NS) == []


# -- without awaiting ------------------------------------------------------------------------------------------------


def test_a_program_without_a_loop(sync_saver: TransactionalSaver, thread: RunnableConfig) -> None:
    sync_saver.embedder.own = Letters()
    store = sync_saver.store.configured(index={"fields": ["text"]})

    def node(state: State) -> Any:
        store.put(NS, "mine", {"text": "b"})
        assert store.get(NS, "mine") is not None
        store.delete(NS, "before")
        assert store.remember(NS, {"text": "ccc"}) == "c"
        assert [each.key for each in store.search(NS, query="b", limit=1)] == ["mine"]
        assert store.list_namespaces() == [NS]
        assert store.history(NS, "mine") == []
        return {"n": 1}

    store.put(NS, "before", {"text": "a"})
    assert store.remember(NS, {"text": "cc"}, key="c") == "c"
    transactional(with_store(sync_saver, store, node)).invoke({"n": 0}, thread)
    assert sorted(each.key for each in store.search(NS)) == ["c", "mine"]
    assert [each.version for each in store.history(NS, "mine")] == [1]
    store.forget(NS)
    assert store.search(()) == []


async def test_a_synchronous_node_of_an_asynchronous_program(
    store: MemoryStore, saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    def node(state: State) -> Any:
        store.put(NS, "k", {"text": "b"})
        return {"n": len(store.search(NS))}

    assert (await transactional(with_store(saver, store, node)).ainvoke({"n": 0}, thread))["n"] == 1
    assert await versions(store, "k") == ["node"]


async def test_on_the_savers_loop_a_synchronous_call_is_refused(store: MemoryStore) -> None:
    for call in (
        lambda: store.put(NS, "k", {"n": 1}),
        lambda: store.get(NS, "k"),
        lambda: store.delete(NS, "k"),
        lambda: store.search(NS),
        lambda: store.list_namespaces(),
        lambda: store.batch([]),
        lambda: store.remember(NS, {"n": 1}),
        lambda: store.history(NS, "k"),
        lambda: store.forget(NS),
    ):
        with pytest.raises(asyncio.InvalidStateError) as caught:
            call()
        assert isinstance(caught.value, NoActiveStep)
    with ThreadPoolExecutor(1) as threads:
        await asyncio.wrap_future(threads.submit(store.put, NS, "k", {"n": 1}))
        found = await asyncio.wrap_future(threads.submit(store.get, NS, "k"))
    assert found is not None
    assert found.value == {"n": 1}


async def test_from_another_loop(store: MemoryStore) -> None:
    async def elsewhere() -> Any:
        await store.aput(NS, "k", {"text": "a"})
        return await store.asearch(NS, query="a"), await store.aremember(NS, {"text": "aa"}), await store.sweep()

    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(elsewhere())))
    thread.start()
    await asyncio.to_thread(thread.join)
    ((items, key, swept),) = found
    assert ([each.key for each in items], key, swept) == (["k"], "k", 0)


# -- encryption ------------------------------------------------------------------------------------------------------


async def test_a_saver_that_encrypts_stores_nothing_readable_unasked(database_url: str, thread: RunnableConfig) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(
        JsonPlusSerializer(allowed_msgpack_modules=None), key=b"0123456789abcdef"
    )
    async with TransactionalSaver.from_conn_string(database_url, serde=serde) as saver:
        plain = saver.store.configured(readable=True, index=False)

        async def node(state: State) -> Any:
            with pytest.raises(ConfigError, match="readable=True"):
                await saver.store.aput(NS, "k", {"n": 1})
            await plain.aput(NS, "k", {"n": 1})
            item = await plain.aget(NS, "k")
            assert item is not None

        for work in (saver.store.aget(NS, "k"), saver.store.aremember(NS, {}), saver.store.ahistory(NS, "k")):
            with pytest.raises(ConfigError, match="readable=True"):
                await work
        await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
        assert await versions(plain, "k") == ["node"]
