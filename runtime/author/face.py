"""What graph authors import: the step of the running node, models by route, and prompts by name."""

from __future__ import annotations

from checkpointer import current_step
from providers import chat_model
from runtime.prompt_files import seed_prompts
from runtime.prompting import prompt, prompt_sync
from runtime.wiring import join

__all__ = ["chat_model", "current_step", "prompt", "prompt_sync", "seed_prompts"]

join()
