"""How often, and after what pause, a conflicting super-step is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tenacity import AsyncRetrying, RetryCallState, wait_random_exponential

from superstep.checkpointer import MismatchedRows, Rewound, SiblingConflict, usable_effects
from superstep.runtime.faults import ConfigError, ConflictExhausted
from superstep.runtime.flow.double_texting import checked_strategy

if TYPE_CHECKING:
    from superstep.runtime.faults import StepConflict

__all__ = ["Settings", "Tries"]

_MANY = 1 << 30


@dataclass(frozen=True, slots=True)
class Settings:
    """How a transactional graph behaves.

    Attributes:
        max_attempts: how often one super-step is tried before `ConflictExhausted`.
        max_mismatches: the same for a staged write that keeps touching another number of rows than it expects. Facts
            that do not change explain this as well as a race does, so it is given up earlier.
        first_pause: upper bound in seconds of the random pause after a first conflict; doubles with each one.
        longest_pause: upper bound of that bound.
        on_stale_answer: what a human's answer is worth when the facts the question showed have moved: "ask" again on
            the new facts, or "accept" it.
        isolation: what a commit validates: with "step", what its own super-step has read; with "flow", what the run
            has read since it began. If that has moved, the run goes on from the first super-step that had read it, or
            ends with `PlanInvalidated` if domain writes have been committed since.
        effects: what becomes of an effect that was sent already, when the thread was set back and comes to it again:
            with "keep" that one counts and nothing is sent, with "again" it is sent once more; without a choice the
            super-step is refused with `EffectRepeated`. `configurable["effects"]` of a call comes first.
        take_over: what happens to a run of the thread that another process has under way: it is fenced, and stores
            nothing more; or (false) it goes on, and this one is refused with `ThreadBusy`.
        multitask_strategy: what becomes of a call whose thread is being run, here or elsewhere: "reject" it, "enqueue"
            it until the thread is free, "interrupt" the run, or "rollback" what that run's input has done. `None`: it
            is rejected if this process runs the thread, else `take_over` decides. See docs/double-texting.md.
        interrupt_grace: seconds that an interrupted run of this process has for its super-step until it is cut off.
    """

    max_attempts: int = 40
    max_mismatches: int = 5
    first_pause: float = 0.005
    longest_pause: float = 0.5
    on_stale_answer: str = "ask"
    take_over: bool = True
    isolation: str = "step"
    effects: str | None = None
    multitask_strategy: str | None = None
    interrupt_grace: float = 10.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.max_mismatches < 1:
            raise ConfigError("max_attempts and max_mismatches must be at least 1.")
        if self.on_stale_answer not in ("ask", "accept"):
            raise ConfigError(f'on_stale_answer must be "ask" or "accept", not {self.on_stale_answer!r}.')
        if self.isolation not in ("step", "flow"):
            raise ConfigError(f'isolation must be "step" or "flow", not {self.isolation!r}.')
        usable_effects(self.effects)
        checked_strategy(self.multitask_strategy)


class Tries:
    """Counts conflicts of one super-step and says how long to pause after each."""

    def __init__(self, settings: Settings) -> None:
        self.conflicts = 0
        self._in_a_row = 0
        self._mismatches = 0
        self._siblings = _MANY
        self._settings = settings
        self._wait = wait_random_exponential(multiplier=settings.first_pause, max=settings.longest_pause)

    def after(self, conflict: StepConflict, *, progressed: bool) -> float:
        """Seconds to pause, or `ConflictExhausted` if that was one conflict too many."""
        self.conflicts += 1
        # Of tasks that rest on each other's writes, each attempt settles at least the first: this ends by itself.
        settling = isinstance(conflict, SiblingConflict) and len(conflict.tasks) < self._siblings
        self._siblings = len(conflict.tasks) if isinstance(conflict, SiblingConflict) else _MANY
        # What a run commits before it has to go back again is no progress: facts that keep moving would keep it going.
        progressed = (progressed or settling) and not isinstance(conflict, Rewound)
        self._in_a_row = 1 if progressed else self._in_a_row + 1
        mismatch = isinstance(conflict, MismatchedRows)
        self._mismatches = self._mismatches + 1 if mismatch and not progressed else int(mismatch)
        settings = self._settings
        if self._in_a_row >= settings.max_attempts or self._mismatches >= settings.max_mismatches:
            raise ConflictExhausted(
                f"Gave up after {self._in_a_row} attempts of one super-step. Nothing of it was written; the thread "
                f"can be resumed when there is less contention. Last conflict: {conflict}",
                tasks=conflict.tasks,
                attempts=self._in_a_row,
            ) from conflict
        state = RetryCallState(AsyncRetrying(), None, (), {})
        state.attempt_number = self._in_a_row
        return self._wait(state)
