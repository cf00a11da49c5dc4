"""Small worlds: what flows do, what else may happen, and how often."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.model.world import X, Y

Op = tuple[Any, ...]
Spec = tuple[Op, ...]  # what a task does, in order
Step = tuple[Spec, ...]  # its tasks, in the order of their paths
Program = tuple[Step, ...]


class Scenario(NamedTuple):
    """See the module. Flow 0 has a second worker if one of `crashes` and `takeover` is set.

    Attributes:
        name: of the scenario.
        flows: one thread each.
        outside: what an outside writer writes, in order: keys with values.
        holds: snapshots may be held between reads, and are then committed in (a direct commit).
        releases: snapshots may be given back between reads.
        flushes: results of finished tasks may be stored before the commit.
        takeover: the second worker may come while the first is paused, or believes that it has the thread.
        crashes: processes that may die.
        losses: connections that may be lost during a COMMIT.
        aborts: serialization failures without a reason.
        failures: executions that may fail, and are tried again by a retry policy.
        humans: answers that a human gives.
        tries: attempts that a run may have: the fewest that suffice for every one.
        slow: commits take a while even if no connection can be lost.
        ahead: the next super-step may begin while one is being committed.
        shares: the flows are of one process, and commit in one transaction when they wait for each other.
    """

    name: str
    flows: tuple[Program, ...]
    outside: tuple[tuple[int, int], ...] = ()
    holds: bool = True
    releases: bool = True
    flushes: bool = False
    takeover: bool = False
    crashes: int = 0
    losses: int = 0
    aborts: int = 0
    failures: int = 0
    humans: int = 0
    tries: int = 3
    slow: bool = False
    ahead: bool = False
    shares: bool = False


def read(key: int) -> Op:
    return ("read", key)


def stage(key: int, plus: int = 1) -> Op:
    """Stage the sum of what the task was shown, and so much more."""
    return ("stage", key, plus)


def call(*steps: Spec) -> Op:
    """Run a subgraph, with one task a step. Its first checkpoint is that of its input."""
    return ("call", ((), *steps))


def if_any(op: Op) -> Op:
    """Only if what the task was shown is not all zero."""
    return ("if any", op)


MODEL: Op = ("model",)
ASK: Op = ("ask",)

WRITE_X: Spec = (read(X), read(Y), stage(X, 1))
WRITE_Y: Spec = (read(X), read(Y), stage(Y, 10))
DRAW: Spec = (read(X), MODEL, read(Y), stage(X, 1))
PAY_X: Spec = (stage(X, 100),)
PAY_Y: Spec = (stage(Y, 100),)

TWO_BY_TWO: tuple[Program, ...] = (((WRITE_X,), (WRITE_Y,)), ((WRITE_Y,), (WRITE_X,)))

ALL = {
    each.name: each
    for each in (
        Scenario("two flows, two steps", TWO_BY_TWO, outside=((X, 7),), tries=4),
        Scenario(
            "an outside writer goes back and forth",
            (((WRITE_X,), (WRITE_Y,)), ((WRITE_Y,),)),
            outside=((X, 7), (X, 0)),
            tries=5,
        ),
        Scenario(
            "aborts for no reason", (((WRITE_X,),), ((WRITE_Y,),)), outside=((X, 7),), aborts=2, losses=1, tries=3
        ),
        Scenario(
            "two flows commit in one transaction",
            ((((read(X), stage(X, 1)),), (WRITE_Y,)), (((read(Y), stage(Y, 10)),),)),
            outside=((Y, 7),),
            losses=1,
            aborts=1,
            shares=True,
            tries=3,
        ),
        Scenario(
            "two flows that meet commit in one transaction",
            (((WRITE_X,), (WRITE_Y,)), ((WRITE_Y,),)),
            outside=((X, 7),),
            holds=False,
            losses=1,
            shares=True,
            tries=4,
        ),
        Scenario(
            "parallel tasks share a snapshot",
            (((WRITE_Y, (read(Y), read(X))),),),
            outside=((X, 7), (Y, 7)),
            flushes=True,
            tries=6,
        ),
        Scenario(
            "siblings read each other's writes",
            ((((read(Y), stage(X, 1)), (read(X), stage(Y, 10))),), ((WRITE_X,),)),
            outside=((X, 7), (Y, 7)),
            tries=4,
        ),
        Scenario(
            "a process dies",
            ((((read(X), MODEL, stage(Y, 1)), (read(Y),)), (WRITE_X,)),),
            outside=((X, 7),),
            flushes=True,
            crashes=1,
            tries=4,
        ),
        Scenario(
            "a paused worker wakes up late",
            (((DRAW,), (WRITE_Y,)),),
            outside=((X, 7),),
            flushes=True,
            takeover=True,
            slow=True,
            tries=2,
        ),
        Scenario(
            "the answer to a COMMIT is lost",
            TWO_BY_TWO,
            losses=1,
            crashes=1,
            tries=3,
        ),
        Scenario(
            "an execution fails and is tried again",
            ((((read(X), stage(Y, 1), read(Y), stage(X, 1)),),),),
            outside=((X, 7),),
            flushes=True,
            failures=2,
            tries=2,
        ),
        Scenario(
            "a human is asked, and the facts move",
            ((((read(X), ASK, stage(X, 1)), (read(Y), stage(Y, 1))),),),
            outside=((X, 7), (X, 0)),
            flushes=True,
            crashes=1,
            humans=2,
            tries=2,
        ),
        Scenario(
            "a sibling comes to ask",
            ((((read(X), ASK, stage(X, 1)), (read(Y), if_any(ASK), stage(Y, 1))),),),
            outside=((Y, 7), (X, 7)),
            flushes=True,
            crashes=1,
            humans=2,
            tries=3,
        ),
        Scenario(
            "a subgraph writes what its caller has read",
            ((((read(X), call(PAY_X), read(Y), stage(Y, 1)),),),),
            outside=((X, 7), (Y, 7)),
            crashes=1,
            tries=3,
        ),
        Scenario(
            "the answer to a subgraph's COMMIT is lost",
            ((((read(Y), call(PAY_X)), (read(X),)),),),
            outside=((Y, 7),),
            losses=1,
            crashes=1,
            tries=3,
        ),
        Scenario(
            "a caller drifts while its subgraph commits",
            ((((read(X), call((), PAY_Y)), (read(Y), read(X))),),),
            outside=((X, 7),),
            slow=True,
            tries=3,
        ),
        Scenario(
            "a caller drifts while its subgraph commits, and a process dies",
            ((((read(X), call((read(Y),), PAY_Y)), (read(Y), read(X))),),),
            outside=((X, 7),),
            crashes=1,
            tries=3,
        ),
        Scenario(
            "a subgraph is entered before the commit in front of it",
            (((WRITE_X,), ((call(PAY_Y),),)),),
            outside=((X, 7),),
            crashes=1,
            losses=1,
            ahead=True,
            tries=2,
        ),
        Scenario(
            "a subgraph would commit on top of a sibling",
            ((((read(Y), stage(X, 1)), (read(X), if_any(call(PAY_Y)), stage(X, 10))),),),
            outside=((X, 7),),
            crashes=1,
            flushes=True,
            tries=5,
        ),
    )
}
