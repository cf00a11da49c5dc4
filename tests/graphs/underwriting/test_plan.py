"""The application as it is accepted, and the checks that the plan cannot leave out."""

from __future__ import annotations

from typing import Any

import pytest

from superstep import InputInvalid
from superstep.graphs import underwriting
from superstep.graphs.underwriting.plan import accept, all_checks


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
