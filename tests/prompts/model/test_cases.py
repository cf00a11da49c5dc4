"""Golden cases: the rules, and what may be written in a file."""

from __future__ import annotations

import time
from typing import Any

import pytest

from superstep.prompts import Answer, Case, failures
from superstep.prompts.model import rules
from superstep.runtime.faults import PromptInvalid
from tests.support.prompts import HELLO, toml


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


def test_cases_are_read_and_kept_out_of_the_content() -> None:
    made = toml(HELLO + '[[cases]]\nvariables = {who = "Ada"}\nexpect = {contains = "Ada", max_tokens = 3}')
    assert made.cases == (Case("case 1", {"who": "Ada"}, {"contains": "Ada", "max_tokens": 3}),)
    assert made.content.digest == toml(HELLO).content.digest


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("expect = {contains = 'x'}", "who is missing"),
        ("variables = {who = 1}\nexpect = {contains = 'x'}", "who must be str, not int"),
        ("variables = {who = 'x', b = 1}\nexpect = {contains = 'x'}", "b is not a variable"),
        ("variables = {who = 'x'}", "needs `expect`"),
        ("variables = {who = 'x'}\nexpect = {}", "needs `expect`"),
        ("variables = {who = 'x'}\nexpect = {contain = 'x'}", r"no rule 'contain' \(did you mean 'contains'\?\)"),
        ("variables = {who = 'x'}\nexpect = {contains = 1}", "contains must be a text or a list"),
        ("variables = {who = 'x'}\nexpect = {contains = []}", "contains must be a text or a list"),
        ("variables = {who = 'x'}\nexpect = {contains = ['']}", "contains must be a text or a list"),
        ("variables = {who = 'x'}\nexpect = {equals = 1}", "equals must be a text"),
        ("variables = {who = 'x'}\nexpect = {regex = '('}", "regex is not a regular expression"),
        ("variables = {who = 'x'}\nexpect = {max_tokens = 0}", "max_tokens must be a number"),
        ("variables = {who = 'x'}\nexpect = {max_tokens = true}", "max_tokens must be a number"),
        ("variables = {who = 'x'}\nexpect = {json_equals = nan}", "JSON cannot hold"),
        ("variables = {who = 'x'}\nexpects = {contains = 'x'}", "unknown key 'expects'"),
    ],
)
def test_mistakes(text: str, says: str) -> None:
    with pytest.raises(PromptInvalid, match=rf"p\.toml, cases\[1\].*{says}"):
        toml(f"{HELLO}\n[[cases]]\n{text}")
    with pytest.raises(PromptInvalid, match=r"p\.toml, cases: must be a list"):
        toml(f"cases = 1\n{HELLO}")
