"""What every graph author imports: the saver, the step of the running node, and guards."""

from __future__ import annotations

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.author.guard import guard

__all__ = ["TransactionalSaver", "current_step", "guard"]
