"""One commit at a time, in a process whose commits keep meeting.

Postgres finds conflicts by pages where it has no better knowledge, so flows on neighbouring rows abort each other for
nothing: each pays with a repeated commit. One after the other they do not meet. But while they seldom meet, they are
faster side by side, for each that waits has to repeat its reads. So commits go side by side until too many of them were
aborted, and for a while after that one at a time: for longer each time that it turns out to have been too short.

Before it waits for its turn, a super-step has given its transaction back: it repeats its reads after the commits
before it, which is what makes the two serial. No connection is held while waiting. Whoever holds the turn waits for its
own snapshot, for connections and for the server, never for somebody who waits for the turn. One whose server is slow
(it waits for a row that another program has locked) does not hold up the others for longer than `_PATIENCE`: they go on
without a turn, which is only thrift.

Those that wait commit together: the turn comes with the transaction of those before (`SharedTransaction`), as long as
that is neither large nor old. How large it may be is learned, since all are aborted that are in one: half as large
after it was (but two), one more after it was not. Only who has waited since before it began may go on in it. Its
snapshot then shows whatever the super-step has read, and the checkpoint that it started from; an older one might show
neither, and facts would seem to have moved that are only newer.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.step.shared import SharedTransaction

__all__ = ["CommitOrder", "Turn"]

_TOO_MANY = 0.2  # of the tries, aborted: from about there, having all of them wait costs less
_WEIGHT = 1 / 64  # of the latest try in that share: those that abort each other come in bunches
_SHORTEST, _LONGEST = 0.5, 16.0  # seconds that commits go one at a time
_PATIENCE = 1.0  # seconds that one waits for the others
_ALONE = 10.0  # seconds until it is looked again whether transactions may be shared
_MOST = 16  # super-steps in one transaction
_OLDEST = 0.05  # seconds that one may be taken over after: its members wait, and others for the rows that it holds


@dataclass(slots=True, eq=False)
class _Waiting:
    """A commit that waits: since when, and the turn when it comes, perhaps with a transaction."""

    since: float
    turn: asyncio.Future[SharedTransaction | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class Turn:
    """Of one commit, which may have it or not."""

    def __init__(self, order: CommitOrder) -> None:
        self._order = order
        self._has = False
        self._handed: SharedTransaction | None = None

    async def __aenter__(self) -> Self:
        """Around a commit, its repetitions included."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let the next one go on, and have what it brought committed if nobody has seen to it."""
        self._order.leave(self.handed())
        if self._has:
            self._has = False
            self._order.release()

    @property
    def is_contended(self) -> bool:
        """See `CommitOrder`."""
        return self._order.is_contended

    async def aborted(self) -> None:
        """Another transaction got in the way: this one waits for those before it. With no connection in hand."""
        self._order.tried(aborted=True)
        await self.take()

    async def take(self) -> None:
        """Wait for the commits before this one. With no connection in hand."""
        if not self._has:
            self._has, self._handed = await self._order.acquire()

    def handed(self) -> SharedTransaction | None:
        """The transaction that came with the turn, once: whoever asks has to see to it."""
        handed, self._handed = self._handed, None
        return handed

    def may_hand_on(self, began: float, members: int) -> bool:
        """Whether somebody waits who may go on in a transaction that began then, with so many super-steps in it."""
        return self._has and self._order.may_grow(began, members)

    def may_not_share(self) -> None:
        """Something in the database forbids it."""
        self._order.alone_until = time.monotonic() + _ALONE

    def hand_on(self, shared: SharedTransaction) -> None:
        """Give the turn to the next one, and the transaction with it. Somebody waits."""
        self._has = False
        if shared.members == 1:
            shared.when_ended(self._order.learn)
        self._order.release(shared)


class CommitOrder:
    """The commits of one saver's super-steps. Lives on its event loop.

    Attributes:
        until: when commits go side by side again.
        most: super-steps in one transaction.
        alone_until: when a transaction may be shared again.
    """

    def __init__(self, database: Database) -> None:
        self.until = 0.0
        self.most = _MOST
        self.alone_until = 0.0
        self._database = database
        self._aborted = 0.0  # the share of tries that were, the later ones counting more
        self._seconds = _SHORTEST
        self._busy = False
        self._waiting: deque[_Waiting] = deque()  # first come, first served
        self._moved = 0.0

    @property
    def is_contended(self) -> bool:
        """Whether commits were aborted so often that they go one at a time."""
        return time.monotonic() < self.until

    def tried(self, *, aborted: bool) -> None:
        """A commit was tried, and another transaction was in its way or not."""
        if self.is_contended:
            return  # it says nothing of commits side by side
        self._aborted += _WEIGHT * (aborted - self._aborted)
        if self._aborted < _TOO_MANY:
            return
        now = time.monotonic()
        again = now - self.until < self._seconds  # it was no better after the last time
        self._seconds = min(2 * self._seconds, _LONGEST) if again else _SHORTEST
        self.until = now + self._seconds
        self._aborted = 0.0

    def may_grow(self, began: float, members: int) -> bool:
        """Whether one more may commit in a transaction that began then, and waits."""
        now = time.monotonic()
        if not self._waiting or members >= self.most or now - began > _OLDEST or now < self.alone_until:
            return False
        return self._waiting[0].since <= began

    def learn(self, committed: bool) -> None:
        """A transaction of several has ended."""
        self.most = min(_MOST, self.most + 1) if committed else max(2, self.most // 2)

    async def acquire(self) -> tuple[bool, SharedTransaction | None]:
        """Wait until the commits before this one are done, or are handed on.

        Returns:
            False if the one that is under way takes too long. And what was handed on.
        """
        if not self._busy:
            self._busy = True
            self._moved = time.monotonic()
            return True, None
        waiting = _Waiting(time.monotonic())
        turn = waiting.turn
        self._waiting.append(waiting)
        try:
            while not turn.done() and (left := self._moved + _PATIENCE - time.monotonic()) > 0:
                await asyncio.wait({turn}, timeout=left)
        except BaseException:
            if turn.done():
                self.leave(turn.result())
                self.release()
            raise
        finally:
            if not turn.done():
                self._waiting.remove(waiting)
        if not turn.done():
            return False, None
        return True, turn.result()

    def release(self, shared: SharedTransaction | None = None) -> None:
        """Let the next one go on, in this transaction if somebody waits for it."""
        self._moved = time.monotonic()
        if self._waiting:
            self._waiting.popleft().turn.set_result(shared)
        else:
            self._busy = False
            self.leave(shared)

    def leave(self, shared: SharedTransaction | None) -> None:
        """Nobody goes on in this transaction: have it committed."""
        if shared is not None:
            self._database.home.spawn(lambda: shared.commit(self._database.connections))
