"""Event loops: connections end with theirs, synchronous calls have one of their own and never wait for themselves."""

from __future__ import annotations

import asyncio
import gc
import itertools
import subprocess
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver
from superstep.providers import chat_model
from superstep.providers.catalog.model import Catalog, Route
from superstep.providers.chat.registry import configure
from superstep.providers.embeddings import configure_embeddings, embedder
from superstep.runtime.faults import NoActiveStep
from tests.support.graphs import State, chain
from tests.support.routes import KEY, Bed
from tests.support.vendors import Vendor

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator


@pytest.fixture
def lasting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    """Vendors that keep connections open, as real ones do."""
    monkeypatch.setenv("FIRST_KEY", KEY)
    monkeypatch.setenv("SECOND_KEY", KEY)
    with Vendor(keep_alive=True) as first, Vendor(keep_alive=True) as second:
        yield Bed(first, second)
    configure_embeddings({})


def asking(kind: str, bed: Bed) -> Callable[[], Coroutine[Any, Any, object]]:
    if kind == "embeddings":
        served = {"provider": "openai-compatible", "model": "m", "dimensions": 8, "base_url": bed.first.openai_url}
        configure_embeddings({"default": served})
        texts = itertools.count()  # what is known is not asked for
        return lambda: embedder().embed([str(next(texts))])
    model = bed.model(bed.openai() if kind == "openai" else bed.anthropic())
    return lambda: model.ainvoke("ping")


KINDS = pytest.mark.parametrize("kind", ["openai", "anthropic", "embeddings"])


@KINDS
def test_connections_end_with_their_loop(kind: str, lasting: Bed) -> None:
    """A socket that Python itself had to close would fail the test with a ResourceWarning."""
    ask = asking(kind, lasting)
    loops = []

    async def main() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await ask()
        await ask()

    for _ in range(3):
        asyncio.run(main())
    gc.collect()
    assert [loop() for loop in loops] == [None] * 3


@KINDS
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_that_was_closed_without_farewell_is_let_go(kind: str, lasting: Bed) -> None:
    ask = asking(kind, lasting)

    def run() -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(ask())
        loop.close()
        return weakref.ref(loop)

    before = [run(), run()]
    asyncio.run(ask())  # type: ignore[arg-type]
    gc.collect()
    assert [loop() for loop in before] == [None] * 2


FORK = """
import os, signal
from superstep.providers.transport import sync_bridge as background

async def one():
    return 1

assert background.wait_for(one()) == 1
with background._lock:  # as if another thread were just beginning its first call
    child = os.fork()
if child == 0:
    signal.alarm(60)  # ends a child that waits for ever
    os._exit(7 if background.wait_for(one()) == 1 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), background.wait_for(one()))
"""


def test_a_forked_process_makes_synchronous_calls_too() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("7 1\n", "")


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("cached", [True, False])
async def test_blocking_the_loop_that_serves_the_super_step_is_refused(
    cached: bool, streamed: bool, bed: Bed, database_url: str
) -> None:
    configure(Catalog(routes={"r": Route(name="r", deployments=(bed.openai(),))}))
    model = chat_model("r").model_copy(update={"cache": None if cached else False})

    async def ask(state: State) -> State:
        return {"seen": [chunk.text for chunk in model.stream("ping")] if streamed else [model.invoke("ping").text]}

    try:
        async with TransactionalSaver.from_conn_string(database_url) as saver:
            with pytest.raises(NoActiveStep, match=r"Await ainvoke|Use the async method"):
                await transactional(chain(saver, ask)).ainvoke({"seen": []}, {"configurable": {"thread_id": "1"}})
    finally:
        configure(None)
    assert bed.first.count == 0


async def test_elsewhere_a_blocking_call_on_a_loop_is_answered(bed: Bed) -> None:
    model = bed.model()
    assert model.invoke("ping").text == "pong"
    assert "".join(chunk.text for chunk in model.stream("ping")) == "pong"


def test_tokens_are_counted_without_a_tokenizer_of_another_model(bed: Bed) -> None:
    assert bed.model().get_num_tokens("x" * 9) == 3
