"""The refund itself, and the sentence that says so, in one commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langgraph.types import Command

from superstep import current_step
from superstep.graphs.support.assess import REVIEW_FROM
from superstep.graphs.support.records import money, settled

if TYPE_CHECKING:
    from superstep.graphs.support.state import State

__all__ = ["pay"]

PAY = "INSERT INTO support.refund (order_id, amount, reason, approved_by, thread_id) VALUES ($1, $2, $3, $4, $5)"
COUNT = "UPDATE support.customer SET refunds = refunds + 1 WHERE id = $1 AND status = 'open'"
TOUCH = "UPDATE support.purchase SET status = status WHERE id = $1 AND total = $2"
ADD = (
    "INSERT INTO support.refund_year AS y (customer_id, year, cap, refunded) "
    "SELECT id, $2, refund_cap, $3 FROM support.customer WHERE id = $1 "
    "ON CONFLICT (customer_id, year) DO UPDATE SET refunded = y.refunded + excluded.refunded, cap = excluded.cap"
)


async def pay(state: State) -> Command[str]:
    """Pay the refund that was assessed. Runs only while what it rests on holds: see `guard` in `flow`.

    Two conversations that pay at once: for one order, the second finds the refund of the first, since the guard has
    read that there is none. For two orders of one customer, both pass if the limit has room for both. Either way the
    second is assessed again, and says what it then finds.

    Why the rows of customer and order are written, too: of a refund that only reads them and a change that only writes
    them, serializable means that one came first, not which. The refund could be committed a moment after an account
    was closed. Both write the row, so whoever commits second has seen the first.

    May run many times; nothing but the staged writes of the last time takes effect.
    """
    step, refund, approval = current_step(), state["refund"], state.get("approval")
    assert refund is not None  # noqa: S101 - `assess` is the only way here
    order_id, amount, customer_id = refund["order_id"], refund["amount"], state["customer"]["id"]
    approved_by = approval["by"] if approval is not None and approval["refund"] == refund else None
    if amount >= REVIEW_FROM and approved_by is None:
        return Command(goto="review")
    reason = state["wishes"][0]["reason"]
    step.stage(PAY, order_id, amount, reason, approved_by, step.thread_id, expect_rows=1)
    step.stage(TOUCH, order_id, amount, expect_rows=1)
    step.stage(COUNT, customer_id, expect_rows=1)
    step.stage(ADD, customer_id, refund["year"], amount, expect_rows=1)
    return Command(update=settled(state, f"Order {order_id} is refunded: {money(amount)}."), goto="assess")
