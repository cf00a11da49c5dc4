"""What graph authors import: the step of the running node, and chat models by route."""

from __future__ import annotations

from checkpointer import current_step
from providers import chat_model
from runtime.wiring import join

__all__ = ["chat_model", "current_step"]

join()
