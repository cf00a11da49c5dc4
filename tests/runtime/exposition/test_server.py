"""The measures over HTTP."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from superstep import ConfigError, serving_metrics
from superstep.checkpointer import StoredThreads
from tests.support.bank import hold_idle, saver

if TYPE_CHECKING:
    from superstep.checkpointer import TransactionalSaver

__all__ = ["hold_idle", "saver"]


async def test_prometheus_can_read_them(saver: TransactionalSaver) -> None:
    async with serving_metrics(saver, 0) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        answer = await client.get("/metrics")
        assert (answer.status_code, answer.headers["content-type"]) == (
            200,
            "text/plain; version=0.0.4; charset=utf-8",
        )
        names = {family.name for family in text_string_to_metric_families(answer.text)}
        assert "superstep_window_seconds" in names
        head = await client.head("/metrics")
        assert (head.status_code, head.text, head.headers["content-length"]) == (200, "", str(len(answer.content)))
        assert (await client.get("/")).status_code == 404
        assert (await client.post("/metrics")).status_code == 405
    with pytest.raises(httpx.ConnectError):
        await httpx.AsyncClient().get(f"http://127.0.0.1:{port}/metrics")


async def test_scrapes_at_once_measure_once(saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    measured, measure = [], saver.ametrics

    async def counted(**how: object) -> object:
        measured.append(how)
        return await measure(**how)  # type: ignore[arg-type]

    monkeypatch.setattr(saver, "ametrics", counted)
    async with serving_metrics(saver, 0) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        answers = await asyncio.gather(*(client.get("/metrics") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(measured) == 1


async def test_without_tables_it_says_so_and_goes_on(empty_database_url: str) -> None:
    async with (
        StoredThreads.opened(empty_database_url) as threads,
        serving_metrics(threads, 0) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        assert (await client.get("/metrics")).status_code == 503
        await threads.setup()
        assert (await client.get("/metrics")).status_code == 200


async def test_nonsense_ends_the_connection(saver: TransactionalSaver) -> None:
    async with serving_metrics(saver, 0) as port:
        for sent in (b"\r\n\r\n", b"x" * 40_000, b"GET\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            writer.write_eof()
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/metrics")).status_code == 200


async def test_a_port_that_is_taken_is_named(saver: TransactionalSaver) -> None:
    async with serving_metrics(saver, 0) as port:
        with pytest.raises(ConfigError, match=f"port {port}"):
            async with serving_metrics(saver, port):
                pass
