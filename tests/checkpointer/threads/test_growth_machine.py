"""Whatever is done to threads, in whatever order: every checkpoint that is left says what it was stored with."""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypedDict

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import AnyMessage, add_messages

from superstep.checkpointer.langgraph import differences
from superstep.checkpointer.langgraph.serializer import strict
from superstep.checkpointer.saver import saver as saver_module
from tests.support.graphs import config_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from superstep.checkpointer import TransactionalSaver

_unique = itertools.count()
EXAMPLES = 6
_plain = strict()


def merged(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    """Sets keys; those set to nothing go."""
    return {key: value for key, value in {**left, **right}.items() if value is not None}


class State(TypedDict, total=False):
    """Channels that grow, one that is edited as its node likes, and the edits that are next."""

    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[Any], operator.add]
    known: Annotated[dict[str, Any], merged]
    free: list[Any]
    edits: list[tuple[str, int]]


def edit(state: State) -> dict[str, Any]:
    """Carry the edits out, also in place."""
    messages, free = state["messages"], state.get("free", [])
    said: list[Any] = []
    known: dict[str, Any] = {}
    log: list[Any] = []
    for what, n in state["edits"]:
        at = n % len(messages)
        if what == "say":
            said.append(AIMessage(f"said {n} " * 9, id=f"m{next(_unique)}"))
        elif what == "replace":
            said.append(AIMessage(f"instead {n} " * 9, id=messages[at].id))
        elif what == "remove" and at and messages[at].id not in {each.id for each in said}:
            said.append(RemoveMessage(id=str(messages[at].id)))
        elif what == "scribble":
            messages[at].additional_kwargs[str(n)] = n
        elif what == "log":
            log.append({"n": [n]})
        elif what == "scribble in the log" and state.get("log"):
            state["log"][n % len(state["log"])]["n"].append(n)
        elif what == "learn":
            known[f"k{n}"] = [f"known {n}"] * 9
        elif what == "forget":
            known[f"k{n}"] = None
        elif what == "insert":
            free.insert(n % (len(free) + 1), f"item {n}" * 9)
        elif what == "cut":
            del free[n % (len(free) + 1) :][:2]
    return {"messages": said, "log": log, "known": known, "free": free}


edits = st.lists(
    st.tuples(
        st.sampled_from(
            ["say"] * 3
            + ["replace", "remove", "scribble", "log", "scribble in the log", "learn", "forget", "insert", "cut"]
        ),
        st.integers(0, 9),
    ),
    max_size=4,
)


class Kept(NamedTuple):
    """A checkpoint as the model has it: all its values, as they were put, and the run that made it."""

    values: bytes
    run: str


