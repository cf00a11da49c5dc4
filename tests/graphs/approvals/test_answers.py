"""What is read from answers, requests and offline rules."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from superstep.graphs import approvals
from superstep.graphs.approvals import rules, seed
from superstep.graphs.approvals.accept import read_request
from superstep.graphs.approvals.approve import TWO_APPROVALS_FROM, Ruling, needed, read_answer
from superstep.graphs.approvals.case import CaseDraft
from superstep.graphs.approvals.screen import identity
from superstep.providers import OfflineRequest
from superstep.runtime.faults import InputInvalid
from tests.graphs.approvals.conftest import ONE


def test_an_answer_says_who_and_what() -> None:
    assert read_answer({"by": "E-1", "approved": True}, ["E-1"]) == Ruling("E-1", approved=True, note="")
    assert read_answer({"by": "E-1", "approved": False, "note": "no"}, ["E-1"]) == Ruling(
        "E-1", approved=False, note="no"
    )


@pytest.mark.parametrize(
    "answer", [True, None, "yes", {}, {"approved": True}, {"by": "E-1"}, {"by": "E-2", "approved": True}, {"by": []}]
)
def test_answers_that_do_not_count(answer: Any) -> None:
    assert isinstance(read_answer(answer, ["E-1"]), str)
    assert isinstance(read_answer({"by": "E-1", "approved": True}, []), str)


@pytest.mark.parametrize(
    "change",
    [{"vendor_id": ""}, {"invoice": None}, {"requested_by": 1}, {"amount": 0}, {"amount": True}, {"amount": 1.5}],
)
def test_malformed_requests_are_refused_by_name(change: dict[str, Any]) -> None:
    with pytest.raises(InputInvalid, match=next(iter(change))):
        read_request({**ONE, **change})  # type: ignore[typeddict-item]


def test_two_examples_are_two_invoices() -> None:
    assert approvals.example_input()["invoice"] != approvals.example_input()["invoice"]


def test_two_people_from_a_limit_on() -> None:
    assert [needed(amount) for amount in (1, TWO_APPROVALS_FROM - 1, TWO_APPROVALS_FROM)] == [1, 1, 2]


def test_a_screening_is_named_by_whom_it_is_about_and_what_it_replaces() -> None:
    vendor = {"name": "A", "status": "active", "bank_account": "1"}
    named = [
        identity("V", vendor, replaces=""),  # type: ignore[arg-type]
        identity("V", vendor, replaces="x"),  # type: ignore[arg-type]
        identity("W", vendor, replaces=""),  # type: ignore[arg-type]
        identity("V", {**vendor, "bank_account": "2"}, replaces=""),  # type: ignore[arg-type]
    ]
    assert len(set(named)) == 4
    assert named[0] == identity("V", {**vendor, "status": "blocked"}, replaces="")  # type: ignore[arg-type]


def test_the_rules_name_an_account_that_is_new() -> None:
    def written(before: list[dict[str, Any]]) -> CaseDraft:
        facts = {
            "vendor": {"name": "A", "bank_account": "1"},
            "amount_cents": 100,
            "purpose": "x",
            "last_payments": before,
        }
        return CaseDraft.model_validate(
            rules.answer(OfflineRequest("r", (HumanMessage(json.dumps(facts)),), schema_name="CaseDraft", schema={}))
        )

    assert written([{"bank_account": "1"}]).risks == []
    assert "0-old" in written([{"bank_account": "0-old"}]).risks[0]
    assert "first payment" in written([]).risks[0]
    assert rules.answer(OfflineRequest("r", ())) is None


def test_the_seed_is_consistent() -> None:
    rows = seed.vendors()
    assert rows == seed.vendors()
    assert len({row[0] for row in rows}) == len({row[1] for row in rows}) == len({row[3] for row in rows}) == 40
