"""Declarations: what is refused, and when two mean the same."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from superstep.checkpointer.derived.aggregates import Aggregate
from superstep.runtime.faults import ConfigError

GOOD: dict[str, Any] = {"events": "pay", "key": "card", "value": "amount", "compute": "sum"}


def test_a_declaration_comes_back_from_what_is_stored() -> None:
    more: dict[str, Any] = {"compute": ["sum", "top"], "where": {"op": ["r", "c"], "n": 7, "ok": True, "x": 0.5}}
    one = Aggregate.of("v", **{**GOOD, **more}, window="24h", step="1h", lateness="0s", top=3)
    again = Aggregate.parsed("v", json.loads(json.dumps(one.spec)), str)
    assert again == one
    assert again.fingerprint == one.fingerprint
    assert one.window == timedelta(hours=24)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"compute": "median"}, "no function 'median'"),
        ({"compute": []}, "compute"),
        ({"value": None}, "value"),
        ({"key": ["a", "a"]}, "twice"),
        ({"key": "a..b"}, "path"),
        ({"events": ""}, "events"),
        ({"window": "1 month"}, "length of time"),
        ({"window": "0s"}, "longer than nothing"),
        ({"window": "1h", "step": "7m"}, "divide"),
        ({"step": "7m"}, "needs a window"),
        ({"lateness": "7m"}, "needs a window"),
        ({"top": 0}, "whole number"),
        ({"where": "op = 'c'"}, "table of paths"),
        ({"where": {"op": []}}, "op must be a text"),
        ({"where": {"op": {"a": 1}}}, "op must be a text"),
        ({"where": {"": "c"}}, "path"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(wrong: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        Aggregate.of("v", **{**GOOD, **wrong})


def test_unknown_keys_and_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"here\.widow is unknown"):
        Aggregate.parsed("v", {**GOOD, "widow": "1h"}, lambda key: f"here.{key}")
    with pytest.raises(ConfigError, match="name"):
        Aggregate.of("a b", **GOOD)


def test_what_is_kept_alike_means_the_same() -> None:
    base = Aggregate.of("v", **GOOD).fingerprint
    assert Aggregate.of("w", **{**GOOD, "compute": ["avg", "sum"]}).fingerprint == base
    top = {**GOOD, "compute": "top"}
    assert Aggregate.of("v", **top, top=3).fingerprint == Aggregate.of("v", **top, top=9).fingerprint
    for other in (
        {"window": "1h"},
        {"key": "user"},
        {"value": "fee"},
        {"events": ["pay", "refund"]},
        {"compute": "last"},
    ):
        assert Aggregate.of("v", **{**GOOD, **other}).fingerprint != base
    assert (
        Aggregate.of("v", **GOOD, window="1h", step="1m").fingerprint
        != Aggregate.of("v", **GOOD, window="1h", step="2m").fingerprint
    )
