"""Superstep: LangGraph super-steps as serializable Postgres transactions.

The names below are loaded on first use: `runtime.faults` is the floor that every library of the project stands on, so
importing it must not pull in the rest, and `runtime --help` should not wait for LangGraph.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.author import chat_model, current_step, prompt, prompt_sync, seed_prompts
    from runtime.faults import (
        BudgetExceeded,
        ConfigError,
        ConflictExhausted,
        DatabaseUnavailable,
        PromptConflict,
        PromptInvalid,
        PromptNotFound,
        ProviderExhausted,
        ProviderRejected,
        RuntimeFault,
        StagedWriteFailed,
        StaleRun,
        StepConflict,
        ThreadBusy,
    )
    from runtime.flow import Settings, transactional
    from runtime.report import RunReport

__all__ = [
    "chat_model",
    "current_step",
    "prompt",
    "prompt_sync",
    "seed_prompts",
    "transactional",
    "Settings",
    "RunReport",
    "RuntimeFault",
    "ConfigError",
    "ConflictExhausted",
    "DatabaseUnavailable",
    "StagedWriteFailed",
    "StaleRun",
    "StepConflict",
    "ThreadBusy",
    "ProviderExhausted",
    "ProviderRejected",
    "BudgetExceeded",
    "PromptNotFound",
    "PromptInvalid",
    "PromptConflict",
]

_HOME = {
    "chat_model": "author",
    "current_step": "author",
    "prompt": "author",
    "prompt_sync": "author",
    "seed_prompts": "author",
    "transactional": "flow",
    "Settings": "flow",
    "RunReport": "report",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME.get(name, 'faults')}"), name)
