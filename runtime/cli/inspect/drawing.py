"""A graph as a picture: mermaid text, lines of plain text, or PNG."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from superstep.runtime.faults import ConfigError
from superstep.runtime.settings.shown import safe

if TYPE_CHECKING:
    from langgraph.pregel import Pregel

__all__ = ["draw"]


def draw(graph: Pregel[Any, Any, Any, Any], kind: str) -> bytes:
    """Draw a compiled graph.

    Args:
        graph: The graph; subgraphs are drawn inside it.
        kind: `mermaid`, `ascii` or `png`.

    Returns:
        The picture; text is UTF-8 and ends with a newline.

    Raises:
        ConfigError: The picture needs a package or a network that is not there.
    """
    drawable = graph.get_graph(xray=True)
    if kind == "mermaid":
        return safe(drawable.draw_mermaid()).encode()
    if kind == "png":
        return _png(drawable)
    if importlib.util.find_spec("grandalf"):
        return safe(drawable.draw_ascii().rstrip() + "\n").encode()
    return safe(_arrows(drawable)).encode()


def _arrows(drawable: Any) -> str:
    """List the edges, one line a node, for machines without the layout package."""
    lines = []
    for node in drawable.nodes:
        edges = [edge for edge in drawable.edges if edge.source == node]
        if edges:
            targets = " | ".join(f"{edge.target} ({edge.data})" if edge.data else edge.target for edge in edges)
            arrow = "..>" if any(edge.conditional for edge in edges) else "-->"
            lines.append(f"{node} {arrow} {targets}")
    return "\n".join([*lines, "", "--> always, ..> one of these. For boxes and lines: pip install grandalf", ""])


def _png(drawable: Any) -> bytes:
    if importlib.util.find_spec("pygraphviz"):
        picture = drawable.draw_png()
    else:
        try:
            picture = drawable.draw_mermaid_png(max_retries=1)
        except Exception as error:
            raise ConfigError(
                "The PNG cannot be drawn: pygraphviz is not installed, and the web service mermaid.ink does not "
                f"answer ({type(error).__name__}). Install pygraphviz, or use --format mermaid or ascii."
            ) from error
    return bytes(picture)
