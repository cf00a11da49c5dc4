"""Rules that an answer must meet. Pure, but for `regex`, which needs a process to be stopped in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Answer", "RULES", "AnswerRule", "failures"]

_SEARCH_SECONDS = 5.0
_SEARCH = "import json, re, sys; pattern, text = json.load(sys.stdin); sys.exit(re.search(pattern, text) is None)"
_FENCED = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said, and in how many tokens (`None` where they were not counted)."""

    text: str
    tokens: int | None = None


def failures(expect: Mapping[str, Any], answer: Answer) -> list[str]:
    """What the answer does not meet, one line a rule; nothing if it meets them all."""
    return [f"{rule}: {found}" for rule, wanted in expect.items() if (found := RULES[rule].check(wanted, answer))]


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """How one rule is checked.

    Attributes:
        check: what is wrong with an answer, or `None`.
        problem: what is wrong with the rule's own argument, or `None`.
    """

    check: Callable[[Any, Answer], str | None]
    problem: Callable[[Any], str | None]


def _contains(wanted: str | list[str], answer: Answer) -> str | None:
    lacking = [each for each in _listed(wanted) if each not in answer.text]
    return f"{_quoted(lacking)} not in the answer" if lacking else None


def _not_contains(unwanted: str | list[str], answer: Answer) -> str | None:
    there = [each for each in _listed(unwanted) if each in answer.text]
    return f"{_quoted(there)} in the answer" if there else None


def _equals(wanted: str, answer: Answer) -> str | None:
    return None if answer.text.strip() == wanted.strip() else f"the answer is not {wanted.strip()!r}"


def _regex(pattern: str, answer: Answer) -> str | None:
    """Search in a process of its own: some patterns take for ever on some texts, and nothing else can stop them."""
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and program; pattern and text are its input
            [sys.executable, "-I", "-c", _SEARCH],
            input=json.dumps([pattern, answer.text]).encode(),
            capture_output=True,
            timeout=_SEARCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{pattern!r} was not decided in {_SEARCH_SECONDS:.0f} s; make the pattern simpler"
    return None if done.returncode == 0 else f"{pattern!r} does not match"


def _json_equals(wanted: Any, answer: Answer) -> str | None:
    found, problem = _parsed(answer.text)
    return problem or (None if _same(wanted, found) else f"the answer is not {_short(wanted)}")


def _json_includes(wanted: Any, answer: Answer) -> str | None:
    found, problem = _parsed(answer.text)
    return problem or _lacking(wanted, found, "the answer")


def _max_tokens(most: int, answer: Answer) -> str | None:
    """Where tokens were not counted, four characters are taken for one."""
    tokens = answer.tokens if answer.tokens is not None else -(-len(answer.text) // 4)
    return f"{tokens} tokens, at most {most} wanted" if tokens > most else None


def _parsed(text: str) -> tuple[Any, str | None]:
    """The JSON of an answer, with or without the fence that models like to put around it."""
    fenced = _FENCED.fullmatch(text.strip())
    try:
        return json.loads(fenced[1] if fenced else text), None
    except ValueError:
        return None, "the answer is not JSON"


def _same(wanted: Any, found: Any) -> bool:
    """Equal as JSON: true is not 1, and 1.0 is 1."""
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    if isinstance(wanted, dict) and isinstance(found, dict):
        return wanted.keys() == found.keys() and all(_same(wanted[key], found[key]) for key in wanted)
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(_same, wanted, found))
    return bool(wanted == found)


def _lacking(wanted: Any, found: Any, where: str) -> str | None:
    """What an answer lacks: objects may have more keys than wanted, everything else must be the same."""
    if not isinstance(wanted, dict):
        return None if _same(wanted, found) else f"{where} is not {_short(wanted)}"
    if not isinstance(found, dict):
        return f"{where} is not an object"
    missing = [key for key in wanted if key not in found]
    if missing:
        return f"{where} has no {_quoted(missing)}"
    lacking = (_lacking(wanted[key], found[key], f"{where}.{key}") for key in wanted)
    return next((each for each in lacking if each), None)


def _listed(wanted: str | list[str]) -> list[str]:
    return [wanted] if isinstance(wanted, str) else wanted


def _quoted(texts: list[str]) -> str:
    return ", ".join(repr(each) for each in texts)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def _texts(wanted: Any) -> str | None:
    fine = _listed(wanted) if isinstance(wanted, str | list) else []
    return None if fine and all(isinstance(each, str) and each for each in fine) else "must be a text or a list of them"


def _text(wanted: Any) -> str | None:
    return None if isinstance(wanted, str) else "must be a text"


def _pattern(wanted: Any) -> str | None:
    if not isinstance(wanted, str):
        return "must be a text"
    try:
        re.compile(wanted)
    except re.error as error:
        return f"is not a regular expression: {error}"
    return None


def _number(wanted: Any) -> str | None:
    fine = isinstance(wanted, int) and not isinstance(wanted, bool) and wanted > 0
    return None if fine else "must be a number of tokens, 1 or more"


def _anything(_: Any) -> str | None:
    return None


RULES: Mapping[str, AnswerRule] = {
    "contains": AnswerRule(_contains, _texts),
    "not_contains": AnswerRule(_not_contains, _texts),
    "equals": AnswerRule(_equals, _text),
    "regex": AnswerRule(_regex, _pattern),
    "json_equals": AnswerRule(_json_equals, _anything),
    "json_includes": AnswerRule(_json_includes, _anything),
    "max_tokens": AnswerRule(_max_tokens, _number),
}
