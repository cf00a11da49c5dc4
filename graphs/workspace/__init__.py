"""Workspace: coding agents and a reviewer on shared files, where what was reviewed and tested is what is merged.

    assign ─┬─ code ─ review ─┬─ land
            └─ code ─ review ─┘
                 ▲       ▲       │
                 └───────┴───────┘  edit again: conflict, changes asked for, failing tests; review again: another diff

Files are rows that are only added, each with the number of the merge that wrote it. An agent works on the files as of
one merge, for as long as it likes. `review` shows its change as a diff against the files of now. `land` merges: it
asks again what the files are, puts the agent's edits on them by a three-way merge, and commits only if

- the diff that results is the one that was approved,
- the tests pass on exactly the files that result,
- and no other merge came in between: then it starts over, on top of that one.

So no edit is ever lost, however many flows work on the same files. A change to the tests also needs a human.

Run it with `runtime run graphs.workspace`.
"""

from __future__ import annotations

import secrets
from typing import Any

from superstep.graphs.workspace.flow import build
from superstep.graphs.workspace.seed import setup

__all__ = ["build", "example_input", "graph", "setup"]

graph = build()


def example_input() -> dict[str, Any]:
    """Two tasks on one file, with other numbers each time, so that there is something to change."""
    percent = 5 + secrets.randbelow(50)
    return {"tasks": [f"Set VAT to {percent} in prices.py.", f"Set MAX_DISCOUNT to {percent} in prices.py."]}
