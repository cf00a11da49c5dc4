"""Collections as LangChain's vector stores and retrievers: what its own tests of stores expect, and steps."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.documents import Document as Passage
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough

from superstep.checkpointer import CollectionVectorStore, TransactionalSaver
from superstep.runtime.faults import ConfigError, NoActiveStep
from superstep.runtime.flow.transactional import transactional
from tests.support.graphs import chain

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

EMBEDDING = DeterministicFakeEmbedding(size=6)


@pytest.fixture
def hold_idle() -> float:
    return 0


@pytest.fixture
async def store(saver: TransactionalSaver) -> CollectionVectorStore:
    return CollectionVectorStore(await saver.acollection("passages", dimensions=6), EMBEDDING)


@pytest.fixture(params=["awaited", "in a thread"])
async def methods(request: Any, store: CollectionVectorStore) -> Any:
    """The methods of a store by their asynchronous names; in a thread, those without the `a`."""

    class _Blocking:
        def __getattr__(self, name: str) -> Any:
            method = getattr(store, name.removeprefix("a"))
            return lambda *args, **more: asyncio.to_thread(method, *args, **more)

    return store if request.param == "awaited" else _Blocking()


def texts(passages: list[Passage]) -> list[str]:
    return [each.page_content for each in passages]


async def test_what_langchain_expects_of_a_store(methods: Any) -> None:
    assert await methods.asimilarity_search("foo", k=1) == []
    documents = [Passage("foo", metadata={"n": 1}), Passage("bar", metadata={"n": 2})]
    ids = await methods.aadd_documents(documents)
    assert len(set(ids)) == 2
    assert await methods.aget_by_ids(ids) == await methods.aget_by_ids(list(reversed(ids)))
    assert {each.id: each.metadata for each in await methods.aget_by_ids(ids)} == {ids[0]: {"n": 1}, ids[1]: {"n": 2}}
    assert texts(await methods.asimilarity_search("bar", k=2)) == ["bar", "foo"]
    ((passage, score),) = await methods.asimilarity_search_with_score("foo", k=1)
    assert (passage.page_content, passage.id, score) == ("foo", ids[0], pytest.approx(0, abs=1e-6))
    assert texts(await methods.asimilarity_search_by_vector(EMBEDDING.embed_query("bar"), k=1)) == ["bar"]
    assert texts(await methods.asimilarity_search("bar", k=2, filter={"n": {"$lt": 2}})) == ["foo"]
    await methods.aadd_documents([Passage("changed", id=ids[0], metadata={"n": 3})])
    assert texts(await methods.asimilarity_search("changed", k=1)) == ["changed"]
    assert await methods.adelete([ids[0], "none"])
    assert await methods.aget_by_ids([ids[0], "none"]) == []
    assert texts(await methods.asimilarity_search("changed", k=9)) == ["bar"]
    assert await methods.aadd_texts(["a", "b"], [{}, {"x": 1}], ids=["1", "2"]) == ["1", "2"]
    assert [each.id for each in await methods.aget_by_ids(["1", "2", "3"])] == ["1", "2"]
    with pytest.raises(ValueError, match="2 texts and 1 metadatas"):
        await methods.aadd_texts(["a", "b"], [{}])
    with pytest.raises(ConfigError, match="takes ids"):
        await methods.adelete()


async def test_a_retriever_and_a_chain_run_unchanged_in_a_node(
    saver: TransactionalSaver, store: CollectionVectorStore, thread: RunnableConfig
) -> None:
    """A row that is nearer makes the node run again: the chain inside it knows of nothing."""
    await store.aadd_texts(["refunds take two days", "cats sleep"], ids=["1", "2"])
    retriever = store.as_retriever(search_kwargs={"k": 1})
    elsewhere = CollectionVectorStore(store.collection.here(), EMBEDDING)  # in no step
    asked: list[str] = []

    def answer(prompt: Any) -> str:
        asked.append(prompt.to_messages()[-1].content)
        return asked[-1]

    rag = (
        {"docs": retriever | RunnableLambda(lambda found: found[0].page_content), "question": RunnablePassthrough()}
        | ChatPromptTemplate.from_messages([("user", "{docs}: {question}")])
        | RunnableLambda(answer)
    )

    async def node(state: Any) -> Any:
        said = await rag.ainvoke("how long do refunds take?")
        if len(asked) == 1:
            await elsewhere.aadd_texts(["how long do refunds take?"], ids=["3"])
        return {"seen": [said]}

    result = await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert len(asked) == 2
    assert result["seen"] == ["how long do refunds take?: how long do refunds take?"]


async def test_a_synchronous_node_reads_in_its_step_and_stages(
    saver: TransactionalSaver, store: CollectionVectorStore, thread: RunnableConfig
) -> None:
    await store.aadd_texts(["one"], ids=["1"])

    def node(state: Any) -> Any:
        store.add_texts(["two"], ids=["2"])
        store.delete(["1"])
        return {"seen": texts(store.similarity_search("one", k=5))}

    result = await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert result["seen"] == ["one"]
    assert texts(await store.asimilarity_search("one", k=5)) == ["two"]


async def test_blocking_on_the_loop_is_refused(store: CollectionVectorStore) -> None:
    with pytest.raises(NoActiveStep):
        store.similarity_search("one")


async def test_a_store_of_texts_and_its_relevance(saver: TransactionalSaver) -> None:
    with pytest.raises(ConfigError, match=r"saver\.collections"):
        await CollectionVectorStore.afrom_texts(["a"], EMBEDDING)
    with pytest.raises(ConfigError, match=r"saver\.collections"):
        CollectionVectorStore.from_texts(["a"], EMBEDDING)
    store = await CollectionVectorStore.afrom_texts(
        ["a", "b"], EMBEDDING, [{"n": 1}, {"n": 2}], collections=saver.collections, name="mine"
    )
    again = await asyncio.to_thread(
        CollectionVectorStore.from_documents,
        [Passage("c", id="c")],
        EMBEDDING,
        collections=saver.collections,
        name="mine",
    )
    assert await again.collection.count() == 3
    scored = await store.asimilarity_search_with_relevance_scores("b", k=3)
    assert (scored[0][0].page_content, scored[0][1]) == ("b", pytest.approx(1))
    assert all(0 <= score <= 1 for _, score in scored)


async def test_without_an_embedding_the_savers_embedder_is_used(saver: TransactionalSaver) -> None:
    async def embed(given: list[str]) -> list[list[float]]:
        return EMBEDDING.embed_documents(given)

    saver.embedder.own = embed
    store = CollectionVectorStore(await saver.acollection("mine", dimensions=6))
    await store.aadd_texts(["x", "y"])
    assert texts(await store.asimilarity_search("y", k=1)) == ["y"]
