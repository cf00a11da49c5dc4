"""Taking threads over from LangGraph's own Postgres savers, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from superstep.checkpointer.imports.postgres import PostgresTables
from superstep.checkpointer.imports.rows import Imported
from superstep.checkpointer.imports.thread import ThreadImport
from superstep.checkpointer.imports.values import Translator
from superstep.checkpointer.langgraph.state_types import state_types
from superstep.checkpointer.threads.digest_key import digest_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from langgraph.checkpoint.serde.base import SerializerProtocol
    from langgraph.pregel import Pregel

    from superstep.checkpointer.imports.rows import Outcome
    from superstep.checkpointer.saver.saver import TransactionalSaver

__all__ = ["import_threads"]

_PAGE = 200


async def import_threads(
    saver: TransactionalSaver,
    url: str,
    *,
    schema: str = "public",
    threads: Sequence[str] | None = None,
    graph: Pregel[Any, Any, Any, Any] | None = None,
    name: str | None = None,
    serde: SerializerProtocol | None = None,
    batch: int = _PAGE,
    dry_run: bool = False,
    told: Callable[[Outcome], None] | None = None,
    counted: Callable[[int], None] | None = None,
) -> Imported:
    """Take threads over that LangGraph's `AsyncPostgresSaver` or `PostgresSaver` has stored.

    Nothing is changed there. A thread is imported as a whole, in one transaction, or not at all, and others go on. It
    may be repeated at any time: what is there is left as it is, and what has come to a thread since is added, unless
    the thread was run here.

    Args:
        saver: where to. Its serializer stores the values; if it encrypts, they are encrypted.
        url: of the database with LangGraph's tables, which may be the same one.
        schema: of these tables.
        threads: only these.
        graph: its schemas name the classes of values, as when it runs.
        name: what the threads remember as their graph, for `runtime resume`.
        serde: what the other saver was given as `serde`, if anything.
        batch: rows that are read and stored at once. Of large values and writes fewer: 8 MiB and a row at most.
        dry_run: read and check everything, and store nothing.
        told: is called with the outcome of each thread.
        counted: is called once with the number of threads there are to import.

    Raises:
        InputInvalid: there are no such tables.
        DatabaseUnavailable: a database does not answer. What was imported before is there.
    """
    target = saver.with_classes(state_types(graph)) if graph is not None else saver
    database = saver.database
    translator = Translator(serde or JsonPlusSerializer(), target.serde)
    key = await database.home.call(digest_key(database, target.serde))
    done = Imported(dry_run=dry_run)

    async def work() -> None:
        async with PostgresTables.opened(url, schema=schema, page=batch) as tables:
            if counted is not None:
                counted(len(threads) if threads is not None else await tables.how_many())
            async for thread_id in _ids(tables, threads):
                async with tables.thread(thread_id) as there:
                    each = ThreadImport(database, translator, there, name, key)
                    outcome = await (each.rehearse() if dry_run else each.run())
                done.add(outcome)
                if told is not None:
                    told(outcome)

    await database.home.call(work())
    return done


async def _ids(tables: PostgresTables, threads: Sequence[str] | None) -> AsyncIterator[str]:
    if threads is not None:
        for each in dict.fromkeys(threads):
            yield each
        return
    after = ""
    while page := await tables.thread_ids(after):
        for each in page:
            yield each
        after = page[-1]
