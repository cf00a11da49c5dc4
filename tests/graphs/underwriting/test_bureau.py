"""The credit bureau, over real HTTP."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from superstep.graphs import underwriting
from superstep.graphs.underwriting import bureau, seed

if TYPE_CHECKING:
    from pytest_httpserver import HTTPServer


async def test_the_bundled_bureau_reports_what_it_computes() -> None:
    with bureau.serve() as url:
        assert await bureau.fetch_report(url, "ID-0001-A") == bureau.report_for("ID-0001-A")
        assert await asyncio.gather(*(bureau.fetch_report(url, f"ID-{n:04}") for n in range(40)))
    with pytest.raises(bureau.BureauUnavailable, match="ConnectError"):
        await bureau.fetch_report(url, "ID-0001-A")


async def test_the_bundled_bureau_speaks_http() -> None:
    with bureau.serve() as url:
        async with httpx.AsyncClient(base_url=url) as client:
            first = await client.get("/v1/reports/ID-0002")
            assert (first.http_version, first.headers["content-type"]) == ("HTTP/1.1", "application/json")
            assert (await client.get("/v1/reports/no%20such")).status_code == 404
            assert (await client.post("/v1/reports/ID-0002")).status_code == 501


def test_scores_are_spread_and_bad_ones_have_defaults() -> None:
    reports = [bureau.report_for(row.national_id) for row in seed.accounts()]
    assert min(report["score"] for report in reports) < 560 < 780 < max(report["score"] for report in reports)
    assert {report["defaults"] for report in reports} == {0, 1, 2}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, "{}", bureau.BureauUnavailable),
        (429, "{}", bureau.BureauUnavailable),
        (404, "{}", bureau.BureauRejected),
        (200, "not json", bureau.BureauRejected),
        (200, '{"score": 700}', bureau.BureauRejected),
        (200, "[]", bureau.BureauRejected),
    ],
)
async def test_a_bureau_that_misbehaves(httpserver: HTTPServer, status: int, body: str, error: type[Exception]) -> None:
    httpserver.expect_request("/v1/reports/ID-1").respond_with_data(body, status=status)
    with pytest.raises(error, match=str(httpserver.port)):
        await bureau.fetch_report(httpserver.url_for(""), "ID-1")


async def test_a_bureau_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bureau, "TIMEOUT", httpx.Timeout(0.05))
    with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(bureau.BureauUnavailable, match="ReadTimeout"):
        await bureau.fetch_report(f"http://127.0.0.1:{deaf.getsockname()[1]}", "ID-1")


async def test_the_address_comes_from_the_hook_the_variable_or_a_service_of_last_resort(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("BUREAU_URL", raising=False)
    last_resort = bureau.bureau_url()
    assert (await bureau.fetch_report(last_resort, "ID-7"))["score"] > 0
    async with underwriting.lifespan():
        inside = await asyncio.create_task(asyncio.to_thread(bureau.bureau_url))
        assert inside != last_resort
        await bureau.fetch_report(inside, "ID-7")
    assert bureau.bureau_url() == last_resort
    monkeypatch.setenv("BUREAU_URL", "http://bureau.example")
    async with underwriting.lifespan():
        assert bureau.bureau_url() == "http://bureau.example"
