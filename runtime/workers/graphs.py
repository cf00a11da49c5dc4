"""The graphs that a worker has: loaded when a run of theirs waits, and kept ready from then on."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from superstep.runtime.faults import GraphNotFound, RuntimeFault
from superstep.runtime.flow.transactional import Settings, Transactional, transactional
from superstep.runtime.loading.factories import FactoryCall
from superstep.runtime.loading.hooks import prepared
from superstep.runtime.loading.loader import load_graph

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from superstep.checkpointer import TransactionalSaver
    from superstep.runtime.loading.loader import LoadedGraph
    from superstep.runtime.settings.settings import RunSettings

__all__ = ["Graphs"]

_AGAIN = 30.0  # seconds until a graph is looked for again that was not there


@dataclass(frozen=True, slots=True)
class _Ready:
    """A graph whose module's hooks were called.

    Attributes:
        label: the name that its threads know it by.
        flow: it, ready to run; `None` if a factory makes one for each run.
        saver: as the graph runs with it, which knows the types of its state.
    """

    label: str
    flow: Transactional | None
    saver: TransactionalSaver


class Graphs:
    """Use it as a context manager, by one asyncio task: the hooks `lifespan` are left when that is.

    Args:
        saver: the graphs run on it.
        settings: how conflicts are retried.
        only: take no others than these, under whatever names they are asked for; `None` takes all that can be loaded.

    Attributes:
        missing: why a graph cannot be run here, by its name.
    """

    def __init__(self, saver: TransactionalSaver, settings: RunSettings, only: Iterable[str] | None = None) -> None:
        self.missing: dict[str, str] = {}
        self._saver, self._settings = saver, settings
        self._only = None if only is None else list(only)
        self._labels: set[str] = set()
        self._ready: dict[str, _Ready] = {}
        self._looked: dict[str, float] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Load the graphs of `only`.

        Raises:
            GraphNotFound: one of them is not there.
            GraphInvalid: one of them is no graph.
        """
        try:
            for name in self._only or ():
                await self._load(name)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def names(self) -> set[str]:
        """Those that can be run here."""
        return set(self._ready)

    async def look(self, names: Iterable[str]) -> set[str]:
        """See whether graphs can be run here. Those that turned out to be, or not to be, for the first time."""
        news = set()
        for name in names:
            if name in self._ready or time.monotonic() - self._looked.get(name, -_AGAIN) < _AGAIN:
                continue
            self._looked[name] = time.monotonic()
            was_known = name in self.missing
            try:
                await self._load(name)
                self.missing.pop(name, None)
            except Exception as error:  # noqa: BLE001 - whatever a module's hook raises: the graph is not to be had here
                text = str(error) if isinstance(error, RuntimeFault) else f"{type(error).__name__}: {error}"
                self.missing[name] = text
            if name in self._ready or (not was_known and name in self.missing):
                news.add(name)
        return news

    async def _load(self, name: str) -> None:
        loaded = await load_graph(name, call=FactoryCall(runs=True))
        try:
            if self._only is not None:
                if name in self._only:
                    self._labels.add(loaded.name)
                elif loaded.name not in self._labels:
                    raise GraphNotFound("This worker takes other graphs only.")
            flow = self._flow(loaded)
            ready = _Ready(loaded.name, None if _is_made(loaded) else flow, self._saver.of_graph(flow))
            await self._stack.enter_async_context(prepared(loaded, self._saver))
            for each in {name, loaded.name}:
                self._ready[each] = ready
        finally:
            await loaded.aclose()

    def _flow(self, loaded: LoadedGraph) -> Transactional:
        graph = loaded.compile(self._saver)
        own = graph.settings if isinstance(graph, Transactional) else Settings()
        how = replace(
            own,
            max_attempts=self._settings.max_attempts or own.max_attempts,
            on_stale_answer=self._settings.on_stale_answer,
            take_over=False,
        )
        return transactional(graph, name=loaded.name, settings=how)

    @asynccontextmanager
    async def flow(self, name: str, config: dict[str, Any], context: Any) -> AsyncIterator[Transactional]:
        """A graph, for one run.

        Args:
            name: one of `names`.
            config: of the run, for a factory.
            context: of the run, for a factory.
        """
        ready = self._ready[name]
        if ready.flow is not None:
            yield ready.flow
            return
        loaded = await load_graph(name, call=FactoryCall(config, context, runs=True))
        try:
            yield self._flow(loaded)
        finally:
            await loaded.aclose()

    def typed_saver(self, name: str) -> TransactionalSaver:
        """The saver as a graph runs with it, which knows the types of its state."""
        return self._ready[name].saver


def _is_made(loaded: LoadedGraph) -> bool:
    """Whether a factory has made the graph, which does so for each run."""
    return all(value is not loaded.graph for value in vars(loaded.module).values())
