"""A LangChain `VectorStore` over a collection, for chains and retrievers that know nothing of super-steps.

Used in a node, it reads in the step's snapshot, and what it adds or deletes is staged: as `Collection` does, which it
only speaks for. The synchronous methods are for nodes that are plain functions, and for programs without a loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from langchain_core.documents import Document as Passage
from langchain_core.vectorstores import VectorStore

from superstep.checkpointer.collections.collection import metadata_of
from superstep.checkpointer.collections.documents import Document
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping, Sequence

    import asyncpg
    from langchain_core.embeddings import Embeddings

    from superstep.checkpointer.collections.catalog import Collections
    from superstep.checkpointer.collections.collection import Collection

__all__ = ["CollectionVectorStore"]

T = TypeVar("T")


class CollectionVectorStore(VectorStore):
    """See the module. Scores are cosine distances: 0 is the same direction, 2 the opposite one.

    Args:
        collection: of a saver: `saver.acollection(...)`.
        embedding: embeds texts; `None` is what the saver embeds with.

    Attributes:
        collection: as given.
    """

    def __init__(self, collection: Collection, embedding: Embeddings | None = None) -> None:
        self.collection = collection
        self._embedding = embedding

    @property
    def embeddings(self) -> Embeddings | None:
        """What embeds, if it is not the saver's embedder."""
        return self._embedding

    # -- adding and deleting ---------------------------------------------------------------------------------------

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **_: Any,
    ) -> list[str]:
        """Add texts, or replace those of the same ids; the ids.

        Raises:
            ValueError: there are not as many metadata or ids as texts.
        """
        return await self._add(self.collection, list(texts), metadatas, ids)

    async def adelete(self, ids: list[str] | None = None, **_: Any) -> bool:
        """Delete the documents of these ids; those that are not there are no matter.

        Raises:
            ConfigError: no ids. A collection is dropped by `saver.collections.drop`.
        """
        await self.collection.delete(_some(ids))
        return True

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **_: Any,
    ) -> list[str]:
        """See `aadd_texts`."""
        here = self.collection.here()
        return self._block(self._add(here, list(texts), metadatas, ids))

    def delete(self, ids: list[str] | None = None, **_: Any) -> bool:
        """See `adelete`."""
        self._block(self.collection.here().delete(_some(ids)))
        return True

    # -- looking ---------------------------------------------------------------------------------------------------

    async def aget_by_ids(self, ids: Sequence[str], /) -> list[Passage]:
        """The documents of these ids that are there."""
        return list(map(_passage, await self.collection.get(ids)))

    async def asimilarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - LangChain's name
        **_: Any,
    ) -> list[tuple[Passage, float]]:
        """The documents nearest to a text, with their distances.

        Args:
            query: the text.
            k: how many at most.
            filter: on metadata, see `collections.filters`.
        """
        return _scored(await self._search(self.collection, query, k, filter))

    async def asimilarity_search(self, query: str, k: int = 4, **more: Any) -> list[Passage]:
        """The documents nearest to a text. See `asimilarity_search_with_score`."""
        return [passage for passage, _ in await self.asimilarity_search_with_score(query, k, **more)]

    async def asimilarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - LangChain's name
        **_: Any,
    ) -> list[Passage]:
        """The documents nearest to a vector."""
        return list(map(_passage, await self.collection.search(embedding=embedding, k=k, filter=filter)))

    def get_by_ids(self, ids: Sequence[str], /) -> list[Passage]:
        """See `aget_by_ids`."""
        return list(map(_passage, self._block(self.collection.here().get(ids))))

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - LangChain's name
        **_: Any,
    ) -> list[tuple[Passage, float]]:
        """See `asimilarity_search_with_score`."""
        return _scored(self._block(self._search(self.collection.here(), query, k, filter)))

    def similarity_search(self, query: str, k: int = 4, **more: Any) -> list[Passage]:
        """See `asimilarity_search`."""
        return [passage for passage, _ in self.similarity_search_with_score(query, k, **more)]

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - LangChain's name
        **_: Any,
    ) -> list[Passage]:
        """See `asimilarity_search_by_vector`."""
        here = self.collection.here()
        return list(map(_passage, self._block(here.search(embedding=embedding, k=k, filter=filter))))

    def _select_relevance_score_fn(self) -> Any:
        return lambda distance: max(0.0, 1.0 - distance)

    # -- making ----------------------------------------------------------------------------------------------------

    @classmethod
    async def afrom_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        collections: Collections | None = None,
        name: str = "langchain",
        **more: Any,
    ) -> Self:
        """A collection of these texts, made unless it is there.

        Args:
            texts: what to add.
            embedding: embeds them, and what is looked for.
            metadatas: one for each text.
            ids: one for each text.
            collections: `saver.collections`.
            name: of the collection.
            **more: see `Collections.create`.
        """
        if collections is None:
            raise ConfigError("Give collections=saver.collections: it says where the texts are to be.")
        dimensions = len(await embedding.aembed_query("dimensions"))
        store = cls(await collections.create(name, dimensions=dimensions, **more), embedding)
        await store.aadd_texts(texts, metadatas, ids=ids)
        return store

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **more: Any,
    ) -> Self:
        """See `afrom_texts`."""
        collections: Collections | None = more.get("collections")
        making = cls.afrom_texts(texts, embedding, metadatas, ids=ids, **more)
        if collections is None:
            making.close()
            raise ConfigError("Give collections=saver.collections: it says where the texts are to be.")
        return collections.block(making)

    # -- inside ----------------------------------------------------------------------------------------------------

    async def _add(
        self,
        collection: Collection,
        texts: list[str],
        metadatas: list[dict[str, Any]] | None,
        ids: Sequence[str | None] | None,
    ) -> list[str]:
        for what, given in (("metadatas", metadatas), ("ids", ids)):
            if given is not None and len(given) != len(texts):
                raise ValueError(f"There are {len(texts)} texts and {len(given)} {what}.")
        vectors: Sequence[list[float] | None] = [None] * len(texts)
        if self._embedding is not None and texts:
            vectors = await self._embedding.aembed_documents(texts)
        documents = []
        for at, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
            named: dict[str, Any] = {"id": ids[at]} if ids is not None and ids[at] is not None else {}
            documents.append(Document(text, metadatas[at] if metadatas else {}, embedding=vector, **named))
        return await collection.add(documents)

    async def _search(
        self, collection: Collection, query: str, k: int, filter_: Mapping[str, Any] | None
    ) -> list[asyncpg.Record]:
        if self._embedding is None:
            return await collection.search(query, k=k, filter=filter_)
        return await collection.search(embedding=await self._embedding.aembed_query(query), k=k, filter=filter_)

    def _block(self, work: Coroutine[Any, Any, T]) -> T:
        return self.collection.block(work)


def _some(ids: list[str] | None) -> list[str]:
    if ids is None:
        raise ConfigError("delete() takes ids. To delete a whole collection: saver.collections.drop(name).")
    return ids


def _passage(row: asyncpg.Record) -> Passage:
    return Passage(id=row["id"], page_content=row["content"], metadata=metadata_of(row))


def _scored(rows: Sequence[asyncpg.Record]) -> list[tuple[Passage, float]]:
    return [(_passage(row), row["distance"]) for row in rows]
