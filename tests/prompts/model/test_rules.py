"""Rules that an answer must meet."""

from __future__ import annotations

import time
from typing import Any

import pytest

from superstep.prompts import Answer, failures
from superstep.prompts.model import rules


@pytest.mark.parametrize(
    ("rule", "wanted", "good", "bad"),
    [
        ("contains", "a.b", ["xa.bx"], ["axb", ""]),
        ("contains", ["a", "b"], ["b a"], ["a", "b"]),
        ("not_contains", "a", ["b", ""], ["xax"]),
        ("not_contains", ["a", "b"], ["c"], ["xb", "a"]),
        ("equals", "yes", ["yes", " yes\n"], ["Yes", "yes."]),
        ("regex", r"(?i)^a+\d$", ["AA1"], ["a1b", "é"]),
        ("regex", "é\n", ["é\n"], ["e\n"]),
        ("json_equals", {"a": [1, {"b": None}]}, ['{"a": [1.0, {"b": null}]}', '```json\n{"a":[1,{"b":null}]}\n```'],
         ['{"a": [1, {"b": null}], "c": 1}', '{"a": [1]}', "{", "", '{"a": [true, {"b": null}]}']),
        ("json_equals", True, ["true"], ["1", '"true"']),
        ("json_includes", {"a": {"b": 1}}, ['{"a": {"b": 1, "c": 2}, "d": 3}'],
         ['{"a": {"c": 1}}', '{"a": 1}', "[]", '{"a": {"b": 2}}', "no"]),
        ("json_includes", [1], ["[1]"], ["[1, 2]"]),
        ("max_tokens", 2, ["12345678"], ["123456789"]),
    ],
)  # fmt: skip
def test_rules(rule: str, wanted: Any, good: list[str], bad: list[str]) -> None:
    for text in good:
        assert failures({rule: wanted}, Answer(text)) == []
    for text in bad:
        [line] = failures({rule: wanted}, Answer(text))
        assert line.startswith(f"{rule}: ")


def test_counted_tokens_are_better_than_guessed_ones() -> None:
    assert failures({"max_tokens": 2}, Answer("x" * 100, tokens=2)) == []
    assert failures({"max_tokens": 2}, Answer("x", tokens=3)) == ["max_tokens: 3 tokens, at most 2 wanted"]


def test_every_rule_that_fails_is_told() -> None:
    expect = {"contains": ["a", "b"], "equals": "c", "not_contains": "x"}
    assert failures(expect, Answer("x")) == [
        "contains: 'a', 'b' not in the answer",
        "equals: the answer is not 'c'",
        "not_contains: 'x' in the answer",
    ]


def test_a_pattern_that_takes_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "_SEARCH_SECONDS", 0.3)
    started = time.monotonic()
    [line] = failures({"regex": "(a+)+$"}, Answer("a" * 60 + "!"))
    assert "was not decided" in line
    assert time.monotonic() - started < 60  # it would take thousands of years
