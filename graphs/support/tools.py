"""What the agent can do. Tools read and stage through `current_step()`: their effects commit with their answers.

Whose account it is, they get from the flow, never from the model. Tools that a model calls together run side by side in
one super-step and are serial: one that reads what another has staged runs again on top of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeAlias

from langchain_core.tools import tool
from langgraph.prebuilt import ToolRuntime

from superstep import current_step
from superstep.graphs.support.receive import memory, namespace
from superstep.graphs.support.state import Wish  # noqa: TC001 - LangChain reads the annotations

__all__ = ["TOOLS", "Account", "change_address", "look_up_orders", "refund_order", "remember"]


@dataclass(frozen=True, slots=True)
class Account:
    """Whose account the tools act on: LangGraph's context of the agent."""

    customer_id: str


OnAccount: TypeAlias = ToolRuntime[Account]


@tool
async def look_up_orders(runtime: OnAccount) -> str:
    """Look up the customer's orders: number, item, total in cents, status, and whether it was refunded."""
    rows = await current_step().fetch(
        "SELECT o.id, o.item, o.total, o.status, r.order_id IS NOT NULL AS refunded FROM support.purchase o "
        "LEFT JOIN support.refund r ON r.order_id = o.id WHERE o.customer_id = $1 ORDER BY o.id",
        runtime.context.customer_id,
    )
    return json.dumps([dict(row) for row in rows])


@tool
async def change_address(address: str, runtime: OnAccount) -> str:
    """Change the address that parcels go to."""
    step, customer_id = current_step(), runtime.context.customer_id
    status = await step.fetchval("SELECT status FROM support.customer WHERE id = $1", customer_id)
    if status != "open":
        return f"The account is {status}. Nothing was changed."
    change = "UPDATE support.customer SET address = $2 WHERE id = $1 AND status = 'open'"
    step.stage(change, customer_id, address, expect_rows=1)
    return f"The address is now: {address}"


@tool
async def remember(preference: str, runtime: OnAccount) -> str:
    """Remember for later conversations how the customer wants things done, in one short sentence."""
    await memory().aremember(namespace(runtime.context.customer_id), {"text": preference})
    return f"Remembered: {preference}"


# `return_direct`: after it the flow goes on, not the model. What became of it, `pay` says, which also does it.
@tool(return_direct=True, response_format="content_and_artifact")
async def refund_order(order_id: str, reason: str) -> tuple[str, Wish]:
    """Ask for the refund of a whole order. The customer is told the outcome in a message of its own."""
    return f"The refund of {order_id} is asked for, not paid yet.", {"order_id": order_id, "reason": reason}


TOOLS = (look_up_orders, change_address, remember, refund_order)
