"""The end of `make demo`: two workers share a queue, and one is killed while its model thinks.

The workers are `runtime worker`, in processes of their own; the kill is SIGKILL. The model of these runs is asked over
a socket of this process: so the kill comes for certain while a question is open, and what was asked is counted here.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superstep.checkpointer import Order, Request
from superstep.graphs.underwriting import slow_model
from superstep.graphs.underwriting.flow import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from superstep import TransactionalSaver

__all__ = ["share_a_queue"]

GRAPH = "graphs.underwriting"
_ACCOUNTS = ("A-0004", "A-0007", "A-0009", "A-0010", "A-0016", "A-0017")
_VICTIM = 2  # the application with whose decision the model lets its worker wait
_AMOUNT = 3_000_00
_LOOK = 0.05
_PATIENCE = 180.0
_SETTINGS = """
[worker]
lease = 1.5

[[models.fast.deployments]]
provider = "langchain"
path = "superstep.graphs.underwriting.slow_model:SlowModel"

[[models.strong.deployments]]
provider = "langchain"
path = "superstep.graphs.underwriting.slow_model:SlowModel"
"""
_THERE = "SELECT count(*) FROM runtime.run_worker WHERE pid = ANY ($1::bigint[])"
_DRAWN = "SELECT sum(drawn) FROM underwriting.credit_line WHERE id = ANY ($1::text[])"
_ROOM = "UPDATE underwriting.credit_line SET drawn = least(drawn, credit_limit - $2) WHERE id = ANY ($1::text[])"
_PAID_BACK = "DELETE FROM underwriting.exposure WHERE account_id = ANY ($1::text[]) AND application_id IS NOT NULL"


class _Desk:
    """Where the model is asked.

    Attributes:
        asked: the processes that have asked about each application, in their order, one for each question.
        answered: how many questions were.
        open: is told the process whose question is left open.
    """

    def __init__(self) -> None:
        self.asked: dict[int, list[int]] = defaultdict(list)
        self.answered = 0
        self.open: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = json.loads(await reader.readline())
        facts = json.loads(question["text"])
        which = int(facts["purpose"].rpartition(" ")[2])
        self.asked[which].append(question["pid"])
        if which == _VICTIM and "most_cents" in facts and not self.open.done():
            self.open.set_result(question["pid"])
            await reader.read()  # until the other side is gone
        else:
            self.answered += 1
            writer.write(b"\n")
        writer.close()


async def share_a_queue(saver: TransactionalSaver, say: Callable[[str], None]) -> bool:
    """Show it. Whether all came out right."""
    lines = [f"L-{account}-business_line" for account in _ACCOUNTS]
    async with saver.transaction() as tx:  # as if earlier demonstrations had been paid back
        await tx.execute(_PAID_BACK, _ACCOUNTS)
        await tx.execute(_ROOM, lines, _AMOUNT)
        before = await tx.fetchval(_DRAWN, lines)
    desk = _Desk()
    server = await asyncio.start_server(desk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, asyncio.timeout(_PATIENCE):
        with _workers(port) as workers:
            while await _ask(saver, _THERE, list(workers)) < len(workers):  # noqa: ASYNC110 - other processes
                await asyncio.sleep(_LOOK)
            threads = await saver.fleet.submit_all([_order(at) for at in range(len(_ACCOUNTS))])
            say(f"\nSix applications wait in a queue, two workers take them, and one of these is killed:\n{_COMMANDS}")
            victim = await desk.open
            workers[victim].kill()
            names = {pid: f"worker {at}" for at, pid in enumerate(workers, 1)}
            say(f"  {names[victim]} killed (SIGKILL) while its model thinks about application {1 + _VICTIM}")
            while not all(run.ended_at for run in await saver.fleet.runs(len(threads))):  # noqa: ASYNC110 - likewise
                await asyncio.sleep(_LOOK)
    return await _tell(saver, desk, threads, names, (before, lines), say)


_COMMANDS = f"""$ runtime worker --concurrency 1   # twice
$ runtime submit {GRAPH} --input …   # six times"""


def _order(at: int) -> Order:
    request = {"account_id": _ACCOUNTS[at], "product": "business_line", "amount": _AMOUNT, "purpose": f"oven {at}"}
    return Order(GRAPH, Request(request))


@contextmanager
def _workers(port: int) -> Iterator[dict[int, subprocess.Popen[bytes]]]:
    """Two, by their process numbers; none is left."""
    with tempfile.TemporaryDirectory(prefix="superstep-demo-") as folder:
        (Path(folder) / "runtime.toml").write_text(_SETTINGS, encoding="utf-8")
        environment = {**os.environ, "RUNTIME_CONFIG": str(Path(folder) / "runtime.toml"), slow_model.PORT: str(port)}
        command = (sys.executable, "-m", "superstep.runtime", "worker", "--graph", GRAPH, "--concurrency", "1")
        started = [
            subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)  # noqa: S603 - our own command
            for _ in range(2)
        ]
        try:
            yield {process.pid: process for process in started}
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait()


async def _ask(saver: TransactionalSaver, sql: str, *args: object) -> Any:
    async with saver.transaction() as tx:
        return await tx.fetchval(sql, *args)


async def _tell(
    saver: TransactionalSaver,
    desk: _Desk,
    threads: list[str],
    names: dict[int, str],
    drawn: tuple[int, list[str]],
    say: Callable[[str], None],
) -> bool:
    """What has become of each application, and whether the sums agree."""
    graph = build().compile(checkpointer=saver)
    granted = paid = 0
    for at, (account, thread) in enumerate(zip(_ACCOUNTS, threads, strict=True)):
        decision = (await graph.aget_state({"configurable": {"thread_id": thread}})).values["decision"]
        granted += decision["amount"]
        paid += sum(step.llm_paid for step in await saver.asteps(thread))
        by = " then ".join(dict.fromkeys(names[pid] for pid in desk.asked[at]))
        say(f"  application {1 + at}, {account}: {decision['outcome']} {decision['amount'] / 100:,.2f}  ({by})")
    states = {run.state for run in await saver.fleet.runs(len(threads))}
    before, lines = drawn
    more = await _ask(saver, _DRAWN, lines) - before
    asked = sum(map(len, desk.asked.values()))
    say(f"  the model was asked {asked} times and answered {desk.answered}; {paid} calls are recorded as paid")
    holds = states == {"completed"} and more == granted and paid == desk.answered == asked - 1
    agree = "they agree" if holds else "WRONG"
    say(f"  {granted / 100:,.2f} granted, {more / 100:,.2f} drawn from the lines: {agree}")
    return holds
