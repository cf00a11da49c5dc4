"""Chat models that count their calls."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field


class CountingModel(BaseChatModel):
    """Answers with the number of the call, so that every paid call has another answer; with a record of it, if any."""

    calls: list[str] = Field(default_factory=list)
    record: dict[str, Any] | None = None

    @property
    def _llm_type(self) -> str:
        return "counting"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        self.calls.append(str(messages[-1].content))
        message = AIMessage(
            content=f"answer {len(self.calls)}",
            usage_metadata={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
            response_metadata={"model_name": "gpt", **({} if self.record is None else {"routing": self.record})},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


class FailingModel(CountingModel):
    """Like `CountingModel`, but the calls with these numbers are not answered; those with a gate wait for it."""

    failing: set[int] = Field(default_factory=set)
    gates: dict[int, asyncio.Event] = Field(default_factory=dict)
    waiting: asyncio.Event = Field(default_factory=asyncio.Event)

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        result = super()._generate(messages)
        if len(self.calls) in self.failing:
            raise ConnectionError("no answer")
        return result

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        gate = self.gates.get(len(self.calls) + 1)
        result = self._generate(messages)
        if gate:
            self.waiting.set()
            await gate.wait()
        return result


RECORD: dict[str, Any] = {
    "route": "strong",
    "outcome": "answered",
    "deployment": "strong/anthropic:claude",
    "provider": "anthropic",
    "model": "claude",
    "tried": [{"deployment": "strong/openai:gpt", "why": "status 503", "status": 503, "ms": 12.5}],
    "ms": 412.5,
    "input_tokens": 20,
    "output_tokens": 4,
    "usd": 0.25,
    "prompt": "plan@2",
    "tags": ["simple"],
    "offline": False,
    "error": None,
}
FAILED = {"route": "strong", "outcome": "failed", "model": None, "usd": None, "error": "ProviderExhausted: nobody"}


def picky(model: BaseChatModel) -> Any:
    """A node that asks the model once and fails on its first answer."""

    async def decide(state: Any) -> Any:
        answer = (await model.ainvoke("well?")).content
        if answer == "answer 1":
            raise ValueError("not good enough")
        return {"seen": [answer]}

    return decide
