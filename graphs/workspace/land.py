"""Last node: merge what was reviewed, on the files of now, if the tests pass on the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.types import Command

from superstep import current_step
from superstep.graphs.workspace.code import done, edit_again, review_again
from superstep.graphs.workspace.files import files_at, head
from superstep.graphs.workspace.merging import EditConflict, diff, digest, rebased
from superstep.graphs.workspace.testing import run_tests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from superstep import Step
    from superstep.graphs.workspace.state import Change, State

__all__ = ["land"]

INSERT_MERGE = (
    "INSERT INTO workspace.merge (id, thread_id, agent, task, reviewed, tested) VALUES ($1, $2, $3, $4, $5, $6)"
)
INSERT_FILE = "INSERT INTO workspace.file (path, merge, content) VALUES ($1, $2, $3)"


async def land(state: State) -> list[Command[Any]]:
    """Merge the changes that are approved, one on top of the other, or send each back to who has to look again.

    The number of the latest merge is this node's one fact. If another flow merges while the tests run here, the node
    runs again on top of that, tests included. Of many that land at once each has its turn (docs/hot-rows.md): they land
    one after the other, as in a merge queue. No model is asked.
    """
    step = current_step()
    latest = await head(step)
    now = await files_at(step, latest)
    commands = []
    for change in state["changes"].values():
        if change["status"] == "approved":
            landed = await _land(step, change, latest, now)
            if not isinstance(landed, Command):
                latest, now = latest + 1, landed
                landed = done(change, "merged", f"Merge {latest}: {change['note']}")
            commands.append(landed)
    return commands


async def _land(step: Step, change: Change, latest: int, now: Mapping[str, str]) -> dict[str, str] | Command[Any]:
    """The files with the change, which is staged as the next merge; or where it goes instead."""
    try:
        result = rebased(await files_at(step, change["base"]), change["edits"], now)
    except EditConflict as conflict:
        return edit_again(change, str(conflict))
    if digest(diff(now, result)) != change["reviewed"]:
        return review_again(change)
    tests = await run_tests(result)
    if not tests.passed:
        return edit_again(change, tests.output)
    merge = (latest + 1, step.thread_id, change["agent"], change["task"], change["reviewed"], tests.digest)
    step.stage(INSERT_MERGE, *merge, expect_rows=1)
    for path in sorted(path for path in result if result[path] != now.get(path)):
        step.stage(INSERT_FILE, path, latest + 1, result[path], expect_rows=1)
    return result
