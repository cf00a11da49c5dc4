"""Superstep: LangGraph super-steps as serializable Postgres transactions.

This is the public face: whatever a program needs is imported from here. The parts behind it are `runtime` (author
API, `transactional`, command line), the libraries `checkpointer`, `providers` and `prompts`, and the flows of `graphs`.

The names below are loaded when they are first used, so `import superstep` costs nothing: no driver, no SDK, no
LangGraph.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superstep.checkpointer import Step, StepRecord, SyncStep, ThreadSummary
    from superstep.providers import OfflineReply, OfflineRequest, ToolCall
    from superstep.runtime.author.face import (
        TransactionalSaver,
        chat_model,
        current_step,
        embedder,
        prompt,
        prompt_sync,
        seed_prompts,
    )
    from superstep.runtime.faults import (
        BudgetExceeded,
        ConfigError,
        ConflictExhausted,
        DatabaseUnavailable,
        ExtensionMissing,
        GraphInvalid,
        GraphNotFound,
        IllegalTransition,
        InputInvalid,
        LoopUnavailable,
        NoActiveStep,
        PoolExhausted,
        PromptConflict,
        PromptInvalid,
        PromptNotFound,
        ProviderExhausted,
        ProviderRejected,
        ProviderUnavailable,
        ReadFailed,
        ReadRefused,
        RuntimeFault,
        SchemaMissing,
        StagedWriteFailed,
        StaleRun,
        StatementRefused,
        StepConflict,
        ThreadBusy,
        ThreadFinished,
        ThreadMismatch,
        ThreadNotFound,
        ThreadNotGiven,
        ValueNotSerializable,
    )
    from superstep.runtime.flow.report import RunReport
    from superstep.runtime.flow.retry import Settings
    from superstep.runtime.flow.transactional import Transactional, transactional

_HOMES = {
    "superstep.runtime.author.face": (
        "TransactionalSaver",
        "chat_model",
        "current_step",
        "embedder",
        "prompt",
        "prompt_sync",
        "seed_prompts",
    ),
    "superstep.providers": ("OfflineRequest", "OfflineReply", "ToolCall"),
    "superstep.runtime.flow.transactional": ("transactional", "Transactional"),
    "superstep.runtime.flow.retry": ("Settings",),
    "superstep.runtime.flow.report": ("RunReport",),
    "superstep.checkpointer": ("Step", "SyncStep", "StepRecord", "ThreadSummary"),
    "superstep.runtime.faults": (
        "RuntimeFault",
        "ConfigError",
        "DatabaseUnavailable",
        "PoolExhausted",
        "SchemaMissing",
        "LoopUnavailable",
        "ExtensionMissing",
        "GraphNotFound",
        "GraphInvalid",
        "InputInvalid",
        "ThreadNotFound",
        "ThreadNotGiven",
        "ThreadMismatch",
        "ThreadFinished",
        "ThreadBusy",
        "StaleRun",
        "NoActiveStep",
        "StatementRefused",
        "ReadRefused",
        "ReadFailed",
        "ValueNotSerializable",
        "IllegalTransition",
        "StepConflict",
        "ConflictExhausted",
        "StagedWriteFailed",
        "ProviderUnavailable",
        "ProviderExhausted",
        "ProviderRejected",
        "BudgetExceeded",
        "PromptNotFound",
        "PromptInvalid",
        "PromptConflict",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "TransactionalSaver",
    "transactional",
    "current_step",
    "chat_model",
    "prompt",
    "prompt_sync",
    "seed_prompts",
    "embedder",
    "OfflineRequest",
    "OfflineReply",
    "ToolCall",
    "Step",
    "SyncStep",
    "Transactional",
    "Settings",
    "RunReport",
    "StepRecord",
    "ThreadSummary",
    "RuntimeFault",
    "ConfigError",
    "DatabaseUnavailable",
    "PoolExhausted",
    "SchemaMissing",
    "LoopUnavailable",
    "ExtensionMissing",
    "GraphNotFound",
    "GraphInvalid",
    "InputInvalid",
    "ThreadNotFound",
    "ThreadNotGiven",
    "ThreadMismatch",
    "ThreadFinished",
    "ThreadBusy",
    "StaleRun",
    "NoActiveStep",
    "StatementRefused",
    "ReadRefused",
    "ReadFailed",
    "ValueNotSerializable",
    "IllegalTransition",
    "StepConflict",
    "ConflictExhausted",
    "StagedWriteFailed",
    "ProviderUnavailable",
    "ProviderExhausted",
    "ProviderRejected",
    "BudgetExceeded",
    "PromptNotFound",
    "PromptInvalid",
    "PromptConflict",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
