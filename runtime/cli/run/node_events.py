"""Which nodes are at work right now, told by LangChain's callbacks.

The stream cannot say it: of a transactional graph it shows a super-step only after its commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.callbacks import BaseCallbackHandler

from superstep.checkpointer import node_of_callback

if TYPE_CHECKING:
    from uuid import UUID

    from superstep.runtime.cli.run.progress import RunProgress

__all__ = ["NodeEvents"]


class NodeEvents(BaseCallbackHandler):
    """Callbacks that tell a display when nodes start and end.

    Args:
        progress: The display; it is called on the event loop, in order.
    """

    run_inline = True  # LangChain would call it in threads otherwise

    def __init__(self, progress: RunProgress) -> None:
        self._progress = progress

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note a node; runnables inside it are left out."""
        if node := node_of_callback(kwargs.get("name"), tags, metadata):
            self._progress.node_started(run_id, node)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Note that a node ended."""
        self._progress.node_ended(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Note that a node failed."""
        self._progress.node_ended(run_id)
