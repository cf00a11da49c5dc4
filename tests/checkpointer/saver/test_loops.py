"""A saver that is used where its event loop does not run: each wait ends in an answer or in a named error."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime import blocking
from superstep.runtime.faults import LoopUnavailable
from tests.support.bank import BALANCE, make_bank
from tests.support.graphs import chain, config_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 20


async def read(state: Any) -> Any:
    return {"n": await current_step().fetchval(BALANCE, 1)}


def read_sync(state: Any) -> Any:
    return {"n": current_step().sync.fetchval(BALANCE, 1)}


USES: dict[str, Callable[[TransactionalSaver], Any]] = {
    "ainvoke": lambda saver: asyncio.run(transactional(chain(saver, read)).ainvoke({"n": 0}, config_of("t"))),
    "plain ainvoke": lambda saver: asyncio.run(chain(saver, read).ainvoke({"n": 0}, config_of("t"))),
    "invoke": lambda saver: transactional(chain(saver, read_sync)).invoke({"n": 0}, config_of("t")),
    "stream": lambda saver: list(transactional(chain(saver, read_sync)).stream({"n": 0}, config_of("t"))),
    "get_tuple": lambda saver: saver.get_tuple(config_of("t")),
    "list": lambda saver: list(saver.list(config_of("t"))),
    "setup": lambda saver: asyncio.run(saver.setup()),
    "apending": lambda saver: asyncio.run(saver.apending()),
    "athreads": lambda saver: asyncio.run(saver.athreads()),
    "aclose": lambda saver: asyncio.run(saver.aclose()),
}


async def begin(saver: TransactionalSaver) -> None:
    async with saver.transaction():
        pass


ELSEWHERE = {**USES, "transaction": lambda saver: asyncio.run(begin(saver))}


def in_time(work: Callable[[], Any]) -> Any:
    """The result, on a thread of its own: what hangs there fails the test."""
    return ThreadPoolExecutor(1).submit(work).result(SECONDS)


@pytest.fixture
def opened(database_url: str) -> Iterator[tuple[asyncio.AbstractEventLoop, TransactionalSaver]]:
    """A saver made on a loop that has stopped, as one that is made when a module is imported."""
    loop = asyncio.new_event_loop()
    lifetime = TransactionalSaver.from_conn_string(database_url)
    saver = loop.run_until_complete(lifetime.__aenter__())
    loop.run_until_complete(make_bank(saver))
    yield loop, saver
    if loop.is_closed():
        saver.database.connections.pool.terminate = lambda: None  # type: ignore[method-assign]
    else:
        loop.run_until_complete(lifetime.__aexit__(None, None, None))
        loop.close()


@pytest.mark.parametrize("use", ELSEWHERE)
def test_a_loop_that_does_not_run(opened: tuple[asyncio.AbstractEventLoop, TransactionalSaver], use: str) -> None:
    with pytest.raises(LoopUnavailable, match=r"not running|opened on"):
        in_time(lambda: ELSEWHERE[use](opened[1]))


@pytest.mark.parametrize("use", USES)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_that_was_closed(database_url: str, use: str) -> None:
    loop = asyncio.new_event_loop()
    lifetime = TransactionalSaver.from_conn_string(database_url)
    saver = loop.run_until_complete(lifetime.__aenter__())
    saver.database.connections.pool.terminate()  # nothing could, later
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    with pytest.raises(LoopUnavailable, match="is closed"):
        in_time(lambda: USES[use](saver))
    with pytest.raises(LoopUnavailable, match="is closed"):
        asyncio.run(lifetime.__aexit__(None, None, None))


def test_a_loop_that_runs_again_in_time(
    opened: tuple[asyncio.AbstractEventLoop, TransactionalSaver],
) -> None:
    loop, saver = opened
    with ThreadPoolExecutor(1) as other:
        begun = threading.Event()

        def work() -> Any:
            begun.set()
            return USES["ainvoke"](saver)

        result = other.submit(work)
        begun.wait()

        async def until_done() -> None:
            await asyncio.wrap_future(result)

        loop.run_until_complete(until_done())
        assert result.result()["n"] == 100


@pytest.mark.parametrize("use", ["ainvoke", "invoke", "stream"])
def test_a_loop_that_stops_in_the_middle(
    opened: tuple[asyncio.AbstractEventLoop, TransactionalSaver], use: str
) -> None:
    loop, saver = opened

    async def node(state: Any) -> Any:
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.sleep(0)
        return {"n": await current_step().fetchval(BALANCE, 1)}

    def node_sync(state: Any) -> Any:
        loop.call_soon_threadsafe(loop.stop)
        return read_sync(state)

    flow = transactional(chain(saver, node if use == "ainvoke" else node_sync))
    uses: dict[str, Callable[[], Any]] = {
        "ainvoke": lambda: asyncio.run(flow.ainvoke({"n": 0}, config_of("t"))),
        "invoke": lambda: flow.invoke({"n": 0}, config_of("t")),
        "stream": lambda: list(flow.stream({"n": 0}, config_of("t"))),
    }
    result = ThreadPoolExecutor(1).submit(uses[use])
    loop.run_forever()
    with pytest.raises(LoopUnavailable, match="not running"):
        result.result(SECONDS)


def test_a_loop_that_is_stuck(
    opened: tuple[asyncio.AbstractEventLoop, TransactionalSaver], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, saver = opened
    monkeypatch.setattr(blocking, "_STUCK", 0.3)
    monkeypatch.setattr(blocking, "_LOOK", 0.05)

    async def stuck() -> None:
        with pytest.raises(LoopUnavailable, match="blocked"):
            in_time(lambda: USES["ainvoke"](saver))  # which waits for this very loop

    loop.run_until_complete(stuck())


def test_from_another_loop_while_its_own_runs(sync_saver: TransactionalSaver) -> None:
    for use in ("ainvoke", "plain ainvoke", "setup", "apending", "athreads", "list"):
        USES[use](sync_saver)
    with pytest.raises(LoopUnavailable, match=r"saver\.transaction\(\) belongs to the event loop"):
        ELSEWHERE["transaction"](sync_saver)


def _in_child(saver: TransactionalSaver, uses: list[str], told: Any) -> None:
    said = []
    for use in uses:
        try:
            said.append(repr(ELSEWHERE[use](saver)))
        except BaseException as e:
            said.append(type(e).__name__)
    told.send(said)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork(database_url: str) -> None:
    """As in gunicorn --preload, or Celery's prefork pool. The parent's saver goes on."""
    context, uses = multiprocessing.get_context("fork"), list(ELSEWHERE)
    with TransactionalSaver.from_conn_string(database_url) as saver:
        saver.database.home.block(make_bank(saver))
        here, there = context.Pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # a fork of a process with threads
            child = context.Process(target=_in_child, args=(saver, uses, there))
            child.start()
        assert here.poll(SECONDS)
        assert here.recv() == ["LoopUnavailable"] * len(uses)
        child.join(SECONDS)
        assert child.exitcode == 0
        assert USES["invoke"](saver)["n"] == 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_leaving_a_saver_in_a_fork_leaves_the_parents_alone(database_url: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with TransactionalSaver.from_conn_string(database_url) as saver:
            saver.database.home.block(make_bank(saver))
            lifetime_left = os.fork() == 0
            if not lifetime_left:
                assert os.waitstatus_to_exitcode(_wait_for_child()) == 7
                assert USES["invoke"](saver)["n"] == 100
        if lifetime_left:
            os._exit(7)


def _wait_for_child() -> int:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.02)
    raise AssertionError("the child does not end")
