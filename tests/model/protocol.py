"""The model: every state that may follow a state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.model.database import OUTSIDE, admitted, applied, keys_locked
from tests.model.frames import changed, is_writing
from tests.model.together import Together
from tests.model.world import ENDS, KEYS, ROOT, Answer, Commit, State, Thread, Worker, Write, overlay

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.model.scenarios import Scenario

    Next = Iterator[tuple[str, State]]

__all__ = ["Model"]


class Model(Together):
    """A scenario under the protocol, or under one that is broken by `switches`."""

    def __init__(self, scenario: Scenario, switches: Iterable[str] = ()) -> None:
        self.scenario = scenario
        self.switches = frozenset(switches)

    def initial(self) -> State:
        """Nothing has happened."""
        workers = [Worker(n) for n in range(len(self.scenario.flows))]
        if self.scenario.crashes or self.scenario.takeover:
            workers.append(Worker(0, "absent"))
        return State((0,) * len(KEYS), (Thread(),) * len(self.scenario.flows), tuple(workers))

    def successors(self, s: State) -> Next:
        """What may happen next: a label, and the state after it. Nothing once an invariant is broken."""
        if s.broken:
            return
        yield from self._outside(s)
        yield from self._server(s)
        for i, w in enumerate(s.workers):
            who = f"{'AB'[w.flow]}{'' if i < len(self.scenario.flows) else chr(39)}"
            for label, after in self._worker(s, i, w):
                yield f"{who} {label}", after

    def is_end(self, s: State) -> bool:
        """Whether nothing needs to happen any more: each flow is done, waits for a human, or has said why not."""
        good = {"done", "asking", "refused by name", "gave up"}
        flows = {w.flow for w in s.workers if w.pc in good}
        return all(w.pc in ENDS for w in s.workers) and flows == set(range(len(self.scenario.flows)))

    def _outside(self, s: State) -> Next:
        if s.outside < len(self.scenario.outside):
            key, value = self.scenario.outside[s.outside]
            if not keys_locked(s, {key}):
                commit = Commit(-1, ROOT, None, len(s.history), s.rows, frozenset(), (Write(key, value, OUTSIDE),))
                s = s._replace(rows=overlay(s.rows, commit.writes), history=(*s.history, commit), outside=s.outside + 1)
                yield f"somebody sets {KEYS[key]} = {value}", s

    def _server(self, s: State) -> Next:
        """COMMITs whose connections are lost land, or are rolled back."""
        for p in s.pending:
            if not p.heard:
                rest = s._replace(pending=tuple(each for each in s.pending if each is not p))
                yield "a COMMIT nobody waits for is rolled back", rest
                if admitted(s, p):
                    yield "a COMMIT nobody waits for lands", applied(rest, p)

    def _worker(self, s: State, i: int, w: Worker) -> Next:
        if w.pc in ENDS:
            yield from self._rest(s, i, w)
            return
        if s.crashes < self.scenario.crashes and i == 0:
            pending = tuple(p._replace(heard=False) if p.worker == i else p for p in s.pending)
            dead = changed(s._replace(pending=pending, crashes=s.crashes + 1), i, Worker(w.flow, "dead"))
            yield "dies", dead
        if w.pc == "run":
            yield from self._run(s, i, w)
        else:
            yield from {"claim": self.claim, "load": self.load, "answer": self.answer}[w.pc](s, i, w)

    def _rest(self, s: State, i: int, w: Worker) -> Next:
        if w.pc == "absent" and (self.scenario.takeover or s.workers[0].pc == "dead"):
            yield "starts", changed(s, i, Worker(w.flow))
        elif w.pc == "asking" and s.humans < self.scenario.humans and s.threads[w.flow].owner == i:
            head = s.threads[w.flow].head
            asked = [(key[3], it) for key, it in s.saved if key[:3] == (w.flow, ROOT, head) and it.kind == "asked"]
            open_now = [(n, saved) for n, saved in asked if saved.answer is None]
            if len(open_now) == 1:
                ((n, saved),) = open_now
                given = Answer(n, saved.seen, saved.by)
                yield (
                    f"is answered (task {n})",
                    changed(s._replace(humans=s.humans + 1), i, Worker(w.flow, given=given)),
                )

    def _run(self, s: State, i: int, w: Worker) -> Next:
        below = w.frames[1:]
        if w.owed is not None:
            yield from self.discard(s, i, w, w.owed)
            for f in below:
                if is_writing(f) and not w.owed.by_subgraph:
                    yield from self.barrier(s, i, w, f)
            return
        for f in w.frames:
            if f.phase == "tasks":
                yield from self.tasks(s, i, w, f)
            else:
                yield from self.barrier(s, i, w, f)