class Threads(RuleBasedStateMachine):
    saver: TransactionalSaver
    put: dict[tuple[str, str], Kept]
    run: str

    def __init__(self) -> None:
        super().__init__()
        builder = StateGraph(State).add_node("edit", edit).add_edge(START, "edit").add_edge("edit", END)
        self.graph = builder.compile(checkpointer=self.saver)
        self.threads: dict[str, dict[str, Kept]] = {}

    def _run(self, thread: str, work: Callable[[dict[str, Any]], object], past: int | None) -> None:
        """On the latest checkpoint, or a fork of another."""
        Threads.run = f"run {next(_unique)}"
        ids = sorted(self.threads.get(thread, ()))
        at = {"checkpoint_id": ids[past % len(ids)]} if past is not None and ids else {}
        Threads.put = {}
        work({**config_of(thread, **at), "metadata": {"run_id": Threads.run}})
        self.threads.setdefault(thread, {}).update({id_: kept for (_, id_), kept in Threads.put.items()})

    def _any(self, n: int) -> str:
        return sorted(self.threads)[n % len(self.threads)]

    @initialize(given=edits)
    def begin(self, given: list[Any]) -> None:
        self.turn(0, given, None, "sync", new=True)

    @rule(
        n=st.integers(0, 9),
        given=edits,
        past=st.none() | st.integers(0, 99),
        durability=st.sampled_from(["sync", "sync", "exit"]),
    )
    def turn(self, n: int, given: list[Any], past: int | None, durability: Any, *, new: bool = False) -> None:
        thread = f"thread {next(_unique)}" if new or not self.threads else self._any(n)
        many = 1 if thread in self.threads else 8  # with something to build on
        said = [HumanMessage(f"asked {n} " * 9, id=f"m{next(_unique)}") for _ in range(many)]
        self._run(
            thread,
            lambda config: self.graph.invoke({"messages": said, "edits": given}, config, durability=durability),
            past,
        )

    @rule(n=st.integers(0, 9), past=st.none() | st.integers(0, 99))
    def update(self, n: int, past: int | None) -> None:
        if self.threads:
            said = HumanMessage(f"by hand {n} " * 9, id=f"m{next(_unique)}")
            values = {"messages": [said], "log": [{"n": [n]}]}
            self._run(self._any(n), lambda config: self.graph.update_state(config, values, as_node="edit"), past)

    @rule(n=st.integers(0, 9))
    def copy(self, n: int) -> None:
        if self.threads:
            source, target = self._any(n), f"thread {next(_unique)}"
            self.saver.copy_thread(source, target)
            self.threads[target] = dict(self.threads[source])

    @rule(n=st.integers(0, 9))
    def prune(self, n: int) -> None:
        if self.threads:
            thread = self._any(n)
            self.saver.prune([thread])
            latest = max(self.threads[thread])
            self.threads[thread] = {latest: self.threads[thread][latest]}

    @rule(n=st.integers(0, 99))
    def delete_a_run(self, n: int) -> None:
        runs = sorted({kept.run for thread in self.threads.values() for kept in thread.values()})
        if runs:
            doomed = runs[n % len(runs)]
            self.saver.delete_for_runs([doomed])
            left = {
                thread: {id_: kept for id_, kept in checkpoints.items() if kept.run != doomed}
                for thread, checkpoints in self.threads.items()
            }
            self.threads = {thread: checkpoints for thread, checkpoints in left.items() if checkpoints}

    @rule(n=st.integers(0, 9))
    def delete(self, n: int) -> None:
        if len(self.threads) > 1:
            thread = self._any(n)
            self.saver.delete_thread(thread)
            del self.threads[thread]

    @invariant()
    def every_checkpoint_says_what_it_was_stored_with(self) -> None:
        for thread, checkpoints in self.threads.items():
            found = {each.checkpoint["id"]: each for each in self.saver.list(config_of(thread))}
            assert set(found) == set(checkpoints)
            for id_, kept in checkpoints.items():
                expected = _plain.loads_typed(("msgpack", kept.values))
                values = found[id_].checkpoint["channel_values"]
                assert {name: repr(each) for name, each in values.items()} == {
                    name: repr(each) for name, each in expected.items()
                }
            latest = self.saver.get_tuple(config_of(thread))
            assert latest is not None
            assert latest.checkpoint == found[latest.checkpoint["id"]].checkpoint

    def teardown(self) -> None:
        for thread in self.threads:
            self.saver.delete_thread(thread)


@pytest.mark.timeout(400)
def test_every_checkpoint_that_is_left_says_what_it_was_stored_with(
    sync_saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = saver_module.checkpoint_row
    bases: list[str | None] = []

    def noted(serde: Any, checkpoint: Any, metadata: Any, new_versions: Any, where: Any, *more: Any) -> Any:
        values = _plain.dumps_typed(checkpoint["channel_values"])[1]
        row, after = whole(serde, checkpoint, metadata, new_versions, where, *more)
        Threads.put[where.thread_id, where.checkpoint_id] = Kept(values, Threads.run)
        bases.extend(row.new_bases)
        return row, after

    monkeypatch.setattr(saver_module, "checkpoint_row", noted)
    for name, value in (("_LEAST", 64), ("_ROW", 3), ("_MOST", 8)):  # so that short threads meet every rule
        monkeypatch.setattr(differences, name, value)
    Threads.saver = sync_saver
    run_state_machine_as_test(
        Threads,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
    assert sum(base is not None for base in bases) >= EXAMPLES, "stored whole: this proves nothing"
