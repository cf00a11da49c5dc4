"""Flows that get in each other's way: hot rows, neighbouring rows, more flows than connections. Each with its goal."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, TypedDict

import asyncpg
from langgraph.graph import END, START, StateGraph

from superstep import current_step, transactional
from superstep.checkpointer import TransactionalSaver
from tests.benchmarks import dbos_side
from tests.benchmarks.peers import checked, environment
from tests.benchmarks.section import Goal, Section
from tests.benchmarks.setting import ACCOUNTS, thread
from tests.benchmarks.tables import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.setting import Place

__all__ = ["run"]

_READ = "SELECT balance FROM account WHERE id = $1"
_SET = "UPDATE account SET balance = $2 WHERE id = $1"
_THINK = 0.2
DBOS = "3.4.0"


class State(TypedDict):
    """Which account, and how many steps are done."""

    account: int
    done: int


@dataclass(frozen=True, slots=True)
class Work:
    """What each of many flows does.

    Attributes:
        flows: how many at once.
        kind: the node: "value", "condition", "two rows", "neighbours", "none" or "thinks".
        steps: super-steps of each flow.
        seconds: of thinking in each.
        connections: of the pool.
    """

    flows: int
    kind: str
    steps: int = 1
    seconds: float = _THINK
    connections: int = 10


@dataclass(frozen=True, slots=True)
class Got:
    """What it took.

    Attributes:
        seconds: until the last flow had ended.
        ran: executions of the node.
        attempts: of each super-step.
        repairs: of all.
        mb: the most memory that the process has had.
    """

    seconds: float
    ran: int
    attempts: Sequence[int]
    repairs: int
    mb: float

    @property
    def p99(self) -> int:
        """Of the attempts."""
        return sorted(self.attempts)[int(0.99 * (len(self.attempts) - 1) + 0.5)]


async def run(place: Place) -> Section:
    """The section."""
    async with await asyncpg.create_pool(place.url, min_size=1, max_size=1) as pool:
        await pool.execute(ACCOUNTS)
    rows = [*await _hot(place), await _two_rows(place), *await _neighbours(place), *await _thinking(place)]
    return Section(
        f"## Contention\n\nIn the table on top. Nodes think for {_THINK} s (a sleep in the place of a model) unless "
        f"said otherwise. *Serial* is the thinking alone, one flow after the other: nothing is faster for decisions on "
        f"the value. Pools of 10 connections.\n",
        rows,
    )


def _row(flows: str, work: str, got: str, goal: str, *, holds: bool) -> Goal:
    return Goal(f"{flows}: {work}", got, goal, holds)


async def _hot(place: Place) -> list[Goal]:
    many = place.size(64, 4)
    serial = many * _THINK
    first, again = await _rounds(place.url, Work(many, "value"), 2)
    (condition,) = await _rounds(place.url, Work(many, "condition"), 1)
    work = "one row, a decision on its value"
    return [
        _row(
            f"{many} flows",
            work,
            f"{number(serial / first.seconds)} of serial, {first.ran} executions, attempts p99 {first.p99}",
            f"0.85 of serial, {int(2.1 * many)} executions, 3",
            holds=serial / first.seconds >= 0.85 and first.ran <= 2.1 * many and first.p99 <= 3,
        ),
        _row(
            f"{many} flows",
            f"{work}; the row is known to be hot",
            f"{number(serial / again.seconds)} of serial, {again.ran} executions",
            f"0.85 of serial, {int(1.2 * many)} executions",
            holds=serial / again.seconds >= 0.85 and again.ran <= 1.2 * many,
        ),
        _row(
            f"{many} flows",
            "one row, a decision on a condition, a relative write",
            f"{number(serial / condition.seconds)} times serial, {condition.ran} executions",
            f"5 times serial, {many} executions",
            holds=serial / condition.seconds >= 5 and condition.ran == many,
        ),
    ]


async def _two_rows(place: Place) -> Goal:
    many = place.size(16, 2)
    got = await _processes(place.url, Work(many, "two rows"), 2)
    seconds, ran = max(each.seconds for each in got), sum(each.ran for each in got)
    serial = 2 * many * _THINK
    return _row(
        f"2 x {many} flows, two processes",
        "two rows, read in opposite orders",
        f"{number(serial / seconds)} of serial, {ran} executions",
        "0.7 of serial",
        holds=serial / seconds >= 0.7,
    )


async def _neighbours(place: Place) -> list[Goal]:
    many, steps = place.size(32, 4), place.size(50, 3)
    dbos = environment(f"dbos-{DBOS}", lambda pip, _: pip(f"dbos=={DBOS}"))
    ratios, times_dbos, repairs = [], [], []
    for _ in range(place.size(3, 1)):
        (plain,) = await _rounds(place.url, Work(many, "none", steps, 0.0), 1)
        (got,) = await _rounds(place.url, Work(many, "neighbours", steps, 0.0), 1)
        theirs = await asyncio.to_thread(checked, dbos, dbos_side.__file__, place.url, str(many), str(steps))
        ratios.append(plain.seconds / got.seconds)
        times_dbos.append(float(theirs) / got.seconds)
        repairs.append(got.repairs / (many * steps))
    pair = await _processes(place.url, Work(many // 2, "neighbours", steps, 0.0), 2)
    shared = sum(each.repairs for each in pair) / (many * steps)
    work = "1 read and 1 write in each of 50 steps, rows beside each other, no thinking"
    return [
        _row(
            f"{many} flows",
            work,
            f"{number(median(ratios))} of the loop without reads, {number(median(repairs))} repairs a commit",
            "0.6, 0.05",
            holds=median(ratios) >= 0.6 and median(repairs) <= 0.05,
        ),
        _row(
            f"{many} flows",
            "the same, beside datasource transactions of DBOS workflows",
            f"{number(median(times_dbos))} times DBOS {DBOS}",
            "6 times",
            holds=median(times_dbos) >= 6,
        ),
        _row(
            f"2 x {many // 2} flows, two processes",
            work,
            f"{number(shared)} repairs a commit",
            "0.3",
            holds=shared <= 0.3,
        ),
    ]


async def _thinking(place: Place) -> list[Goal]:
    rows = []
    seconds = 5.0 if not place.quick else 0.1
    for many, goal in ((place.size(1_000, 20), 1.3), (place.size(5_000, 40), 2.0)):
        (got,) = await _processes(place.url, Work(many, "thinks", 1, seconds), 1)
        rows.append(
            _row(
                f"{many:,} flows",
                f"{seconds:g} s of thinking between a read and a write, on rows of their own",
                f"{number(got.seconds / seconds)} times the thinking, {got.mb:.0f} MB",
                f"{goal} times, 600 MB",
                holds=got.seconds / seconds <= goal and got.mb <= 600,
            )
        )
    return rows


# -- the flows ---------------------------------------------------------------------------------------------------------


async def _rounds(url: str, work: Work, many: int) -> list[Got]:
    async with TransactionalSaver.from_conn_string(url, pool_max=work.connections) as saver:
        await saver.setup()
        return [await _once(saver, work) for _ in range(many)]


async def _once(saver: TransactionalSaver, work: Work, number_of_process: int = 0) -> Got:
    ran = 0

    async def node(state: State) -> dict[str, int]:
        nonlocal ran
        ran += 1
        step, account = current_step(), state["account"]
        if work.kind == "condition":
            await step.fetchval("SELECT balance >= $2 FROM account WHERE id = $1", 1, 10)
            await asyncio.sleep(work.seconds)
            step.stage("UPDATE account SET balance = balance - $2 WHERE id = $1", 1, 1)
        elif work.kind == "two rows":
            both = (1, 2) if account % 2 else (2, 1)
            balances = [await step.fetchval(_READ, each) for each in both]
            await asyncio.sleep(work.seconds)
            for each, balance in zip(both, balances, strict=True):
                step.stage(_SET, each, balance - 1)
        elif work.kind != "none":
            own = 1 if work.kind == "value" else account
            balance = await step.fetchval(_READ, own)
            if work.seconds:
                await asyncio.sleep(work.seconds)
            step.stage(_SET, own, balance - 1)
        return {"done": state["done"] + 1}

    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    builder.add_conditional_edges("node", lambda state: "node" if state["done"] < work.steps else END, ["node", END])
    flow = transactional(builder.compile(checkpointer=saver))
    stamp = f"{work.kind} {number_of_process} {time.monotonic_ns()}"
    threads = [f"{stamp} {at}" for at in range(work.flows)]
    accounts = [1 + (number_of_process * work.flows + at) % 10_000 for at in range(work.flows)]
    started = time.perf_counter()
    await asyncio.gather(
        *(
            flow.ainvoke({"account": account, "done": 0}, thread(each), durability="sync")
            for account, each in zip(accounts, threads, strict=True)
        )
    )
    seconds = time.perf_counter() - started
    async with saver.transaction() as tx:
        records = await tx.fetch(
            "SELECT (stats ->> 'attempts')::int AS attempts, (stats ->> 'repairs')::int AS repairs "
            "FROM runtime.checkpoint WHERE thread_id = ANY ($1) AND stats IS NOT NULL",
            threads,
        )
    mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Got(seconds, ran, [r["attempts"] for r in records], sum(r["repairs"] for r in records), mb)


# -- several processes -------------------------------------------------------------------------------------------------


async def _processes(url: str, work: Work, many: int) -> list[Got]:
    """The same in processes of their own, which begin together."""
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(many), spawn.Queue()
    workers = [spawn.Process(target=_process, args=(url, work, at, barrier, results)) for at in range(many)]
    for worker in workers:
        worker.start()
    got = [await asyncio.to_thread(results.get) for _ in workers]
    for worker in workers:
        worker.join()
    return got


def _process(url: str, work: Work, at: int, barrier: Any, results: Any) -> None:
    results.put(asyncio.run(_in_process(url, work, at, barrier)))


async def _in_process(url: str, work: Work, at: int, barrier: Any) -> Got:
    async with TransactionalSaver.from_conn_string(url, pool_max=work.connections) as saver:
        await saver.setup()
        await _once(saver, Work(2, "none", 1, 0.0, work.connections), at)  # plans and connections
        await asyncio.to_thread(barrier.wait)
        return await _once(saver, work, at)
