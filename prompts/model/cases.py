"""Golden cases as files have them: what to render, and the rules (`prompts.model.rules`) that the answer must meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from superstep.prompts.model.rules import RULES
from superstep.prompts.model.values import json_data
from superstep.prompts.model.variables import bind, did_you_mean
from superstep.runtime.faults import PromptInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from superstep.prompts.model.content import Variable

__all__ = ["Case", "read_cases"]


@dataclass(frozen=True, slots=True)
class Case:
    """One golden case.

    Attributes:
        name: to call it by.
        variables: values to render with, as JSON data.
        expect: what each rule wants, by rule.
    """

    name: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    expect: Mapping[str, Any] = field(default_factory=dict)


def read_cases(given: Any, variables: Mapping[str, Variable], file: str) -> tuple[Case, ...]:
    """Check the `[[cases]]` of a file: their variables must fit the prompt's, their rules must be known ones.

    Raises:
        PromptInvalid: One is wrong. The message names it.
    """
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise PromptInvalid(f"{file}, cases: must be a list of tables, written [[cases]].")
    return tuple(_case(each, variables, f"{file}, cases[{at}]", at) for at, each in enumerate(given, start=1))


def _case(given: Mapping[str, Any], variables: Mapping[str, Variable], where: str, at: int) -> Case:
    if unknown := set(given) - {"name", "variables", "expect"}:
        raise PromptInvalid(f"{where}: has an unknown key {min(unknown)!r}. Keys are name, variables and expect.")
    name, values, expect = given.get("name", f"case {at}"), given.get("variables", {}), given.get("expect", {})
    if not isinstance(name, str) or not isinstance(values, dict) or not isinstance(expect, dict) or not expect:
        raise PromptInvalid(f"{where}: needs `expect`, a table of rules, and may have a name and a table of variables.")
    try:
        values, expect = json_data(values), json_data(expect)
    except (TypeError, ValueError) as error:
        raise PromptInvalid(f"{where}: has something that JSON cannot hold.") from error
    problems = bind(variables, values)[1]
    for rule, wanted in expect.items():
        if rule not in RULES:
            problems.append(f"there is no rule {rule!r}{did_you_mean(rule, list(RULES))}; rules are {', '.join(RULES)}")
        elif problem := RULES[rule].problem(wanted):
            problems.append(f"{rule} {problem}")
    if problems:
        raise PromptInvalid(f"{where} ({name}): {'; '.join(problems)}.")
    return Case(name, values, expect)
