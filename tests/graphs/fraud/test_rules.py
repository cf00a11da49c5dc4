"""What is read from answers, offline rules and example events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage

from superstep.graphs.fraud import rules, seed
from superstep.graphs.fraud.human import read_answer
from superstep.graphs.fraud.plan import thresholds_of
from superstep.graphs.fraud.review import HUMAN_FROM, Verdict
from superstep.graphs.fraud.signals import SIGNALS, levels_of, point_of
from superstep.providers import OfflineRequest


def weighed(**reached: int) -> Verdict:
    said = {"count": 5, "sum": 100, "distinct": 3}
    facts = {"signals": {name: {**said, "reached": reached.get(name, 0)} for name in SIGNALS}}
    request = OfflineRequest("r", (HumanMessage(json.dumps(facts)),), schema_name="Verdict", schema={})
    return Verdict.model_validate(rules.answer(request))


def test_the_rules_name_what_has_reached_a_threshold() -> None:
    assert (weighed().risk, len(weighed().reasons)) == (10, 1)
    assert "5 times" in weighed(velocity=1).reasons[0]
    assert "1.00" in weighed(exposure=1).reasons[0]
    assert weighed(velocity=2).risk == HUMAN_FROM
    assert weighed(velocity=2, exposure=2, device=2).risk == 100
    assert rules.answer(OfflineRequest("r", ())) is None
    other = OfflineRequest("r", (HumanMessage("no facts"),), schema_name="Verdict", schema={})
    assert rules.answer(other) is None


@given(st.dictionaries(st.sampled_from(sorted(SIGNALS)), st.integers(0, 2)))
def test_more_thresholds_are_never_less_risk(reached: dict[str, int]) -> None:
    for name in reached:
        assert weighed(**{**reached, name: 2}).risk >= weighed(**reached).risk


@pytest.mark.parametrize("answer", [True, None, "yes", {}, {"block": True}, {"by": "E-1"}, {"by": "", "block": True}])
def test_answers_that_do_not_count(answer: Any) -> None:
    assert isinstance(read_answer(answer), str)
    assert read_answer({"by": "E-1", "block": True}) == {"by": "E-1", "block": True, "note": ""}


def test_levels_count_the_thresholds_that_are_reached() -> None:
    plan: Any = {"limit": 100, "thresholds": thresholds_of(100)}
    assert thresholds_of(100)["exposure"] == [80, 101]
    found = [
        levels_of({"exposure": {"point": 1, "measure": sum, "values": {}}}, plan)["exposure"]
        for sum in (79, 80, 100, 101)  # noqa: A001
    ]
    assert found == [0, 1, 1, 2]
    seen: Any = {"velocity": {"point": 3}, "device": {"point": 7}}
    assert point_of(seen) == 7


def test_the_examples_are_the_same_everywhere() -> None:
    given_events = seed.events()
    assert given_events == seed.events()
    assert [each["at"] for each in given_events] == sorted(each["at"] for each in given_events)
