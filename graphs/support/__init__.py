"""Support: an agent that remembers, acts on the account, and says of a refund only what was committed.

    receive ─ agent ─ assess ⟲ ─┬─────────────────────────────────── pay
                         ▲      └─ review (a human, large amounts) ─┘ │
                         └── next refund, or what it rests on has moved

`receive` reads help articles and what is remembered of the customer, `agent` is a `create_agent` loop whose tools read
and stage through `current_step()`. A refund is more than one tool call: the agent only asks for it, and the flow
assesses it, has a supervisor review a large one, and pays it in a guarded node. Whatever happens in between:

- an order is refunded once;
- refunds of a customer never exceed the yearly limit, and a closed account gets none;
- the customer reads "refunded" only with the refund of the same commit;
- what a customer says twice is one memory.

Run it with `runtime run graphs.support`. `setup` makes its tables.
"""

from __future__ import annotations

from typing import Any

from superstep.graphs.support.flow import build
from superstep.graphs.support.seed import setup

__all__ = ["build", "example_input", "graph", "setup"]

graph = build()

# On the same thread a second run is the next message of the same conversation.
example_input: dict[str, Any] = {
    "customer_id": "C-001",
    "message": "My kettle arrived broken, please refund order O-1002. I prefer answers by e-mail.",
}
