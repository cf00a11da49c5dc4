"""A model for demonstrations that thinks somewhere else: it is asked over a socket, and answers when that says so.

What it answers are the rules of this flow. The other side counts what is asked, and may let a question wait.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

from superstep.graphs.underwriting import rules
from superstep.providers import OfflineChatModel

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.outputs import ChatResult

    from superstep import OfflineRequest

__all__ = ["PORT", "SlowModel"]

PORT = "UNDERWRITING_SLOW_MODEL"
"""The variable with the port, on this machine, at which somebody listens."""


def _answer(request: OfflineRequest) -> dict[str, Any] | None:
    return rules.answer(request)


class SlowModel(OfflineChatModel):
    """For a route of provider `langchain`."""

    def __init__(self, **given: Any) -> None:
        super().__init__(rules=_answer, **given)

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ[PORT]))
        try:
            said = {"pid": os.getpid(), "text": str(messages[-1].content)}
            writer.write(json.dumps(said).encode() + b"\n")
            await reader.readline()
        finally:
            writer.close()
        return await super()._agenerate(messages, stop, run_manager, **kwargs)
