"""The optional hooks of a graph's module: `setup(saver)` and `lifespan(saver)`."""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from superstep.checkpointer import TransactionalSaver
    from superstep.runtime.loading.loader import LoadedGraph

__all__ = ["prepared"]


@asynccontextmanager
async def prepared(loaded: LoadedGraph, saver: TransactionalSaver) -> AsyncIterator[None]:
    """Call the optional hooks of a graph's module around a run: `setup(saver)`, then within `lifespan(saver)`."""
    async with AsyncExitStack() as stack:
        if setup := loaded.hook("setup"):
            done = setup(saver)
            if inspect.isawaitable(done):
                await done
        if lifespan := loaded.hook("lifespan"):
            await stack.enter_async_context(lifespan(saver))
        yield
