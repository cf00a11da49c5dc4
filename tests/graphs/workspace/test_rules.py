"""What the offline models answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from superstep.graphs.workspace import rules
from superstep.graphs.workspace.code import Patch
from superstep.graphs.workspace.review import Verdict
from superstep.providers import OfflineRequest

FILES = {"a.py": "N = 8\nM = 8\nx = 'old' # why\n"}


def patch(task: str, feedback: str = "") -> list[tuple[str, str]]:
    text = json.dumps({"task": task, "feedback": feedback, "files": FILES})
    given = rules.answer(OfflineRequest("r", (HumanMessage(text),), schema_name="Patch", schema={}))
    return [(each.old, each.new) for each in Patch.model_validate(given).edits]


@pytest.mark.parametrize(
    ("task", "feedback", "edits"),
    [
        ("Set N to 9 in a.py.", "", [("N = 8", "N = 9")]),
        ("Set N to 90 in a.py.", "FAILED (failures=1)", [("N = 8", "N = 45")]),
        ("Set N to 8 in a.py.", "", []),
        ("Set K to 9 in a.py.", "", []),
        ("Set N to 9 in b.py.", "", []),
        ("Replace `'old' # why` by `'new'` in a.py.", "", [("'old' # why", "'new'")]),
        ("Replace `M = 8` by `M = 9  # TODO: 10` in a.py.", "No TODO.", [("M = 8", "M = 9")]),
        ("Replace ` = 8` by ` = 9` in a.py.", "", []),
        ("Make it faster.", "", []),
    ],
)
def test_the_coder_understands_two_sentences(task: str, feedback: str, edits: list[tuple[str, str]]) -> None:
    assert patch(task, feedback) == edits


@pytest.mark.parametrize(("diff", "approved"), [("-a\n+b\n", True), ("-a\n+b # TODO\n", False), ("-# TODO\n", True)])
def test_the_reviewer_wants_nothing_unfinished(diff: str, approved: bool) -> None:
    given = rules.answer(OfflineRequest("r", (HumanMessage(diff),), schema_name="Verdict", schema={}))
    assert Verdict.model_validate(given).approved is approved


@pytest.mark.parametrize("request_", [OfflineRequest("r", ()), OfflineRequest("r", (), schema_name="Patch", schema={})])
def test_other_requests_are_left_alone(request_: Any) -> None:
    assert rules.answer(request_) is None
