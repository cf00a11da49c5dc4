"""Chunks of streams, made comparable."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage

# What differs between two runs of the same graph: identifiers, times, and which saver it was.
VOLATILE = frozenset(
    {
        "id",
        "ts",
        "timestamp",
        "thread_id",
        "checkpoint_id",
        "checkpoint_ns",
        "langgraph_checkpoint_ns",
        "checkpoint_map",
        "run_id",
        "ls_integration",
        "versions",
        "lc_versions",
        "parents",
    }
)


def scrub(value: Any) -> Any:
    """A chunk without what differs from run to run."""
    if isinstance(value, BaseMessage):
        return (type(value).__name__, value.content)
    if isinstance(value, Mapping):
        return {key: scrub(item) for key, item in value.items() if key not in VOLATILE}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: scrub(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name not in VOLATILE}
    if isinstance(value, list | tuple):
        return [scrub(item) for item in value]
    if isinstance(value, str) and ":" in value:
        return "|".join(part.partition(":")[0] for part in value.split("|"))  # a namespace: node names without task ids
    return value


def fake_model() -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=iter(AIMessage(f"hello world number {n}") for n in range(100)), cache=False)


def by_mode(chunks: list[Any], mode: Any, *, subgraphs: bool, version: str) -> dict[Any, list[Any]]:
    """Chunks apart by namespace and mode: LangGraph promises an order within one mode."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for chunk in chunks:
        ns: Any = ()
        name = mode
        if version == "v2":
            ns, name = tuple(chunk["ns"]), chunk["type"]
        elif isinstance(mode, list):
            ns, name = (chunk[0], chunk[1]) if subgraphs else ((), chunk[0])
        elif subgraphs:
            ns = chunk[0]
        found["|".join(part.partition(":")[0] for part in ns), name].append(scrub(chunk))
    return dict(found)
