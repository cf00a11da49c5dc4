"""The sanctions service, over real HTTP."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from superstep.graphs import approvals
from superstep.graphs.approvals import sanctions

if TYPE_CHECKING:
    from pytest_httpserver import HTTPServer

ONE, OTHER = "0" * 32, "f" * 32


async def test_one_identity_is_one_screening() -> None:
    with sanctions.serve() as service:
        assert all(await asyncio.gather(*(sanctions.screen_name(service.url, ONE, "Alder Tools") for _ in range(20))))
        assert not await sanctions.screen_name(service.url, OTHER, next(iter(sanctions.LISTED)))
        assert (service.requests, len(service.screenings)) == (21, 2)
    with pytest.raises(sanctions.SanctionsUnavailable, match="ConnectError"):
        await sanctions.screen_name(service.url, ONE, "Alder Tools")


async def test_the_bundled_service_refuses_what_is_no_screening() -> None:
    with sanctions.serve() as service:
        async with httpx.AsyncClient(base_url=service.url) as client:
            assert (await client.put("/v1/screenings/x", json={"name": "A"})).status_code == 404
            assert (await client.put(f"/v1/screenings/{ONE}", content=b"not json")).status_code == 400
            assert (await client.put(f"/v1/screenings/{ONE}", json={"name": "A"})).json() == {"clear": True}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, "{}", sanctions.SanctionsUnavailable),
        (429, "{}", sanctions.SanctionsUnavailable),
        (404, "{}", sanctions.SanctionsRejected),
        (200, "not json", sanctions.SanctionsRejected),
        (200, '{"clear": "yes"}', sanctions.SanctionsRejected),
        (200, "[]", sanctions.SanctionsRejected),
    ],
)
async def test_a_service_that_misbehaves(
    httpserver: HTTPServer, status: int, body: str, error: type[Exception]
) -> None:
    httpserver.expect_request(f"/v1/screenings/{ONE}", method="PUT").respond_with_data(body, status=status)
    with pytest.raises(error, match=str(httpserver.port)):
        await sanctions.screen_name(httpserver.url_for(""), ONE, "A")


async def test_a_service_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanctions, "TIMEOUT", httpx.Timeout(0.05))
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(sanctions.SanctionsUnavailable, match="ReadTim"):
        await sanctions.screen_name(f"http://127.0.0.1:{deaf.getsockname()[1]}", ONE, "A")


async def test_the_address_comes_from_the_hook_the_variable_or_a_service_of_last_resort(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SANCTIONS_URL", raising=False)
    last_resort = sanctions.sanctions_url()
    assert await sanctions.screen_name(last_resort, ONE, "A")
    async with approvals.lifespan():
        inside = await asyncio.create_task(asyncio.to_thread(sanctions.sanctions_url))
        assert inside != last_resort
        assert await sanctions.screen_name(inside, ONE, "A")
    assert sanctions.sanctions_url() == last_resort
    monkeypatch.setenv("SANCTIONS_URL", "http://sanctions.example")
    async with approvals.lifespan():
        assert sanctions.sanctions_url() == "http://sanctions.example"
