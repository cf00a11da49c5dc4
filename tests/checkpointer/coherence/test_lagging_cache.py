"""Each measure beside an oracle: on Superstep's own reads, and on an agent that reads through a cache that lags.

The agent plans a draw on an account, checks how many draws there have been (its velocity), and executes the plan.
One flow takes both from the database, by its step. The other takes them from a real redis-server, into which somebody
copies them now and then, with the moment that they are of. What every look should be is known: the test itself moves
the account, and copies it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph

from superstep import transactional
from superstep.checkpointer import current_step
from tests.support.bank import BALANCE, DEBIT
from tests.support.graphs import config_of
from tests.support.redis import Redis, redis_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from superstep.checkpointer import Metrics, TransactionalSaver
    from tests.support.bank import Bank

VELOCITY = "SELECT count(*) FROM journal"
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class State(TypedDict, total=False):
    """What the agent plans and does."""

    plan: int
    checked: int
    done: str


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with redis_server() as socket:
        yield Redis(socket)


class Cache:
    """The account and its velocity, as they were when somebody last copied them."""

    def __init__(self, redis: Redis, bank: Bank) -> None:
        self._redis = redis
        self._bank = bank
        self.seen: list[tuple[str, str, int, float]] = []  # by whom, of what, value and moment: for the oracle

    async def copy(self, name: str, at: float) -> None:
        (row,) = await self._bank.do(
            "SELECT balance AS n FROM account WHERE id = 1"
            if name == "account"
            else "SELECT count(*) AS n FROM journal"
        )
        await self._redis.do("SET", name, json.dumps({"n": row["n"], "at": at}))

    async def read(self, who: str, name: str) -> int:
        """What an agent does that has no better source: it takes the value, and notes it."""
        held = json.loads(await self._redis.do("GET", name) or "")
        current_step().observed(name, held["n"], as_of=EPOCH + timedelta(seconds=held["at"]))
        self.seen.append((who, name, held["n"], held["at"]))
        return int(held["n"])


def graph_of(saver: TransactionalSaver, plan: Any, account: Any, velocity: Any, execute: Any) -> Any:
    builder = StateGraph(State).add_node("plan", plan).add_node("account", account).add_node("velocity", velocity)
    builder.add_node("execute", execute).add_edge(START, "plan")
    for name in ("account", "velocity"):
        builder.add_edge("plan", name).add_edge(name, "execute")
    return transactional(builder.add_edge("execute", END).compile(checkpointer=saver))


async def measured(saver: TransactionalSaver) -> Metrics:
    return await saver.ametrics(since=timedelta(hours=1))


async def test_a_cache_that_lags_is_found_out_by_every_number(
    saver: TransactionalSaver, bank: Bank, redis: Redis
) -> None:
    cache = Cache(redis, bank)
    await cache.copy("account", 0.0)
    await cache.copy("velocity", 0.0)

    async def plan(state: State) -> State:
        return {"plan": await cache.read("plan", "account")}

    async def account(state: State) -> State:
        await cache.read("account", "account")
        await bank.set(40)
        await cache.copy("account", 7.5)
        await cache.read("account", "velocity")
        return {"checked": await cache.read("account", "account")}

    async def velocity(state: State) -> State:
        await cache.read("velocity", "velocity")
        return {}

    async def execute(state: State) -> State:
        left = await cache.read("execute", "account")
        return {"done": "drawn" if left >= state["plan"] else "refused"}

    ended = await graph_of(saver, plan, account, velocity, execute).ainvoke({}, config_of("cached"))
    assert ended["done"] == "refused"
    found = await measured(saver)
    looks = {(d.before, d.after, d.label[0]): (d.pairs, d.moved, d.max_seconds) for d in found.coherence.divergences}
    assert looks == {
        ("plan", "account, velocity", "account"): (1, 1, 7.5),
        ("account, velocity", "execute", "account"): (1, 0, 0.0),
        ("plan", "execute", "account"): (1, 1, 7.5),
    }
    totals = found.coherence.totals
    assert (totals.pairs, totals.moved, totals.max_seconds, totals.mean_seconds) == (3, 2, 7.5, 5.0)
    assert (totals.compared, totals.differing, totals.max_skew) == (1, 0, 0.0)
    (flow,) = found.coherence.flows
    assert (flow.thread_id, flow.steps, flow.moved) == ("cached", 3, 2)


@pytest.mark.parametrize("lag", [0.5, 12.0])
async def test_two_replicas_of_a_cache_are_told_apart(
    saver: TransactionalSaver, bank: Bank, redis: Redis, lag: float
) -> None:
    """Parallel tasks read one key from two copies: skew is the difference of their moments."""
    cache = Cache(redis, bank)
    await redis.do("SET", "one", json.dumps({"n": 100, "at": lag}))
    await redis.do("SET", "two", json.dumps({"n": 60, "at": 0.0}))

    def reader(name: str) -> Any:
        async def node(state: State) -> State:
            held = json.loads(await redis.do("GET", name) or "")
            current_step().observed("account", held["n"], as_of=EPOCH + timedelta(seconds=held["at"]))
            return {}

        return node

    async def nothing(state: State) -> State:
        return {"done": "yes"}

    await graph_of(saver, nothing, reader("one"), reader("two"), nothing).ainvoke({}, config_of("t"))
    found = (await measured(saver)).coherence
    assert (found.totals.compared, found.totals.differing, found.totals.max_skew) == (1, 1, lag)
    assert [(s.label[0], s.steps, s.differing, s.max_seconds) for s in found.skews] == [("account", 1, 1, lag)]
    assert cache.seen == []


async def test_what_is_read_by_the_step_has_no_skew_and_what_moves_between_steps_is_told(
    saver: TransactionalSaver, bank: Bank
) -> None:
    """The same agent on its step, with the account moved between plan and execution."""
    snapshots: dict[str, float] = {}

    async def plan(state: State) -> State:
        return {"plan": await current_step().fetchval(BALANCE, 1)}

    async def account(state: State) -> State:
        return {"checked": await current_step().fetchval(BALANCE, 1)}

    async def velocity(state: State) -> State:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        await step.fetchval(VELOCITY)
        return {}

    moved: list[int] = []

    async def execute(state: State) -> State:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        if not moved:
            moved.append(1)
            await bank.set(40)
        step.stage(DEBIT, 1)
        return {"done": "drawn" if balance >= state["plan"] else "refused"}

    await graph_of(saver, plan, account, velocity, execute).ainvoke({}, config_of("direct"))
    for row in await bank.do("SELECT stats::text AS stats, created_at FROM runtime.checkpoint WHERE stats IS NOT NULL"):
        snapshots[", ".join(json.loads(row["stats"])["nodes"])] = row["created_at"].timestamp()
    found = (await measured(saver)).coherence
    names = ["plan", "account, velocity", "execute"]
    assert {(d.before, d.after): (d.moved, d.max_seconds) for d in found.divergences} == {
        (one, two): (two == "execute", pytest.approx(snapshots[two] - snapshots[one], abs=1e-6))
        for at, one in enumerate(names)
        for two in names[at + 1 :]
    }
    assert (found.totals.compared, found.totals.differing, found.totals.max_skew) == (1, 0, 0.0)
    assert [(c.label[0], c.attempts, c.conflicts) for c in found.conflicts] == [(BALANCE, 4, 1), (VELOCITY, 1, 0)]
    assert found.totals.conflict_rate == pytest.approx(1 / 5)


async def test_hand_offs_are_counted_by_whether_their_facts_held(saver: TransactionalSaver, bank: Bank) -> None:
    async def node(state: State) -> State:
        current_step()
        return {"done": "yes"}

    flow = transactional(StateGraph(State).add_node("executor", node).add_edge(START, "executor").compile(saver))
    for thread, held in (("a", True), ("b", False), ("c", False), ("d", None)):
        await flow.ainvoke({}, config_of(thread))
        if held is not None:
            guards = [{"node": "executor", "on": ["plan"], "held": held}]
            await bank.do(
                "UPDATE runtime.checkpoint SET stats = stats || jsonb_build_object('guards', $2::text::jsonb) "
                "WHERE thread_id = $1 AND stats IS NOT NULL",
                thread,
                json.dumps(guards),
            )
    found = (await measured(saver)).coherence
    assert (found.totals.guarded, found.totals.invalidated) == (3, 2)
    assert found.totals.invalidation_rate == pytest.approx(2 / 3)
    assert {flow.thread_id for flow in found.flows if flow.invalidated} == {"b", "c"}
