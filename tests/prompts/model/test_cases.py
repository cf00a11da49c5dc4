"""Golden cases: the rules, and what may be written in a file."""

from __future__ import annotations

import pytest

from superstep.prompts import Case
from superstep.runtime.faults import PromptInvalid
from tests.support.prompts import HELLO, toml


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
