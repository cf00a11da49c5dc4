"""Event loops: connections end with theirs, synchronous calls have one of their own and never wait for themselves."""

from __future__ import annotations

import asyncio
import gc
import itertools
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from superstep.providers.embeddings import configure_embeddings, embedder
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


def test_tokens_are_counted_without_a_tokenizer_of_another_model(bed: Bed) -> None:
    assert bed.model().get_num_tokens("x" * 9) == 3
