"""What graph authors import: the saver, the step of the running node, models by route, and prompts by name.

Importing this joins the libraries (`wiring`), so whatever an author starts with, searches by text are embedded and
calls of models are recorded.
"""

from __future__ import annotations

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.providers import chat_model, embedder
from superstep.runtime.author.guard import guard
from superstep.runtime.author.prompts import prompt, prompt_sync
from superstep.runtime.author.seed import seed_prompts, seed_tables
from superstep.runtime.wiring import join

__all__ = [
    "TransactionalSaver",
    "chat_model",
    "current_step",
    "embedder",
    "guard",
    "prompt",
    "prompt_sync",
    "seed_prompts",
    "seed_tables",
]

join()
