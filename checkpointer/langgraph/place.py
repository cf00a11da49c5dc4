"""Where in a run some code is executing, read off the config that LangGraph gives it. Pure.

A task's namespace is its graph's plus one segment `node:task_id`. Which of the segments belong to the graph decides
whose barrier ends the task:

- a node, a tool, a `Send`: all but the last;
- a `@task` call: its caller's namespace plus one segment, and its path nests the caller's, so each level of calls adds
  one more that is not the graph's;
- a node's error handler: the failed task's namespace plus one segment, and its path plus two elements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from langgraph.config import get_config

from superstep.checkpointer.langgraph.keys import (
    CHECKPOINT_MAP,
    CHECKPOINTER,
    ERROR_HANDLER,
    PUSH,
    RUNTIME,
    SEND,
    STEP_TAG,
    TASK_ID,
    by_namespace,
    run_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["TaskPlace", "graph_namespace", "node_of_callback", "nodes_around", "path_text", "task_place"]


class TaskPlace(NamedTuple):
    """The task that some code belongs to.

    Attributes:
        saver: the graph's checkpointer, of whatever kind.
        run_key: identifies the run.
        thread_id: the thread.
        ns: namespace of the graph whose barrier ends the task.
        checkpoint_map: per namespace, the checkpoint that its running super-step started from.
        task_id: LangGraph's id of the task.
        node: its name.
        path: LangGraph's path of the task, as it hands it to the saver; tasks of a super-step are ordered by it.
        attempt: which execution of the node this is, by LangGraph's count.
        callers: of a `@task` call, the tasks (id to node) that called it, outermost first.
        send: adds writes to those that LangGraph hands to the saver when the task is done.
    """

    saver: object
    run_key: object
    thread_id: str
    ns: str
    checkpoint_map: Mapping[str, str]
    task_id: str
    node: str
    path: str
    attempt: int
    callers: dict[str, str]
    send: Callable[[Sequence[tuple[str, Any]]], None]

    def around(self, counts: Callable[[str], bool]) -> TaskPlace | None:
        """The task in which the graph of this one runs: of the nearest graph around it whose namespace counts.

        Of that task only the identity is known here: not its path, nor which execution of it this is.
        """
        inner = self.ns.split("|")
        for depth in range(len(inner) - 1, -1, -1):
            ns = "|".join(inner[:depth])
            node, _, task_id = inner[depth].rpartition(":")
            if node and ns in self.checkpoint_map and counts(ns):
                return self._replace(ns=ns, task_id=task_id, node=node)
        return None


def task_place() -> TaskPlace | None:
    """The place of the calling code; `None` in a task of a graph without a checkpointer.

    Raises:
        RuntimeError: the code belongs to no graph at all.
    """
    config = get_config()
    conf: Mapping[str, Any] = config.get("configurable", {})
    runtime = conf.get(RUNTIME)
    if runtime is None or TASK_ID not in conf or conf.get(CHECKPOINTER) is None:
        return None
    metadata = config.get("metadata", {})
    path = metadata.get("langgraph_path", ())
    ns = graph_namespace(conf["checkpoint_ns"], path)
    info = runtime.execution_info
    return TaskPlace(
        saver=conf[CHECKPOINTER],
        run_key=run_key(conf),
        thread_id=str(conf["thread_id"]),
        ns=ns,
        checkpoint_map=by_namespace(conf[CHECKPOINT_MAP]),
        task_id=conf[TASK_ID],
        node=str(metadata.get("langgraph_node", "?")),
        path=path_text(path),
        attempt=info.node_attempt if info is not None else 1,
        callers={} if ERROR_HANDLER in path else _callers(conf["checkpoint_ns"], ns),
        send=conf[SEND],
    )


def node_of_callback(name: str | None, tags: Sequence[str] | None, metadata: Mapping[str, Any] | None) -> str | None:
    """The node that LangChain's callbacks say has started, by what they carry; runnables inside a node give `None`."""
    node: str | None = (metadata or {}).get("langgraph_node")
    return node if node and name == node and any(tag.startswith(STEP_TAG) for tag in tags or ()) else None


def path_text(path: Any) -> str:
    """LangGraph's text of a task path: what is put in order by it is in the order of the tasks."""
    if isinstance(path, tuple | list):
        return f"~{', '.join(map(path_text, path))}"
    return f"{path:010d}" if isinstance(path, int) else str(path)


def graph_namespace(task_ns: str, path: Sequence[Any]) -> str:
    """The namespace of the graph whose barrier ends a task, from the task's own namespace and path."""
    parts = task_ns.split("|")
    depth = 1
    if ERROR_HANDLER in path:
        depth += 1
        path = path[: path.index(ERROR_HANDLER)]
    while len(path) == 4 and path[0] == PUSH and path[3] is True:
        depth += 1
        path = path[1]
    return "|".join(parts[:-depth])


def _callers(task_ns: str, graph_ns: str) -> dict[str, str]:
    """The tasks (id to node) between a graph's namespace and a task in it."""
    above = task_ns.split("|")[len(graph_ns.split("|")) if graph_ns else 0 : -1]
    return {task_id: node for node, _, task_id in (part.rpartition(":") for part in above)}


def nodes_around(ns: str) -> str:
    """A namespace without the ids of tasks: the same whenever the same nodes run the same subgraphs."""
    return "|".join(part.partition(":")[0] for part in ns.split("|"))
