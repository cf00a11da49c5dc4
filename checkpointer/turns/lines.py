"""Standing in line for a key, with all that do, in this process and in others. First come, first served.

A line is a row of the database (`queries`), and its first ticket has the turn. Nobody holds a connection, a lock or a
session while waiting or having it, so it works behind a proxy that pools transactions, and with a pool of one.

In one process the turn goes from one to the next with the answer of the statement that gives it back. What other
processes do is looked at every few milliseconds, and only while somebody here waits for one of them.

No clock of the server is asked. The process that has the turn counts a number up (it beats); who waits for a number
that has stood still for `LEASE` seconds, by its own clock, takes that process out of the line. No turn is kept for
longer than `MOST` seconds, if nothing else is said. And if the database does not answer, whoever waits goes on without:
a turn is a hint.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from superstep.checkpointer.database.errors import DRIVER_ERRORS
from superstep.checkpointer.turns import queries
from superstep.runtime.faults import RuntimeFault

if TYPE_CHECKING:
    import asyncpg

    from superstep.checkpointer.database.database import Database

__all__ = ["BEAT", "LEASE", "MOST", "Lines", "Turn"]

BEAT = 1.0  # seconds between two signs of life
LEASE = 5.0  # seconds without one after which a process has lost its turn
MOST = 60.0  # seconds after which a turn goes to the next in any case
_LOOK = 0.02  # seconds between two looks at what other processes do


@dataclass(frozen=True, slots=True)
class Turn:
    """A place in a line that has come to its front."""

    name: bytes
    ticket: str


@dataclass(slots=True, eq=False)
class _Line:
    """What is known of one line.

    Attributes:
        name: of the key, see `queries`.
        waiting: tickets of this process that wait.
        joined: those of them that are known to stand in the row.
        having: those that have the turn, with what ends it in any case.
        leaving: those whose leaving is on its way.
        head: the ticket whose turn it is.
        beat: its process's latest sign of life.
        since: when that was seen first.
    """

    name: bytes
    waiting: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    joined: set[str] = field(default_factory=set)
    having: dict[str, asyncio.TimerHandle | None] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    head: str | None = None
    beat: int = -1
    since: float = 0.0


class Lines:
    """The lines that somebody in this process stands in. Lives on the saver's event loop.

    Attributes:
        closed: nobody can stand in one any more.
    """

    def __init__(self, database: Database, most: float | None = MOST) -> None:
        """`most`: seconds after which a turn goes to the next in any case; `None` for as long as its process lives."""
        self._database = database
        self._most = most
        self._process = os.urandom(8).hex()
        self._tickets = itertools.count(1)
        self._lines: dict[bytes, _Line] = {}
        self.closed = False
        self._watching: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def wait(self, name: bytes) -> Turn | None:
        """Stand in line until it is our turn. Call with no connection, lock or transaction in hand.

        Returns:
            The turn, to be given back with `leave`; `None` if there is none to be had.
        """
        if self.closed:
            return None
        line = self._lines.get(name)
        if line is None:
            line = self._lines[name] = _Line(name)
        ticket = f"{self._process}:{next(self._tickets)}"
        turn = Turn(name, ticket)
        granted = line.waiting[ticket] = asyncio.get_running_loop().create_future()
        try:
            schema = self._database.schema
            row = await self._database.autocommit(lambda conn: queries.join(conn, schema, name, ticket))
            if ticket in line.waiting:  # else the one before has left meanwhile
                line.joined.add(ticket)
            self._seen(line, row)
            self._watch()
            await granted
        except (RuntimeFault, *DRIVER_ERRORS):
            self.leave(turn)
            return None
        except BaseException:
            self.leave(turn)
            raise
        return turn if ticket in line.having else None

    def has(self, turn: Turn) -> bool:
        """Whether the turn has not ended yet."""
        line = self._lines.get(turn.name)
        return line is not None and turn.ticket in line.having

    def leave(self, turn: Turn) -> None:
        """Give a turn back, or up."""
        line = self._lines.get(turn.name)
        if line is None:
            return
        known = line.waiting.pop(turn.ticket, None) is not None
        line.joined.discard(turn.ticket)
        had = turn.ticket in line.having
        timer = line.having.pop(turn.ticket, None)
        if timer is not None:
            timer.cancel()
        if known or had:
            self._send_leave(line, turn.ticket)
        self._news.set()

    def _send_leave(self, line: _Line, ticket: str) -> None:
        if self.closed:  # the others take it from there, as from a process that has ended
            return
        line.leaving.add(ticket)
        self._database.home.spawn(lambda: self._leave(line, ticket))

    async def _leave(self, line: _Line, ticket: str) -> None:
        schema = self._database.schema
        # Should it fail: this process does not beat for a turn that it does not have, so the others take it from there.
        with suppress(RuntimeFault, *DRIVER_ERRORS):
            row = await self._database.autocommit(lambda conn: queries.leave(conn, schema, line.name, ticket))
            if row is not None:
                self._seen(line, row)
        line.leaving.discard(ticket)
        if not line.waiting and not line.having and not line.leaving and self._lines.get(line.name) is line:
            del self._lines[line.name]

    # -- what is known of the others -----------------------------------------------------------------------------

    def _seen(self, line: _Line, row: asyncpg.Record) -> None:
        """The server's answers may come in any order: whoever was first, and still waits, is first."""
        head, beat = row["head"], row["beat"]
        if head != line.head or beat != line.beat:
            line.since = time.monotonic()
        line.head, line.beat = head, beat
        if head is not None:
            self._grant(line, head)
        self._news.set()

    def _grant(self, line: _Line, ticket: str) -> None:
        granted = line.waiting.pop(ticket, None)
        if granted is None or granted.done():
            if ticket.startswith(self._process) and ticket not in line.having and ticket not in line.leaving:
                self._send_leave(line, ticket)  # who has gone already: its joining came later than its leaving
            return
        line.joined.discard(ticket)
        turn = Turn(line.name, ticket)
        loop = asyncio.get_running_loop()
        line.having[ticket] = loop.call_later(self._most, self.leave, turn) if self._most is not None else None
        granted.set_result(None)

    def _watch(self) -> None:
        if self._watching is None or self._watching.done():
            self._watching = self._database.home.loop.create_task(self._look_around())

    async def _look_around(self) -> None:
        beaten = time.monotonic()
        while self._lines:
            self._news.clear()
            if self._wait_for_others():
                await asyncio.sleep(_LOOK)
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), BEAT)
            try:
                if time.monotonic() - beaten >= BEAT:
                    beaten = time.monotonic()
                    await self._beat()
                await self._look()
            except (RuntimeFault, *DRIVER_ERRORS):
                self._give_up()

    def _wait_for_others(self) -> list[_Line]:
        """Lines in which somebody here waits, and whose turn is not known to be of this process."""
        return [each for each in self._lines.values() if each.joined and not self._is_ours(each)]

    def _is_ours(self, line: _Line) -> bool:
        return line.head is not None and (line.head in line.having or line.head in line.waiting)

    async def _beat(self) -> None:
        had = [(line.name, ticket) for line in self._lines.values() for ticket in line.having]
        if had:
            names, tickets = map(list, zip(*had, strict=True))
            await self._database.autocommit(lambda conn: queries.beat(conn, self._database.schema, names, tickets))

    async def _look(self) -> None:
        schema = self._database.schema
        lines = {line.name: (line, set(line.joined)) for line in self._wait_for_others()}
        if not lines:
            return
        asked = [ticket for _, joined in lines.values() for ticket in joined]
        rows = await self._database.autocommit(lambda conn: queries.look(conn, schema, list(lines), asked))
        there = {row["name"]: row for row in rows}
        for name, (line, joined) in lines.items():
            row = there.get(name)
            self._drop(line, joined - set(row["waiting"] if row is not None else ()))
            if row is None:
                continue
            self._seen(line, row)
            if line.joined and not self._is_ours(line) and time.monotonic() - line.since > LEASE:
                await self._evict(line)

    async def _evict(self, line: _Line) -> None:
        schema, head, beat = self._database.schema, line.head or "", line.beat
        row = await self._database.autocommit(lambda conn: queries.evict(conn, schema, line.name, head, beat))
        if row is not None:
            self._seen(line, row)

    def _drop(self, line: _Line, tickets: set[str]) -> None:
        """These are not in line any more: others took this process for dead. They go on without a turn."""
        for ticket in tickets:
            line.joined.discard(ticket)
            granted = line.waiting.pop(ticket, None)
            if granted is not None and not granted.done():
                granted.set_result(None)

    def _give_up(self) -> None:
        for line in list(self._lines.values()):
            for ticket in set(line.waiting):
                self._send_leave(line, ticket)
            self._drop(line, set(line.waiting))

    async def close(self) -> None:
        """Nobody here waits or has a turn any more. What a node has left running stands in no line after that."""
        self._give_up()
        for line in list(self._lines.values()):
            for ticket in list(line.having):
                self.leave(Turn(line.name, ticket))
        self.closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
