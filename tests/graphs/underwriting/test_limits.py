"""The parts of the underwriting flow by themselves: limits, input, offline rules, example data, bureau."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from superstep.graphs import underwriting
from superstep.graphs.underwriting import bureau, rules, seed
from superstep.graphs.underwriting.decide import Proposal
from superstep.graphs.underwriting.limits import PRODUCTS, REVIEW_ABOVE, Facts, ceiling, enforce, needs_review, room
from superstep.graphs.underwriting.plan import PlanDraft, accept, all_checks
from superstep.graphs.underwriting.review import Ruling, read_answer
from superstep.providers import OfflineRequest
from superstep.runtime.faults import InputInvalid

if TYPE_CHECKING:
    from pytest_httpserver import HTTPServer

CENTS = st.integers(0, 10_000_000_00)


def facts(**changes: Any) -> Facts:
    """Facts of a sound applicant, with changes."""
    known: dict[str, Any] = {
        "product": "personal_loan",
        "amount": 10_000_00,
        "income": 100_000_00,
        "status": "open",
        "kyc": "verified",
        "sanctioned": False,
        "score": 750,
        "defaults": 0,
        "line_id": "L",
        "credit_limit": 50_000_00,
        "drawn": 0,
        "obligations": 0,
        **changes,
    }
    return Facts(
        application={
            "id": "APP-1",
            "account_id": "A",
            "product": known["product"],
            "amount": known["amount"],
            "purpose": "test",
        },
        account={"id": "A", "status": known["status"], "annual_income": known["income"]},
        identity={"kyc_status": known["kyc"], "sanctioned": known["sanctioned"]},
        bureau=None if known["score"] is None else {"score": known["score"], "defaults": known["defaults"]},
        exposure={
            "line_id": known["line_id"],
            "credit_limit": known["credit_limit"],
            "drawn": known["drawn"],
            "obligations": known["obligations"],
        },
    )


# --- limits ---


def test_a_sound_proposal_passes_unchanged() -> None:
    verdict = enforce("approve", 10_000_00, ["fine"], facts())
    assert (verdict.outcome, verdict.amount, verdict.reasons) == ("approve", 10_000_00, ("fine",))


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"sanctioned": True}, "decline"),
        ({"status": "closed"}, "decline"),
        ({"line_id": None, "credit_limit": 0}, "decline"),
        ({"score": 599}, "decline"),
        ({"defaults": 2}, "decline"),
        ({"drawn": 50_000_00}, "decline"),
        ({"drawn": 60_000_00}, "decline"),
        ({"obligations": 60_000_00}, "decline"),
        ({"kyc": "expired"}, "refer"),
        ({"kyc": "pending", "sanctioned": True}, "decline"),
        ({"score": None}, "approve"),
    ],
)
def test_hard_limits_overrule_an_approval(changes: dict[str, Any], outcome: str) -> None:
    verdict = enforce("approve", 10_000_00, [], facts(**changes))
    assert verdict.outcome == outcome
    assert (verdict.amount > 0) == (outcome == "approve")
    assert verdict.reasons or outcome == "approve"


@pytest.mark.parametrize("outcome", ["decline", "refer"])
def test_a_stricter_proposal_stands(outcome: str) -> None:
    verdict = enforce(outcome, 10_000_00, ["because"], facts())
    assert (verdict.outcome, verdict.amount, verdict.reasons) == (outcome, 0, ("because",))


def test_an_amount_is_reduced_to_what_is_open() -> None:
    verdict = enforce("approve", 10_000_00, [], facts(drawn=47_000_00))
    assert (verdict.outcome, verdict.amount) == ("approve", 3_000_00)
    assert "reduced" in verdict.reasons[0]


def test_an_amount_below_the_smallest_is_referred() -> None:
    assert enforce("approve", 100_00, [], facts()).outcome == "refer"
    assert enforce("approve", -5, [], facts()).amount == 0


@given(
    st.sampled_from(["approve", "decline", "refer", "?"]),
    st.integers(-(10**12), 10**12),
    st.fixed_dictionaries(
        {
            "product": st.sampled_from(sorted(PRODUCTS)),
            "amount": st.integers(1, 10_000_000_00),
            "income": CENTS,
            "credit_limit": CENTS,
            "drawn": CENTS,
            "obligations": CENTS,
            "score": st.none() | st.integers(300, 900),
            "defaults": st.integers(0, 4),
            "kyc": st.sampled_from(["verified", "expired"]),
            "sanctioned": st.booleans(),
        }
    ),
)
def test_no_proposal_exceeds_a_limit(outcome: str, amount: int, changes: dict[str, Any]) -> None:
    known = facts(**changes)
    verdict = enforce(outcome, amount, [], known)
    assert verdict.outcome in ("approve", "decline", "refer")
    assert (verdict.outcome == "approve") == (verdict.amount > 0)
    assert verdict.amount <= min(changes["amount"], room(changes["credit_limit"], changes["drawn"]), ceiling(known))
    if verdict.outcome == "approve":
        assert outcome == "approve"
        assert not changes["sanctioned"]


def test_review_is_needed_above_the_limit_only() -> None:
    assert not needs_review(REVIEW_ABOVE)
    assert needs_review(REVIEW_ABOVE + 1)


# --- input, plan, answers of a reviewer ---


def test_an_application_without_an_id_gets_a_fresh_one() -> None:
    first, second = (accept(underwriting.example_input) for _ in range(2))  # type: ignore[arg-type]
    assert first["id"] != second["id"]
    assert {**first, "id": ""} == {**second, "id": ""}


@pytest.mark.parametrize(
    "change",
    [{"account_id": ""}, {"account_id": None}, {"product": "yacht"}, {"amount": 0}, {"amount": 1.5}, {"amount": True}],
)
def test_malformed_input_is_refused_by_name(change: dict[str, Any]) -> None:
    with pytest.raises(InputInvalid, match=next(iter(change))):
        accept({**underwriting.example_input, **change})  # type: ignore[typeddict-item]


def test_the_model_cannot_leave_out_a_needed_check() -> None:
    assert all_checks([], 100_00) == ["exposure", "identity"]
    assert all_checks([], 500_00) == ["bureau", "exposure", "identity"]
    assert all_checks(["bureau"], 100_00) == ["bureau", "exposure", "identity"]


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        (True, Ruling(approved=True, amount=100, note="")),
        ("Approve", Ruling(approved=True, amount=100, note="")),
        ("no", Ruling(approved=False, amount=100, note="")),
        ({"approved": True, "amount": 60, "note": "less"}, Ruling(approved=True, amount=60, note="less")),
        ({"approved": False}, Ruling(approved=False, amount=100, note="")),
    ],
)
def test_answers_of_a_reviewer(answer: Any, read: Ruling) -> None:
    assert read_answer(answer, 100) == read


@pytest.mark.parametrize(
    "answer",
    ["maybe", 1, None, {}, {"approved": "yes"}, {"approved": True, "amount": 101}, {"approved": True, "amount": 0}],
)
def test_answers_that_are_not_understood(answer: Any) -> None:
    assert isinstance(read_answer(answer, 100), str)


# --- offline rules ---


def request_for(schema_name: str, content: dict[str, Any]) -> OfflineRequest:
    return OfflineRequest("r", (HumanMessage(json.dumps(content)),), schema_name=schema_name, schema={})


PROPOSAL_FACTS: dict[str, Any] = {
    "product": "card",
    "most_cents": 900_00,
    "identity": {"kyc_status": "verified"},
    "bureau": {"score": 800, "defaults": 0},
    "policy": [{"id": "p1", "text": "…"}, {"id": "p2", "text": "…"}, {"id": "p3", "text": "…"}],
}


def test_the_rules_plan_and_are_pure() -> None:
    asked = request_for("PlanDraft", {"product": "personal_loan", "amount_cents": 700_00, "purpose": "a car"})
    draft = PlanDraft.model_validate(rules.answer(asked))
    assert sorted(draft.checks) == ["bureau", "exposure", "identity"]
    assert "personal loan of 700 for a car" in draft.policy_question
    assert rules.answer(asked) == rules.answer(asked)


@pytest.mark.parametrize(
    ("change", "outcome", "amount"),
    [
        ({}, "approve", 900_00),
        ({"bureau": None}, "approve", 900_00),
        ({"bureau": {"score": 600, "defaults": 0}}, "approve", 450_00),
        ({"bureau": {"score": 500, "defaults": 0}}, "decline", 0),
        ({"most_cents": 50_00}, "decline", 0),
        ({"identity": {"kyc_status": "expired"}}, "refer", 0),
    ],
)
def test_the_rules_decide(change: dict[str, Any], outcome: str, amount: int) -> None:
    proposal = Proposal.model_validate(rules.answer(request_for("Proposal", {**PROPOSAL_FACTS, **change})))
    assert (proposal.outcome, proposal.amount_cents) == (outcome, amount)
    assert proposal.reasons[0].startswith("[offline]")
    assert proposal.cited_policies == ["p1", "p2"]


def test_the_rules_leave_other_requests_alone() -> None:
    assert rules.answer(request_for("Other", {})) is None
    assert rules.answer(OfflineRequest("r", ())) is None


# --- seed ---


def test_the_seed_is_deterministic_and_consistent() -> None:
    rows = list(seed.accounts())
    assert rows == list(seed.accounts())
    assert len({row.national_id for row in rows}) == len(rows) == seed.ACCOUNTS
    assert rows[0].id == underwriting.example_input["account_id"]
    assert all(0 <= drawn <= limit for row in rows for _, limit, drawn in row.lines)
    known = list(seed.passages())
    assert len({passage.id for passage in known}) == len(known) >= 60
    assert {passage.product for passage in known} == {*PRODUCTS, "any"}


# --- bureau, over real HTTP ---


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
