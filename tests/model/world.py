"""The state of a small world: hashable, and never changed in place."""

from __future__ import annotations

from typing import Any, NamedTuple

X, Y = 0, 1  # the shared keys
KEYS = "xy"

By = tuple[int, int]  # an execution of a task: the token of its run, and its number there
CkptId = tuple[int, int]  # how many steps are done, and the token of the run that stored it
Ns = tuple[
    Any, ...
]  # () for the outermost graph; for a subgraph the checkpoint its caller started from, and its caller
Rows = tuple[int, ...]

START: CkptId = (0, 0)
ROOT: Ns = ()


class Read(NamedTuple):
    """A read, and what it returned; `after`: on top of staged writes of tasks before."""

    key: int
    value: int
    after: bool = False


class Write(NamedTuple):
    """A staged write; `by` is for the invariants: the execution that staged it."""

    key: int
    value: int
    by: By


class Answer(NamedTuple):
    """What a human said, to which question: whose, what they were shown, and by which execution."""

    task: int
    facts: tuple[Read, ...]
    asked_by: By


class Saved(NamedTuple):
    """What is stored for a task beside its checkpoint (`task_write`, `task_effect`).

    `seen` and `staged` are for the invariants: what the execution was really shown, and really staged.
    """

    kind: str  # "finished", "asked", or "calls": what subgraphs of an execution that has not ended rest on
    reads: tuple[Read, ...] = ()
    writes: tuple[Write, ...] = ()
    by: By = (0, 0)
    seen: tuple[Read, ...] = ()
    staged: tuple[Write, ...] = ()
    answer: Answer | None = None


NEW, RUN, DONE, HYPO, ASKED, DRIFTED, STOPPED = "new", "run", "done", "hypo", "asked", "drifted", "stopped"


class Task(NamedTuple):
    """A task of a super-step, in the memory of the process that runs it. See `checkpointer/step/task.py`."""

    by: By
    state: str = NEW
    at: int = 0  # the operation that is next
    reads: tuple[Read, ...] = ()
    writes: tuple[Write, ...] = ()
    view: tuple[Write, ...] | None = None
    shown: tuple[Read, ...] | None = None
    built_on: tuple[Read, ...] | None = None
    noted: tuple[Read, ...] = ()
    kept: bool = False  # its result is stored
    paying: bool = False
    was_open: bool = False  # its question was open when the run loaded it
    answer: Answer | None = None
    seen: tuple[Read, ...] = ()
    staged: tuple[Write, ...] = ()

    def logs(self) -> tuple[tuple[Read, ...], ...]:
        """All that it rests on."""
        return tuple(log for log in (self.shown, self.built_on, self.reads) if log)


class Tx(NamedTuple):
    """An open transaction: what it sees, and what the server knows that it has read."""

    start: int  # commits before its snapshot
    rows: Rows
    row_version: int  # of its thread's row
    reads: frozenset[int] = frozenset()
    waiting: tuple[tuple[int, int], ...] = ()  # who may go on in it: workers, with the versions of their threads' rows
    members: tuple[Any, ...] = ()  # COMMITs of super-steps that have left their writes in it (`Pending`)


# A frame is between `TASKS` and the end of its commit in one of these.
TASKS, PINNED, WRITING, HANDED, SENT, LOOKUP = "tasks", "pinned", "writing", "handed on", "sent", "look up"


class Frame(NamedTuple):
    """A super-step in the memory of a process."""

    ns: Ns
    parent: CkptId
    tasks: tuple[Task, ...]
    tx: Tx | None = None
    phase: str = TASKS
    leading: frozenset[int] = frozenset()
    noted: tuple[tuple[Any, Saved], ...] = ()  # to be stored with it, of its caller
    basis: tuple[Read, ...] = ()  # for the invariants: what its caller had been shown when it began the subgraph

    @property
    def step(self) -> int:
        return self.parent[0]


class Owed(NamedTuple):
    """Results to be taken back in the database."""

    ns: Ns
    parent: CkptId
    tasks: frozenset[int]
    asked: frozenset[int]
    leading: frozenset[int]
    withdrawn: frozenset[Answer] = frozenset()  # for the invariants: the answers that go with them
    by_subgraph: bool = False  # the commit of a subgraph has found it out, and waits
    forget: bool = False  # the first of two statements is done (a switch)


