"""One graph of a run, the outermost or a subgraph, as a chain of checkpoints.

LangGraph starts a super-step while the checkpoint before it is still being saved: always after the input, and under
durability "async" after every step. Reading before that commit could show a state without it, so whatever belongs to a
super-step waits here for the checkpoint that it starts from.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING

from langgraph.checkpoint.base import Checkpoint, copy_checkpoint

from superstep.checkpointer.langgraph.progress import NO_PROGRESS, nodes_between, progress
from superstep.checkpointer.threads.questions import NO_QUESTIONS
from superstep.runtime.faults import StaleRun

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from superstep.checkpointer.langgraph.differences import Held
    from superstep.checkpointer.langgraph.progress import Progress
    from superstep.checkpointer.threads.questions import Questions

__all__ = ["Namespace"]

_PATIENCE = 60.0  # seconds without any commit under way
_RECENT = 8  # checkpoints remembered as committed; only the last one or two are ever asked for


class Namespace:
    """See the module.

    Attributes:
        loaded: LangGraph has loaded it for the run: its super-steps have barriers.
        caller: id of the task that runs it as a subgraph; `None` for the outermost graph.
        invocation: LangGraph's object for the one call of the graph that has loaded it.
        shared: several tasks run it at the same time, so its history is nobody's own.
        at_exit: it runs under durability "exit": its super-steps have no barriers.
        held: by channel, stored versions of values that the next ones can build on, see `differences`.
        above: for each graph around this one, by namespace, the checkpoint that its running super-step started from.
    """

    def __init__(self) -> None:
        self.loaded = False
        self.caller: str | None = None
        self.invocation: object = None
        self._questions: Questions = NO_QUESTIONS
        self.shared = False
        self.at_exit = False
        self.above: Mapping[str, str] = {}
        self.held: Mapping[str, Held] = {}
        self._recent: deque[str | None] = deque(maxlen=_RECENT)
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        self._failure: BaseException | None = None
        self._committing = 0
        self._limit: asyncio.TimerHandle | None = None  # runs on when nobody waits, until `fail` ends it
        self._expected = 0.0  # when a commit last was under way, or somebody began to wait for one
        self._progress: Progress = NO_PROGRESS
        self._since: float | None = None

    def load(
        self, checkpoint: Checkpoint | None, caller: str | None, invocation: object, above: Mapping[str, str]
    ) -> None:
        """LangGraph loaded this checkpoint to go on from it; `None` if there is none yet."""
        self.loaded = True
        self.caller = caller
        self.invocation = invocation
        self.above = above
        self.held = {}
        self._failure = None
        self._recent.append(checkpoint["id"] if checkpoint else None)
        self._progress = progress(copy_checkpoint(checkpoint)) if checkpoint else NO_PROGRESS
        self._since = time.perf_counter()

    def hold(self, held: Mapping[str, Held | None]) -> None:
        """These versions were loaded, or stored by a commit that succeeded; on `None` nothing can build."""
        self.held = {name: each for name, each in {**self.held, **held}.items() if each is not None}

    def open_questions(self, questions: Questions) -> None:
        """The questions to a human that were open when the graph was loaded: answers are for those who asked them."""
        self._questions = questions

    def forked(self, checkpoint_id: str, parent_id: str | None) -> None:
        """The run begins with a fork of what it has loaded: the same tasks have other ids there."""
        self._questions = self._questions.forked(checkpoint_id, parent_id)

    def may_take_answers(self, checkpoint_id: str, task_id: str, path: str) -> bool:
        """Whether an answer that the run was entered with can be for this task."""
        return self._questions.may_be_answered_by(checkpoint_id, task_id, path)

    def asked_by(self, task_id: str) -> Sequence[str]:
        """The names of the questions of a task that were open when the graph was loaded."""
        return self._questions.names.get(task_id, ())

    def has_taken_another(self, task_id: str, answers: int) -> bool:
        """Whether a task that has so many answers has taken one since the graph was loaded."""
        return answers > self._questions.answers.get(task_id, 0)

    def advance(self, checkpoint: Checkpoint) -> set[str]:
        """A checkpoint is about to be committed: names of the nodes whose super-step it ends."""
        before, self._progress = self._progress, progress(checkpoint)
        return nodes_between(before, self._progress)

    async def committed(self, checkpoint_id: str) -> None:
        """Wait until the checkpoint is committed; fail as the commit does.

        Raises:
            StaleRun: for a minute no commit of the graph was even under way, so none is coming.
        """
        if checkpoint_id in self._recent:
            return
        if self._failure is not None:
            raise self._failure
        waiting = asyncio.get_running_loop().create_future()  # each waits by itself: one is cancelled, others go on
        if checkpoint_id in self._waiting:
            self._waiting[checkpoint_id].append(waiting)
        else:
            self._waiting[checkpoint_id] = [waiting]
            self._expect()
        await waiting

    def begin_commit(self) -> None:
        """A commit is under way until `end_commit`. It ends by itself, so those that wait are patient meanwhile."""
        self._committing += 1

    def end_commit(self) -> None:
        """A commit has ended, however it did."""
        self._committing -= 1
        if self._waiting:
            self._expect()

    def _expect(self) -> None:
        """Have the waits end if no commit is under way for a while from now."""
        self._expected = time.monotonic()
        if self._limit is None:
            self._limit = self._later(_PATIENCE)

    def _later(self, seconds: float) -> asyncio.TimerHandle:
        """In a context of its own: the loop keeps timers that are cancelled, and would keep the run's with them."""
        return asyncio.get_running_loop().call_later(seconds, self._give_up, context=Context())

    def _give_up(self) -> None:
        self._limit = None
        if not self._waiting or self._committing:
            return
        left = self._expected + _PATIENCE - time.monotonic()
        if left > 0:
            self._limit = self._later(left)
        else:
            self.fail(
                StaleRun(
                    f"The checkpoint that a super-step starts from was not even about to be committed for "
                    f"{_PATIENCE:.0f} s, so the run has been left. Nothing of the super-step was written; "
                    f"continue with `runtime resume`."
                )
            )

    def arrived(self, checkpoint_id: str) -> None:
        """The checkpoint is committed."""
        self._recent.append(checkpoint_id)
        self._since = time.perf_counter()
        for waiting in self._waiting.pop(checkpoint_id, ()):
            if not waiting.done():
                waiting.set_result(None)

    def fail(self, error: BaseException) -> None:
        """A commit failed: what waits for it, or for one after it, fails with it."""
        self._failure = error
        while self._waiting:
            for waiting in self._waiting.popitem()[1]:
                if not waiting.done():
                    waiting.set_exception(error)
                    waiting.exception()  # the failed commit itself is what reports it
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def stands_at(self, checkpoint_id: str) -> bool:
        """Whether this is the checkpoint that was loaded or committed last."""
        return bool(self._recent) and self._recent[-1] == checkpoint_id

    def ms_since_last(self) -> float:
        """Milliseconds since the last checkpoint was loaded or committed."""
        return 0.0 if self._since is None else round((time.perf_counter() - self._since) * 1000, 3)
