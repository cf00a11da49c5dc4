"""A LangGraph checkpointer on Postgres whose super-steps are serializable transactions.

Modules, from the outside in:

    saver, bridge        LangGraph's interface, and its synchronous half
    step                 what nodes use
    loading, intake      what LangGraph loads, and what it hands over
    commit               the barrier
    superstep, attempt   snapshot, read log, staged writes
    run                  fencing, pending writes
    memo, calls          answers of language models, and what they cost
    engine, connections  what all runs share
    facts, codec, nodes  pure
    history, maintenance looking back; deleting, copying, pruning
    lifetime, connect, migrate, embedded   the database itself
"""

from superstep.checkpointer.saver.saver import TransactionalSaver
from superstep.checkpointer.step.step import Step, SyncStep, current_step
from superstep.checkpointer.threads.history import StepRecord, ThreadSummary

__all__ = ["Step", "StepRecord", "SyncStep", "ThreadSummary", "TransactionalSaver", "current_step"]
