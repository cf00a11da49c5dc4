"""With an encrypting serializer, what an effect says and what it failed with are encrypted at rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from superstep.checkpointer import StoredThreads, TransactionalSaver, current_step
from superstep.effects import handler
from tests.support.effects import Received, become, outbox, working
from tests.support.graphs import chain

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

WORD = "hunter2"
DUMP = "SELECT string_agg({table}::text, ' ') FROM runtime.{table}"


async def test_nothing_that_it_says_lies_open(database_url: str, thread: RunnableConfig) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(JsonPlusSerializer(), key=b"k" * 32)
    received = Received()
    received.fail = lambda _: ValueError(f"no {WORD}")
    handler("mail", attempts=1)(received)

    async def emits(_: Any) -> Any:
        current_step().emit("mail", {"word": WORD})
        return {}

    async with TransactionalSaver.from_conn_string(database_url, serde=serde) as saver:
        await saver.setup()
        async with working(saver):
            await chain(saver, emits).ainvoke({}, thread)
            await become(saver, "dead")
        (stored,) = await outbox(saver)
        assert stored.failure == f"ValueError: no {WORD}"
        assert received.tried[0].payload == {"word": WORD}
        async with saver.transaction() as tx:
            for table in ("effect", "queue_pgqueuer", "queue_pgqueuer_log", "task_effect", "task_write"):
                said = await tx.fetchval(DUMP.format(table=table)) or ""
                assert WORD not in said
                assert WORD.encode().hex() not in said
    async with StoredThreads.opened(database_url) as threads:
        (keyless,) = await threads.outbox.effects()
        assert keyless.failure == "(encrypted)"
