"""What the attempts of a super-step cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Costs"]

_MOST = 12  # keys


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
        conflicts: by key, how many of them came to nothing because what they had read of it had moved; of so many keys
            at most.
    """

    attempts: int = 1
    repairs: int = 0
    drifts: int = 0
    llm_reused: int = 0
    escalated: bool = False
    waited_ms: float = 0.0
    ms: float = 0.0
    conflicts: dict[str, int] = field(default_factory=dict)

    def conflict(self, keys: Iterable[str]) -> None:
        """These keys have moved under the attempt."""
        for key in dict.fromkeys(keys):
            if key in self.conflicts or len(self.conflicts) < _MOST:
                self.conflicts[key] = self.conflicts.get(key, 0) + 1
