"""Answers of a reviewer."""

from __future__ import annotations

from typing import Any

import pytest

from superstep.graphs.underwriting.review import Ruling, read_answer


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
