"""The conformance suite of LangGraph, and what it leaves out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from superstep.checkpointer import TransactionalSaver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def _report(database_url: str, **options: object) -> None:
    @checkpointer_test(name="TransactionalSaver")
    async def factory() -> AsyncIterator[TransactionalSaver]:
        async with TransactionalSaver.from_conn_string(database_url, **options) as saver:  # type: ignore[arg-type]
            await saver.setup()
            for thread in await saver.athreads():
                await saver.adelete_thread(thread.thread_id)
            yield saver

    report = await validate(factory)
    failures = {name: result.failures for name, result in report.results.items() if not result.passed}
    assert failures == {}
    assert len(report.results) == 8
    assert all(result.tests_passed for result in report.results.values())


async def test_every_capability_passes(database_url: str) -> None:
    await _report(database_url)


async def test_every_capability_passes_encrypted(database_url: str) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    await _report(database_url, serde=serde)
