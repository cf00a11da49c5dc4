"""The reviewer: a model, and a human for changes to the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.exceptions import OutputParserException
from langgraph.types import Command, interrupt
from pydantic import BaseModel, Field

from superstep import chat_model, current_step, prompt
from superstep.graphs.workspace import rules
from superstep.graphs.workspace.code import done, edit_again
from superstep.graphs.workspace.files import files_at, head, rest_on
from superstep.graphs.workspace.merging import EditConflict, diff, digest, rebased

if TYPE_CHECKING:
    from superstep.graphs.workspace.state import Change

__all__ = ["Verdict", "review"]

HOW_TO_ANSWER = 'Answer true, false, or {"approved": false, "note": "what to change"}.'


class Verdict(BaseModel):
    """What the reviewer says of a diff."""

    approved: bool = Field(description="Whether it may be merged as it is.")
    comment: str = Field(description="What to change, or why it is fine, in one sentence.")


async def review(state: Change) -> Command[Any]:
    """Show the change as a diff against the files of now, to a model, and to a human if it is about tests.

    The files are shown to the model and are no fact: merges elsewhere do not make it read again. What is approved is
    one diff, by its digest, and `land` merges that one or none. A human is asked once more, at once, if a file of the
    diff has changed before the answer comes: so for the human those files are facts.
    """
    step = current_step()
    paths = [edit["path"] for edit in state["edits"]]
    about_tests = any(path.startswith("test_") for path in paths)
    if about_tests:
        await rest_on(step, paths)
    base, now = await files_at(step, state["base"]), await files_at(step, await head(step, validate=False))
    try:
        shown = diff(now, rebased(base, state["edits"], now))
    except EditConflict as conflict:
        return edit_again(state, str(conflict))
    if not shown:
        return done(state, "nothing", "Another merge has made the same change.")
    verdict = await _ask(state, shown)
    if verdict.approved and about_tests:
        verdict = _ask_human(state, shown, verdict, step.facts_changed or state["moved"])
    if not verdict.approved:
        return edit_again(state, verdict.comment)
    approved: Change = {
        **state,
        "status": "approved",
        "reviewed": digest(shown),
        "moved": False,
        "note": verdict.comment,
    }
    # By its name, without a change of its own: whatever is approved in this super-step lands in one task.
    return Command(update={"changes": {approved["agent"]: approved}}, goto="land")


def _ask_human(change: Change, shown: str, verdict: Verdict, facts_changed: bool) -> Verdict:
    question = {
        "question": "May the tests be changed like this?",
        "agent": change["agent"],
        "task": change["task"],
        "diff": shown.splitlines(),
        "reviewer": verdict.comment,
        "facts_changed": facts_changed,
        "how_to_answer": HOW_TO_ANSWER,
    }
    answer = interrupt(question)
    while True:
        said = {"approved": answer} if isinstance(answer, bool) else answer
        if isinstance(said, dict) and isinstance(said.get("approved"), bool):
            return Verdict(approved=said["approved"], comment=str(said.get("note", "A human has decided.")))
        answer = interrupt({**question, "problem": f"The answer was not understood. {HOW_TO_ANSWER}"})


async def _ask(change: Change, shown: str) -> Verdict:
    ask = await prompt("workspace/review")
    model = chat_model(ask, offline=rules.answer).with_structured_output(Verdict)
    verdict = await model.ainvoke(await ask.ainvoke({"task": change["task"], "diff": shown}))
    if not isinstance(verdict, Verdict):
        raise OutputParserException("The model did not return a verdict.")
    return verdict
