"""The agent: LangChain's `create_agent` loop, each call of the model and each round of tools a super-step."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from langchain_core.messages import SystemMessage, ToolMessage

from superstep import ConfigError, chat_model, prompt
from superstep.graphs.support import rules
from superstep.graphs.support.tools import TOOLS, Account, change_address, refund_order, remember

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.messages import AnyMessage

    from superstep.graphs.support.state import State, Wish

__all__ = ["agent", "require_langchain", "wishes_in"]

_SAY_WHAT_THEY_DID = (change_address.name, remember.name)


def require_langchain() -> None:
    """Raise what to install, if it is missing.

    Raises:
        ConfigError: `langchain` is not installed.
    """
    if find_spec("langchain") is None:
        raise ConfigError("graphs.support needs langchain. Install it with: pip install 'superstep-runtime[agents]'")


async def agent(state: State) -> dict[str, Any]:
    """Have the agent answer, with the tools that it wants to use.

    A subgraph: what it has done is committed step by step, so after a crash it goes on where it was. The refunds that
    it asks for are wishes; the nodes after this one grant them or do not.
    """
    require_langchain()
    from langchain.agents import create_agent

    known = {
        "customer": state["customer"],
        "remembered": state["remembered"],
        "articles": state["articles"],
        "refunds_that_wait": [wish["order_id"] for wish in state["wishes"]],
    }
    ask = await prompt("support/agent")
    (instructions,) = (await ask.ainvoke({"known": known})).to_messages()
    # Made for each message: the prompt's version says which route answers. It costs a few milliseconds.
    loop: Any = create_agent(
        chat_model(ask, offline=rules.answer),
        TOOLS,
        system_prompt=SystemMessage(instructions.text),
        context_schema=Account,
    )
    account = Account(state["customer"]["id"])
    said = await loop.ainvoke({"messages": state["messages"]}, context=account)
    new = said["messages"][len(state["messages"]) :]
    if not (asked_for := wishes_in(new)):
        return {"messages": new, "reply": new[-1].text}
    # What a model makes of a refund that is not settled is not passed on: the customer reads what the other tools have
    # done, and from `assess`, `review` and `pay` how it ended.
    wishes = each_order_once([*state["wishes"], *asked_for])
    return {"messages": without_closing_words(new), "reply": done_by_tools(new), "wishes": wishes}


def wishes_in(messages: Sequence[AnyMessage]) -> list[Wish]:
    """The refunds that were asked for in these messages."""
    # The tool has answered, so the arguments are what its schema says.
    answers = [each for each in messages if isinstance(each, ToolMessage) and each.name == refund_order.name]
    return [each.artifact for each in answers if each.status == "success"]


def each_order_once(wishes: Sequence[Wish]) -> list[Wish]:
    """The first wish of each order."""
    first: dict[str, Wish] = {}
    for wish in wishes:
        first.setdefault(wish["order_id"], wish)
    return list(first.values())


def done_by_tools(messages: Sequence[AnyMessage]) -> str:
    """What tools have done, in their own words, which were committed with it."""
    said = [each.text for each in messages if isinstance(each, ToolMessage) and each.name in _SAY_WHAT_THEY_DID]
    return "\n".join(said)


def without_closing_words(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """The messages up to the last answer of a tool."""
    last = max(at for at, each in enumerate(messages) if isinstance(each, ToolMessage))
    return list(messages[: last + 1])
