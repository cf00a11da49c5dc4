"""One call, as far as routing is concerned."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from superstep.providers.routing.attempt_log import AttemptLog

if TYPE_CHECKING:
    from superstep.providers.routing.deployment_state import Waiter

__all__ = ["Ask"]


@dataclass(slots=True)
class Ask:
    """One call, as far as routing is concerned.

    Attributes:
        route: name of the route.
        input_tokens: of messages, tools and schema, as estimated.
        output_tokens: the most that the answer may have, 0 if there is no limit; estimates count it.
        tags: what rules look at.
        without: names of deployments that must not be asked (again).
        attempts: what was tried so far, for the record and for errors.
        waiter: its place in queues, if it had to wait.
        stopped: a provider said that the request is wrong: what is under way may still answer, nothing new begins.
    """

    route: str
    input_tokens: int = 0
    output_tokens: int = 0
    tags: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    attempts: AttemptLog = field(default_factory=AttemptLog)
    waiter: Waiter | None = None
    stopped: bool = False

    @property
    def tokens(self) -> int:
        """Estimated tokens in and out."""
        return self.input_tokens + self.output_tokens
