"""The coding agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.exceptions import OutputParserException
from langgraph.types import Command, Overwrite, Send
from pydantic import BaseModel, Field

from superstep import InputInvalid, chat_model, current_step, prompt
from superstep.graphs.workspace import rules
from superstep.graphs.workspace.files import files_at, head
from superstep.graphs.workspace.merging import EditInvalid, applied

if TYPE_CHECKING:
    from collections.abc import Mapping

    from superstep.graphs.workspace.state import Change, Edit, State, Status

__all__ = ["MAX_ROUNDS", "Patch", "assign", "code", "done", "edit_again", "review_again"]

MAX_ROUNDS = 8


class Replacement(BaseModel):
    """One edit."""

    path: str = Field(description="The file.")
    old: str = Field(description="A text that stands in the file exactly once; empty to make a new file.")
    new: str = Field(description="What replaces it.")


class Patch(BaseModel):
    """What an agent changes."""

    edits: list[Replacement] = Field(description="The edits, in their order.")
    note: str = Field(description="What was done, or why nothing, in one sentence.")


async def assign(state: State) -> Command[Any]:
    """First node: one agent for each task.

    Raises:
        InputInvalid: There are no tasks.
    """
    tasks = state.get("tasks")
    if not isinstance(tasks, list) or not tasks or not all(isinstance(task, str) and task for task in tasks):
        raise InputInvalid("The input needs 'tasks', for example [\"Set VAT to 21 in prices.py.\"].")
    changes: dict[str, Change] = {
        f"agent-{number}": {
            "agent": f"agent-{number}",
            "task": task,
            "status": "open",
            "base": 0,
            "edits": [],
            "feedback": "",
            "rounds": 0,
            "reviewed": "",
            "moved": False,
            "note": "",
        }
        for number, task in enumerate(tasks, start=1)
    }
    # Overwrite: what earlier tasks of this thread came to is not kept.
    return Command(update={"changes": Overwrite(changes)}, goto=[Send("code", each) for each in changes.values()])


async def code(state: Change) -> Command[Any]:
    """Have a model edit the files as they are now.

    Nothing read here is a fact: while the model thinks, others merge, and the edits stay what they are, edits of the
    files as of merge `base`. Whether they still fit is found out by `review` and `land`, at no model's cost.
    """
    step = current_step()
    base = await head(step, validate=False)
    files = await files_at(step, base)
    patch = await _ask(state, files)
    edits: list[Edit] = [{"path": each.path, "old": each.old, "new": each.new} for each in patch.edits]
    made: Change = {**state, "base": base, "edits": edits, "rounds": state["rounds"] + 1, "note": patch.note}
    if not edits:
        return done(made, "nothing", patch.note)
    try:
        applied(files, edits)
    except EditInvalid as error:
        return edit_again(made, str(error))
    return Command(update={"changes": {made["agent"]: made}}, goto=Send("review", made))


def edit_again(change: Change, feedback: str) -> Command[Any]:
    """Send a change back to its agent, on the files of then; give up after `MAX_ROUNDS`."""
    if change["rounds"] >= MAX_ROUNDS:
        return done(change, "given_up", feedback)
    again: Change = {**change, "status": "open", "feedback": feedback, "reviewed": "", "note": feedback}
    return Command(update={"changes": {again["agent"]: again}}, goto=Send("code", again))


def review_again(change: Change) -> Command[Any]:
    """Send a change back to the reviewer: what would be merged is not the diff that was approved."""
    again: Change = {**change, "status": "open", "reviewed": "", "moved": True}
    return Command(update={"changes": {again["agent"]: again}}, goto=Send("review", again))


def done(change: Change, status: Status, note: str) -> Command[Any]:
    """End an agent's branch."""
    return Command(update={"changes": {change["agent"]: {**change, "status": status, "note": note}}})


async def _ask(change: Change, files: Mapping[str, str]) -> Patch:
    ask = await prompt("workspace/code")
    model = chat_model(ask, offline=rules.answer).with_structured_output(Patch)
    work = {"task": change["task"], "feedback": change["feedback"], "files": dict(files)}
    patch = await model.ainvoke(await ask.ainvoke({"work": work}))
    if not isinstance(patch, Patch):
        raise OutputParserException("The model did not return edits.")
    return patch
