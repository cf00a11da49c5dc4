"""First node: take the customer's message, and read what the agent should know for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import HumanMessage
from langgraph.config import get_store

from superstep import ConfigError, InputInvalid, MemoryStore, current_step

if TYPE_CHECKING:
    from superstep.graphs.support.state import Article, Customer, State

__all__ = ["memory", "namespace", "receive"]

ARTICLES = 2
MEMORIES = 5


async def receive(state: State) -> dict[str, Any]:
    """Take the message in. Refunds that an earlier message asked for and that wait for a supervisor stay wishes.

    Raises:
        InputInvalid: The input is malformed, the customer does not exist, or the conversation is another customer's.
    """
    customer, message = await _customer_of(state), _text(state, "message")
    # Only shown to the agent: another conversation that remembers something meanwhile makes nothing run again.
    known = await memory().shown().asearch(namespace(customer["id"]), query=message, limit=MEMORIES)
    return {
        "customer": customer,
        "messages": [HumanMessage(message)],
        "remembered": sorted(each.value["text"] for each in known),
        "articles": await _articles(message),
        "reply": "",
        "wishes": state.get("wishes", []),
    }


def memory() -> MemoryStore:
    """The store that the graph runs with.

    Raises:
        ConfigError: The graph was compiled without the saver's store.
    """
    store = get_store()
    if not isinstance(store, MemoryStore):
        raise ConfigError("graphs.support needs the saver's memory: compile it with compile(…, store=saver.store).")
    return store


def namespace(customer_id: str) -> tuple[str, ...]:
    """Where the memories of a customer are."""
    return ("support", "customers", customer_id)


async def _customer_of(state: State) -> Customer:
    customer_id = _text(state, "customer_id")
    row = await current_step().fetchrow("SELECT id, name FROM support.customer WHERE id = $1", customer_id)
    if row is None:
        raise InputInvalid(f"There is no customer {customer_id!r}. Example customers: C-001 to C-020.")
    customer: Customer = {"id": row["id"], "name": row["name"]}
    if state.get("customer", customer)["id"] != customer_id:
        raise InputInvalid(f"This conversation is with {state['customer']['id']}. Use a thread of its own.")
    return customer


async def _articles(message: str) -> list[Article]:
    """The help articles nearest to the message, in the snapshot of the step."""
    rows = await current_step().nearest("support.article", text=message, k=ARTICLES)
    return [{"id": row["id"], "content": row["content"]} for row in rows]


def _text(state: State, name: str) -> str:
    value = cast("dict[str, Any]", state).get(name)
    if not isinstance(value, str) or not value.strip():
        raise InputInvalid(f"The input needs {name!r}, a text; it is {value!r}.")
    return value
