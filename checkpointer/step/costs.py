"""What the attempts of a super-step cost."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Costs"]


@dataclass(slots=True)
class Costs:
    """What the attempts of a super-step have cost so far, this one included.

    Attributes:
        attempts: how often it was tried.
        repairs: commits that were repeated although no fact had changed.
        drifts: tasks whose facts had changed.
        llm_reused: answers of language models that were served again.
        escalated: it took turns, see `turns`.
        waited_ms: milliseconds that it waited for them.
        ms: milliseconds of the attempts before this one.
    """

    attempts: int = 1
    repairs: int = 0
    drifts: int = 0
    llm_reused: int = 0
    escalated: bool = False
    waited_ms: float = 0.0
    ms: float = 0.0
