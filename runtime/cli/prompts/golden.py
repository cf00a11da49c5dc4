"""Golden cases of a prompt: ask a model, then compare by rule."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from superstep.prompts import Answer, failures
from superstep.runtime.author.models import chat_model
from superstep.runtime.faults import PromptInvalid
from superstep.runtime.formats import RECORD_KEY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import AIMessage

    from superstep.prompts import Case, Version

__all__ = ["CaseAnswer", "CaseResult", "compare", "run_cases"]

AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class CaseAnswer:
    """The answer to one case.

    Attributes:
        case: what was asked, and the rules for the answer.
        answer: text and tokens of the answer.
        ms: milliseconds from the request to the answer.
        model: the model that answered, or "?".
        offline: whether no vendor's model answered.
    """

    case: Case
    answer: Answer
    ms: float
    model: str
    offline: bool


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case with what its answer does not meet."""

    given: CaseAnswer
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the answer meets every rule."""
        return not self.failures


async def run_cases(version: Version, route: str | None) -> list[CaseAnswer]:
    """Ask a route all golden cases of a version, a few at a time.

    Args:
        version: With its cases.
        route: The route; by default the version's own, else `default`.

    Raises:
        PromptInvalid: The version has no cases, or cannot be rendered with one.
        ProviderExhausted: The route does not answer.
    """
    if not version.cases:
        raise PromptInvalid(
            f"{version.title} has no golden cases. Write [[cases]] in its file, and add it again with "
            f"`runtime prompts add`."
        )
    prompt = version.prompt
    model = chat_model(route or prompt.route or "default", **prompt.parameters)
    free = asyncio.Semaphore(AT_ONCE)

    async def ask(case: Case) -> CaseAnswer:
        async with free:
            started = time.perf_counter()
            message = await model.ainvoke(prompt.invoke(case.variables))
            return _case_answer(case, message, (time.perf_counter() - started) * 1000)

    return list(await asyncio.gather(*(ask(case) for case in version.cases)))


def compare(answers: Sequence[CaseAnswer]) -> list[CaseResult]:
    """Check every answer by the rules of its case. Not for the event loop: a rule may start a process."""
    return [CaseResult(each, tuple(failures(each.case.expect, each.answer))) for each in answers]


def _case_answer(case: Case, message: AIMessage, ms: float) -> CaseAnswer:
    tokens = message.usage_metadata["output_tokens"] if message.usage_metadata else None
    record = message.response_metadata
    model = str(record.get("model_name") or record.get("model") or "?")
    offline = bool(record.get(RECORD_KEY, {}).get("offline")) or model == "offline"
    return CaseAnswer(case, Answer(message.text, tokens), round(ms, 1), model, offline)
