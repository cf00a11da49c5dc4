"""The saver and the store of LangGraph's Agent Server: what `langgraph.json` names for flows that it serves.

    {
      "graphs": {"agent": "./app.py:flow"},
      "checkpointer": {"path": "superstep.agent_server.saver"},
      "store": {"path": "superstep.agent_server.store"}
    }

The server opens both by themselves, once for each thread that it runs flows in. Here they are one saver and its store,
so that what a node puts into the store commits with its super-step. See docs/agent-server.md.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from superstep.runtime.author.face import TransactionalSaver
from superstep.runtime.settings.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from superstep.checkpointer import MemoryStore

__all__ = ["saver", "store"]


@dataclass(slots=True)
class _Opened:
    """The saver of one event loop, and how many have it."""

    users: int = 0
    saver: TransactionalSaver | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # while it is being opened
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)


_opened: dict[asyncio.AbstractEventLoop, _Opened] = {}


@asynccontextmanager
async def saver() -> AsyncIterator[TransactionalSaver]:
    """The saver of the running event loop, with its tables there. It is closed when the last who has it leaves.

    It is opened as `runtime.toml` of the working directory and the variables say, see docs/settings.md.

    Raises:
        ConfigError: a setting is not one.
        DatabaseUnavailable: with the reason and what to do.
    """
    loop = asyncio.get_running_loop()
    here = _opened.setdefault(loop, _Opened())
    here.users += 1
    try:
        async with here.lock:
            if here.saver is None:
                here.saver = await _open(here.stack)
        yield here.saver
    finally:
        here.users -= 1
        if here.users == 0:
            del _opened[loop]
            await here.stack.aclose()


@asynccontextmanager
async def store() -> AsyncIterator[MemoryStore]:
    """The store of `saver`: inside a super-step what is put there is staged. See docs/memory.md."""
    async with saver() as opened:
        yield opened.store


async def _open(stack: AsyncExitStack) -> TransactionalSaver:
    _complete_adapter()
    database = (await asyncio.to_thread(load_settings)).database  # the server refuses to read files on its loop
    opened = await stack.enter_async_context(TransactionalSaver.from_conn_string(**asdict(database)))
    await opened.setup()
    return opened


def _complete_adapter() -> None:
    """Let synchronous nodes of flows that the server runs call subgraphs.

    The server hands a saver to its flows within an adapter, which passes on what asynchronous code calls. What
    synchronous code calls is LangGraph's base class there, which raises NotImplementedError. What is missing is added,
    and nothing is where the server has it by then, or is no more as it was.
    """
    try:
        module: Any = import_module("langgraph_api._checkpointer._adapter")
    except ImportError:  # no server, or another one
        return
    adapter = getattr(module, "_CustomCheckpointerAdapter", None)
    enriched: Callable[..., Any] = getattr(module, "_enrich_metadata", lambda metadata, _config: metadata)

    def put(self: Any, config: Any, checkpoint: Any, metadata: Any, versions: Any) -> Any:
        return self._inner.put(config, checkpoint, enriched(metadata, config), versions)

    def put_writes(self: Any, config: Any, *args: Any, **more: Any) -> None:
        self._inner.put_writes(config, *args, **more)

    def get_tuple(self: Any, config: Any) -> Any:
        return self._inner.get_tuple(config)

    def list_(self: Any, config: Any, **more: Any) -> Any:
        return self._inner.list(config, **more)

    for name, method in {"put": put, "put_writes": put_writes, "get_tuple": get_tuple, "list": list_}.items():
        if getattr(adapter, name, None) is getattr(BaseCheckpointSaver, name):
            setattr(adapter, name, method)
