"""What happens in a round, drawn from its seed: the same code for a few rounds and for many."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from superstep.checkpointer.database import failpoints
from tests.isolation.tasks import Shape

__all__ = ["Fate", "How", "Kind", "Plan", "draw"]


class Kind(Enum):
    """What a round is about."""

    HISTORY = "history"  # many super-steps in several processes; nothing dies
    CRASH = "crash"  # workers and connections die all the time
    SERVER = "server"  # the database server too


class How(Enum):
    """What becomes of a worker."""

    LIVES = "lives"
    KILLED_AT = "SIGKILL at a failpoint"
    KILLED = "SIGKILL at some moment"
    STOPPED_AT = "SIGSTOP at a failpoint"
    STOPPED = "SIGSTOP at some moment"


class Fate(NamedTuple):
    """What becomes of one worker.

    Attributes:
        how: what.
        place: `name:nth` of the failpoint.
        after: seconds of its life until the moment.
        asleep: seconds until SIGCONT.
    """

    how: How
    place: str = ""
    after: float = 0.0
    asleep: float = 0.0


_LIKELY = {How.KILLED_AT: 9, How.KILLED: 5, How.STOPPED_AT: 2, How.STOPPED: 2}
# Places that not every super-step comes by are reached less often.
_MOST = {"run.claimed": 2, "memo.before_store": 4, "memo.stored": 4, "commit.lost_answer": 1}


@dataclass(frozen=True, slots=True)
class Plan:
    """A round.

    Attributes:
        kind: what it is about.
        seed: its number.
        shape: of the flows; `flows` is how many each worker is given, `outside` the transactions of each program.
        workers: processes that run flows at the same time.
        at_once: flows of a worker at the same time.
        programs: processes that write beside them.
        hold_idle: of the savers, and the most connections of each.
        pool: as said.
        crashes: kills, stops and ended connections at least; as many are made as it takes.
        server_kills: how often the server is killed.
    """

    kind: Kind
    seed: int
    shape: Shape
    workers: int = 2
    at_once: int = 6
    programs: int = 1
    hold_idle: float = 0.25
    pool: int = 6
    crashes: int = 0
    server_kills: int = 0

    @property
    def name(self) -> str:
        """Names the round to whoever wants to repeat it."""
        return f"{self.kind.value}:{self.seed}"

    @property
    def again(self) -> str:
        """How to repeat it. Its choices are the same then; which process is how far at some moment is not."""
        return f"repeat it with: .venv/bin/python -m tests.soak {self.name}"

    def dice(self, *what: object) -> random.Random:
        """Dice for some part of the round; the same each time."""
        return random.Random(f"{self.name} {what}")

    def fate(self, slot: int, life: int) -> Fate:
        """What becomes of the worker that is the `life`th in its place."""
        dice = self.dice("fate", slot, life)
        (how,) = dice.choices(list(_LIKELY), list(_LIKELY.values()))
        name = dice.choice([name for name in failpoints.NAMES if name != "commit.lost_answer"])
        nth = dice.randint(1, _MOST.get(name, 12))
        return Fate(how, f"{name}:{nth}", dice.uniform(0.03, 0.3), dice.uniform(0.01, 0.25))


_HISTORIES = (  # those of siblings and subgraphs cost several times as much
    Shape(flows=70, rounds=12),
    Shape(flows=21, rounds=12, siblings=2),
    Shape(flows=12, rounds=12, nested=True),
    Shape(flows=6, rounds=12, siblings=2, nested=True),
)
_CRASHES = (
    Shape(flows=6, rounds=8),
    Shape(flows=6, rounds=8, siblings=2),
    Shape(flows=6, rounds=5, nested=True),
    Shape(flows=6, rounds=4, siblings=2, nested=True),
)


def draw(kind: Kind, seed: int) -> Plan:
    """The plan of a round: its seed chooses the shape in turn, and all else by chance."""
    dice = random.Random(f"{kind.value}:{seed} plan")
    hold_idle = dice.choice([0, 0.02, 0.25, 0.25])
    if kind is Kind.HISTORY:
        pool = dice.choice([2, 6, 12, 12])
        shape = _more(_HISTORIES[seed % len(_HISTORIES)], outside=300, keys=300, heat=0.02, asks=0.03)
        return Plan(kind, seed, shape, 2, 12, 1, hold_idle, pool)
    pool = dice.choice([2, 2, 4])
    shape = _more(_CRASHES[seed % len(_CRASHES)], outside=100, keys=40, heat=0.1, asks=0.5)
    if kind is Kind.CRASH:
        return Plan(kind, seed, shape, dice.choice([2, 2, 3]), 6, 1, hold_idle, pool, crashes=50)
    return Plan(kind, seed, shape, 2, 6, 1, hold_idle, pool, crashes=20, server_kills=3)


def _more(shape: Shape, *, outside: int, keys: int, heat: float, asks: float) -> Shape:
    return Shape(shape.flows, shape.rounds, shape.siblings, shape.nested, outside, keys, heat, asks, least=1)
