"""A step whose models needed a second provider, and whose prompts are known; the first of two calls fails."""

from typing import Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.graph import END, START, StateGraph

from superstep.checkpointer import current_step, record_call

LEFT = {"deployment": "strong/openai:gpt", "why": "status 503", "status": 503, "ms": 1.0}
RECORD = {
    "route": "strong",
    "outcome": "answered",
    "deployment": "strong/anthropic:claude",
    "model": "claude",
    "tried": [LEFT, LEFT],
    "usd": 0.00213,
}


class Routed(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "routed"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("yes", response_metadata={"routing": RECORD}))])


class State(TypedDict, total=False):
    said: str


example_input = {"said": ""}


async def decide(state: State) -> State:
    await record_call({"route": "strong", "outcome": "failed", "tried": [LEFT]})
    current_step().uses("verify@3")
    current_step().uses("plan@2")
    return {"said": str((await Routed().ainvoke("well?")).content)}


def tell(state: State) -> State:
    return {"said": state["said"] + "!"}


builder = StateGraph(State)
builder.add_node("decide", decide)
builder.add_node("tell", tell)
builder.add_edge(START, "decide")
builder.add_edge("decide", "tell")
builder.add_edge("tell", END)
