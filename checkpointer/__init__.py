"""A LangGraph checkpointer on Postgres whose super-steps are serializable transactions.

Modules, from the outside in: `saver` (LangGraph's interface), `bridge` (its synchronous half), `step` (what nodes use) ·
`loading`, `intake` (what LangGraph loads and hands over) · `commit` (the barrier) · `superstep`, `attempt` (snapshot and
read log) · `run` (fencing, pending writes) · `memo` (LLM answers) · `engine`, `connections` (shared state) · `facts`,
`codec`, `nodes` (pure) · `history`, `maintenance` · `lifetime`, `connect`, `migrate`, `embedded` (the database itself).
"""

from checkpointer.history import StepRecord, ThreadSummary
from checkpointer.saver import TransactionalSaver
from checkpointer.step import Step, SyncStep, current_step

__all__ = ["Step", "StepRecord", "SyncStep", "ThreadSummary", "TransactionalSaver", "current_step"]