class Worker(NamedTuple):
    """A process with a run of one flow."""

    flow: int
    pc: str = "claim"
    token: int = 0
    head: CkptId = START
    tries: int = 0
    given: Answer | None = None
    frames: tuple[Frame, ...] = ()  # the outermost graph's, and that of the subgraph a task of it is in
    owed: Owed | None = None


# Where a worker has ended, for good unless a human answers.
ENDS = frozenset({"absent", "done", "fenced", "dead", "asking", "gave up", "refused by name"})


class Thread(NamedTuple):
    """A thread's row."""

    token: int = 0
    head: CkptId = START
    version: int = 0
    owner: int = -1  # the worker that claimed it last


class Ckpt(NamedTuple):
    """A stored checkpoint. `basis` and `writes` are for the invariants: what it rests on, and is to come with."""

    thread: int
    ns: Ns
    id: CkptId
    parent: CkptId
    writes: tuple[Write, ...] = ()
    basis: tuple[Read, ...] = ()


class Part(NamedTuple):
    """For the invariants: one task of a commit, in the order of the tasks."""

    task: int
    seen: tuple[Read, ...]
    staged: tuple[Write, ...]
    by: By
    hypothesis: bool = False
    answer: Answer | None = None
    shown: tuple[Read, ...] = ()
    callers: tuple[Read, ...] = ()


class Commit(NamedTuple):
    """A transaction that has written shared keys, or ended a super-step."""

    thread: int  # -1: an outside writer
    ns: Ns
    ckpt: CkptId | None
    start: int
    base: Rows
    reads: frozenset[int]
    writes: tuple[Write, ...]
    parts: tuple[Part, ...] = ()
    stale: bool = False  # the run did not own the thread any more
    together: Any = None  # the transaction, if others have committed in it too


class Pending(NamedTuple):
    """A COMMIT that the server is at work on: it holds its locks until it has landed or not."""

    worker: int
    nested: bool
    commit: Commit
    ckpt: Ckpt
    noted: tuple[tuple[Any, Saved], ...]
    heard: bool = True  # somebody waits for its answer
    others: tuple[Any, ...] = ()  # of super-steps that are committed by it too, before this one (`Pending`)


class State(NamedTuple):
    """Everything."""

    rows: Rows
    threads: tuple[Thread, ...]
    workers: tuple[Worker, ...]
    history: tuple[Commit, ...] = ()
    ckpts: tuple[Ckpt, ...] = ()
    saved: tuple[tuple[Any, Saved], ...] = ()  # by thread, namespace, checkpoint, task
    memo: frozenset[Any] = frozenset()
    answers: tuple[tuple[int, Answer], ...] = ()  # by thread: one on its way to the task that asked
    leading: tuple[tuple[Any, frozenset[int]], ...] = ()  # by thread and checkpoint (`step_attempt.comes_first`)
    pending: tuple[Pending, ...] = ()
    handed: Tx | None = None  # an open transaction on its way from one super-step to the next
    outside: int = 0  # writes of the outside writer that are done
    crashes: int = 0
    losses: int = 0
    aborts: int = 0
    failures: int = 0
    humans: int = 0
    delivered: frozenset[Any] = frozenset()  # for the invariants: answers of models that a node was given
    withdrawn: frozenset[Answer] = frozenset()  # for the invariants: answers that were taken back
    broken: str = ""  # an invariant that a transition broke


Table = tuple[tuple[Any, Any], ...]


def got(table: Table, key: Any, default: Any = None) -> Any:
    """What a table has for a key."""
    return next((value for each, value in table if each == key), default)


def put(table: Table, key: Any, value: Any) -> Table:
    """A table with this under that key."""
    return tuple(sorted([*(row for row in table if row[0] != key), (key, value)], key=lambda row: row[0]))


def dropped(table: Table, key: Any) -> Table:
    """A table without this key."""
    return tuple(row for row in table if row[0] != key)


def overlay(rows: Rows, writes: tuple[Write, ...]) -> Rows:
    """Rows with writes applied, in order."""
    if not writes:
        return rows
    new = list(rows)
    for write in writes:
        new[write.key] = write.value
    return tuple(new)


def holds(reads: tuple[Read, ...], rows: Rows, view: tuple[Write, ...] = ()) -> bool:
    """Whether reads say the same in these rows; those made on top of writes, on top of `view`."""
    over = overlay(rows, view)
    return all((over if read.after else rows)[read.key] == read.value for read in reads)
