"""The model of both sides: the offline provider with rules that think for a while, and a log of what it was asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import BaseModel, Field

from superstep.providers import OfflineReply, ToolCall, chat_model

if TYPE_CHECKING:
    from superstep.providers import OfflineRequest

__all__ = ["Instruction", "Model", "Proposal"]


Answer = TypeVar("Answer", bound=BaseModel)


class Proposal(BaseModel):
    """What the planner wants of the model."""

    approve: bool = Field(description="Whether the amount may be drawn.")
    reason: str = Field(description="Why, in one sentence.")


class Instruction(BaseModel):
    """What the executor wants of the model."""

    reference: str = Field(description="The reference text of the payment.")


class Model:
    """Asks, answers and counts.

    The count is the provider's: each request that it began to answer, whatever became of the answer. An answer that is
    served from a store was not asked for, and is not in it.

    Args:
        thinking: Seconds that an answer takes.

    Attributes:
        asked: what was asked for, a schema's name for each request.
    """

    def __init__(self, thinking: float) -> None:
        self.thinking = thinking
        self.asked: list[str] = []

    async def propose(self, facts: dict[str, Any]) -> Proposal:
        """Ask whether the amount may be drawn, given the account's limits and what is drawn."""
        return await self._ask(Proposal, "May this be drawn?", facts)

    async def instruct(self, facts: dict[str, Any]) -> Instruction:
        """Ask for the reference text of a payment."""
        return await self._ask(Instruction, "Word the reference of this payment.", facts)

    async def _ask(self, schema: type[Answer], question: str, facts: dict[str, Any]) -> Answer:
        model = chat_model(offline=self).with_structured_output(schema)
        return cast("Answer", await model.ainvoke([("system", question), ("human", json.dumps(facts))]))

    def __call__(self, request: OfflineRequest) -> OfflineReply:
        """Answer a request: the offline provider's side."""
        facts, name = json.loads(request.text), str(request.schema_name)
        self.asked.append(name)
        answer = _proposal(facts) if name == Proposal.__name__ else {"reference": f"[offline] {facts['flow']}"}
        return OfflineReply(tool_calls=(ToolCall(name, answer),), seconds=self.thinking)


def _proposal(facts: dict[str, Any]) -> dict[str, Any]:
    room = min(facts["credit_limit"] - facts["drawn"], facts["most_today"] - facts["today"])
    return {"approve": facts["amount"] <= room, "reason": f"[offline] {room} can be drawn."}
