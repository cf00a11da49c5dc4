"""Whole runs of the underwriting flow on a database."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.types import Command

from superstep import transactional
from superstep.checkpointer import TransactionalSaver
from superstep.graphs import underwriting
from superstep.graphs.underwriting import seed
from superstep.runtime.faults import InputInvalid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pytest_httpserver import HTTPServer


@pytest.fixture
async def saver(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TransactionalSaver]:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "BUREAU_URL"):
        monkeypatch.delenv(name, raising=False)
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        await saver.setup()
        await underwriting.setup(saver)
        async with underwriting.lifespan(saver):
            yield saver


def flow_on(saver: TransactionalSaver) -> Any:
    return transactional(underwriting.graph.compile(checkpointer=saver))


def thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}}


async def one(saver: TransactionalSaver, sql: str, *args: Any) -> Any:
    async with saver.transaction() as tx:
        return await tx.fetchval(sql, *args)


DRAWN = "SELECT drawn FROM underwriting.credit_line WHERE id = $1"
LINE = "L-A-0001-business_line"


async def test_setup_may_run_anywhere_any_number_of_times(database_url: str) -> None:
    async with (
        TransactionalSaver.from_conn_string(database_url) as first,
        TransactionalSaver.from_conn_string(database_url) as second,
    ):
        await first.setup()
        await asyncio.gather(*(underwriting.setup(each) for each in (first, second) * 4))
        await underwriting.setup(first)
        assert await one(first, "SELECT count(*) FROM underwriting.account") == seed.ACCOUNTS


async def test_the_example_is_approved_and_written(saver: TransactionalSaver) -> None:
    out = await flow_on(saver).ainvoke(underwriting.example_input, thread("t"))
    assert out["decision"]["outcome"] == "approve"
    assert out["decision"]["recorded"]
    assert out["passages"][0]["id"].startswith(("business_line.", "any."))
    assert await one(saver, DRAWN, LINE) == underwriting.example_input["amount"]
    written = "SELECT amount FROM underwriting.decision WHERE application_id = $1"
    assert await one(saver, written, out["application"]["id"]) == underwriting.example_input["amount"]
    owed = "SELECT amount FROM underwriting.exposure WHERE application_id = $1"
    assert await one(saver, owed, out["application"]["id"]) == underwriting.example_input["amount"]
    json.dumps(out)


async def test_a_second_application_on_a_thread_is_a_new_one(saver: TransactionalSaver) -> None:
    flow = flow_on(saver)
    first = await flow.ainvoke(underwriting.example_input, thread("t"))
    second = await flow.ainvoke(underwriting.example_input, thread("t"))
    assert first["application"]["id"] != second["application"]["id"]
    assert await one(saver, DRAWN, LINE) == 2 * underwriting.example_input["amount"]


async def test_an_application_is_decided_once(saver: TransactionalSaver) -> None:
    flow = flow_on(saver)
    application = {**underwriting.example_input, "application_id": "APP-once"}
    first = await flow.ainvoke(application, thread("t1"))
    again = await flow.ainvoke({**application, "amount": 99_00}, thread("t2"))
    assert again["decision"] == first["decision"]
    with pytest.raises(InputInvalid, match="another account"):
        await flow.ainvoke({**application, "account_id": "A-0002"}, thread("t3"))


async def test_the_same_application_sent_at_once_is_written_once(saver: TransactionalSaver) -> None:
    flow = flow_on(saver)
    application = {**underwriting.example_input, "application_id": "APP-twice"}
    outs = await asyncio.gather(*(flow.ainvoke(application, thread(f"t{n}")) for n in range(4)))
    assert {out["decision"]["amount"] for out in outs} == {application["amount"]}
    assert await one(saver, DRAWN, LINE) == application["amount"]


async def test_an_unknown_account_is_refused(saver: TransactionalSaver) -> None:
    with pytest.raises(InputInvalid, match="no account 'A-9999'"):
        await flow_on(saver).ainvoke({**underwriting.example_input, "account_id": "A-9999"}, thread("t"))


async def test_a_human_approves_large_amounts(saver: TransactionalSaver) -> None:
    flow = flow_on(saver)
    out = await flow.ainvoke({**underwriting.example_input, "amount": 60_000_00}, thread("t"))
    assert out["__interrupt__"][0].value["amount"] == 60_000_00
    assert await one(saver, DRAWN, LINE) == 0
    out = await flow.ainvoke(Command(resume="perhaps"), thread("t"))
    assert "not understood" in out["__interrupt__"][0].value["problem"]
    out = await flow.ainvoke(Command(resume={"approved": True, "amount": 50_000_00, "note": "ok"}), thread("t"))
    assert out["decision"]["outcome"] == "approve"
    assert out["decision"]["reviewed"]
    assert await one(saver, DRAWN, LINE) == 50_000_00


async def test_a_human_declines(saver: TransactionalSaver) -> None:
    flow = flow_on(saver)
    await flow.ainvoke({**underwriting.example_input, "amount": 60_000_00}, thread("t"))
    out = await flow.ainvoke(Command(resume=False), thread("t"))
    assert out["decision"]["outcome"] == "decline"
    assert await one(saver, DRAWN, LINE) == 0


async def test_an_approval_does_not_outlive_the_room_it_was_given_on(saver: TransactionalSaver) -> None:
    flow = flow_on(saver)
    await flow.ainvoke({**underwriting.example_input, "amount": 60_000_00}, thread("t"))
    async with saver.transaction() as tx:
        await tx.execute("UPDATE underwriting.credit_line SET drawn = credit_limit - $2 WHERE id = $1", LINE, 20_000_00)
    out = await flow.ainvoke(Command(resume=True), thread("t"))
    assert out["decision"]["amount"] == 20_000_00  # assessed again: small enough to need no human
    assert out["reassessments"] == 1
    assert await one(saver, "SELECT credit_limit - drawn FROM underwriting.credit_line WHERE id = $1", LINE) == 0


async def test_an_approval_does_not_outlive_what_the_applicant_was(saver: TransactionalSaver) -> None:
    """On a sanctions list while a human thinks: what they approve is planned anew, and declined."""
    flow = flow_on(saver)
    await flow.ainvoke({**underwriting.example_input, "amount": 60_000_00}, thread("t"))
    async with saver.transaction() as tx:
        await tx.execute("UPDATE underwriting.applicant SET sanctioned = true WHERE id = 'P-A-0001'")
    out = await flow.ainvoke(Command(resume=True), thread("t"))
    assert out["decision"]["outcome"] == "decline"
    assert "The applicant is on a sanctions list." in out["decision"]["reasons"]
    assert await one(saver, DRAWN, LINE) == 0
    steps = (await flow.areport(thread("t"))).steps
    assert [each["held"] for step in steps for each in step.guards] == [False, True]


async def test_racing_applications_never_exceed_the_line(saver: TransactionalSaver) -> None:
    flow = flow_on(saver)
    open_part, amount = 30_000_00, 12_000_00
    async with saver.transaction() as tx:
        await tx.execute("UPDATE underwriting.credit_line SET drawn = credit_limit - $2 WHERE id = $1", LINE, open_part)
    application = {**underwriting.example_input, "amount": amount}
    outs = await asyncio.gather(*(flow.ainvoke(application, thread(f"t{n}")) for n in range(6)))
    granted = sorted(out["decision"]["amount"] for out in outs)
    # Two in full, one gets the rest, and with nothing left the others are declined.
    assert granted == [0, 0, 0, 6_000_00, 12_000_00, 12_000_00]
    assert {out["decision"]["outcome"] for out in outs} == {"approve", "decline"}
    left = "SELECT credit_limit - drawn FROM underwriting.credit_line WHERE id = $1"
    assert await one(saver, left, LINE) == 0
    assert await one(saver, "SELECT count(*) FROM underwriting.decision") == 6
    assert await one(saver, "SELECT sum(amount) FROM underwriting.decision") == open_part


async def test_a_bureau_that_fails_once_is_asked_again(
    saver: TransactionalSaver, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/v1/reports/{next(seed.accounts()).national_id}"
    httpserver.expect_ordered_request(path).respond_with_data("", status=503)
    httpserver.expect_ordered_request(path).respond_with_json({"score": 800, "defaults": 0})
    monkeypatch.setattr("superstep.graphs.underwriting.checks.bureau_url", lambda: httpserver.url_for(""))
    out = await flow_on(saver).ainvoke(underwriting.example_input, thread("t"))
    assert out["bureau"]["score"] == 800
