"""What happens in a round: its size, and the fates of workers, drawn from its seed. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

from superstep.checkpointer.database import failpoints

__all__ = ["WAKES", "FleetPlan", "Kill"]

_PLACES = tuple(name for name in failpoints.NAMES if name != "commit.lost_answer")
_STOPS = tuple(name for name in _PLACES if name.startswith("commit."))  # where it matters whose thread it is
_MOST = 6  # visits of a place until the kill
_LIFE = (0.1, 2.0)  # seconds since it has begun
_LONGEST = 3.0  # the same, of one that should come to a failpoint
_ASLEEP = (2.5, 3.5)  # seconds of SIGSTOP: longer than the lease of a worker
WAKES = 0.5  # seconds that one goes on after that, believing that its runs are its own


@dataclass(frozen=True)
class Kill:
    """SIGKILL at the nth visit of a failpoint (`name:nth`), if there is one, or after some seconds of its life.

    Attributes:
        at: the failpoint.
        after: seconds.
        asleep: it is stopped there instead for so many seconds, goes on for a moment, and is killed then.
    """

    at: str | None
    after: float
    asleep: float = 0.0


@dataclass(frozen=True)
class FleetPlan:
    """A round.

    Attributes:
        name: what it is about.
        runs: so many.
        effects: of each run.
        kills: so many workers at least. Runs are submitted as workers die, so that each death meets some.
        workers: at the same time.
        asleep: the share of those that are stopped first, for longer than their lease.
        seed: of all that is left to chance here.
    """

    name: str
    runs: int
    effects: int
    kills: int
    workers: int = 2
    asleep: float = 0.15
    seed: int = 0

    def thread(self, at: int) -> tuple[str, int]:
        """Of a run: every fifth is the second one of the thread before it."""
        return (f"{self.name}-{at - 1}", 2) if at % 5 == 4 else (f"{self.name}-{at}", 1)

    def kill(self, nth: int) -> Kill:
        """What becomes of the nth worker. One in two comes to a failpoint, of effects if there are many."""
        dice = random.Random(f"{self.name} {self.seed} {nth}")
        asleep = dice.uniform(*_ASLEEP) if dice.random() < self.asleep else 0.0
        many_effects = self.effects > 1 and dice.random() < 0.7
        places = _STOPS if asleep else failpoints.EFFECT_NAMES if many_effects else _PLACES
        at = f"{dice.choice(places)}:{dice.randint(1, _MOST)}" if asleep or dice.random() < 0.5 else None
        return Kill(at, _LONGEST if at else dice.uniform(*_LIFE), asleep)
