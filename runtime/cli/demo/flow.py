"""The flow of both sides: a planner, an executor that draws, a reviewer that books.

    planner ─┬─ executor ─┬─ reviewer
      ▲      │            │
      └──────┼────────────┘  the executor found the room gone
             └─ reviewer     the planner declined

Nothing in it knows which side it runs on: it reads and writes through a `Desk`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from superstep.runtime.cli.demo.desks import Desk
    from superstep.runtime.cli.demo.meeting import Meeting
    from superstep.runtime.cli.demo.model import Model

__all__ = ["Plan", "State", "build", "fits"]


class Plan(TypedDict):
    """What the planner decided, and on what. Amounts in cents."""

    approve: bool
    amount: int
    drawn: int
    today: int
    read_at: float


class State(TypedDict):
    """Channels of the flow. `application` is the input."""

    application: dict[str, Any]
    plan: NotRequired[Plan]
    invalidated: NotRequired[int]
    reference: NotRequired[str]


class Facts(TypedDict):
    """What a decision rests on: the line of the account, and what was drawn on it today. Amounts in cents."""

    credit_limit: int
    drawn: int
    most_today: int
    today: int


def fits(facts: Facts, amount: int) -> bool:
    """Whether an amount may be drawn: within the line, and within what may be drawn in a day."""
    return facts["drawn"] + amount <= facts["credit_limit"] and facts["today"] + amount <= facts["most_today"]


def build(desk: Desk, model: Model, meeting: Meeting, sql: Mapping[str, str]) -> StateGraph[State]:
    """Make the graph.

    Args:
        desk: How it reads and writes.
        model: Whom it asks.
        meeting: Where all flows have read before any asks: they start from one state.
        sql: The statements of `tables.sql`, for the side's schema.
    """
    nodes = _Nodes(desk, model, meeting, sql)
    flow = StateGraph(State)
    flow.add_node("planner", nodes.plan, destinations=("executor", "reviewer"))
    flow.add_node("executor", nodes.execute, destinations=("planner", "reviewer"))
    flow.add_node("reviewer", nodes.review)
    flow.add_edge(START, "planner")
    return flow


class _Nodes:
    def __init__(self, desk: Desk, model: Model, meeting: Meeting, sql: Mapping[str, str]) -> None:
        self._desk = desk
        self._model = model
        self._meeting = meeting
        self._sql = sql

    async def plan(self, state: State) -> Command[Literal["executor", "reviewer"]]:
        """Read the account, ask the model, and keep to the limits whatever it says."""
        application = state["application"]
        facts, read_at = await self._facts(application["account_id"])
        await self._meeting.wait(application["id"])
        said = await self._model.propose({"amount": application["amount"], **facts})
        plan: Plan = {
            "approve": said.approve and fits(facts, application["amount"]),
            "amount": application["amount"],
            "drawn": facts["drawn"],
            "today": facts["today"],
            "read_at": read_at,
        }
        return Command(update={"plan": plan}, goto="executor" if plan["approve"] else "reviewer")

    async def execute(self, state: State) -> Command[Literal["planner", "reviewer"]]:
        """Look again whether there is room for the plan, ask the model for the payment's text, and draw."""
        application, plan = state["application"], state["plan"]
        facts, _ = await self._facts(application["account_id"])
        if not fits(facts, plan["amount"]):
            return Command(update={"invalidated": state.get("invalidated", 0) + 1}, goto="planner")
        said = await self._model.instruct({"flow": application["id"], "amount": plan["amount"]})
        await self._draw(application, plan)
        return Command(update={"reference": said.reference}, goto="reviewer")

    async def review(self, state: State) -> dict[str, Any]:
        """Book what was decided: an approval if there is a draw, else a decline."""
        application = state["application"]
        drawn = (await self._desk.read(self._sql["drawn_by"], application["id"])).row
        row = (application["id"], application["account_id"], "approve" if drawn else "decline", application["amount"])
        await self._desk.write([(self._sql["book"], row)])
        return {}

    async def _facts(self, account_id: str) -> tuple[Facts, float]:
        """What the account allows, and when the older part of that was read from the database."""
        line = await self._desk.read(self._sql["account"], account_id)
        day = await self._desk.read(self._sql["velocity"], account_id)
        assert line.row is not None and day.row is not None  # noqa: S101, PT018 - made before the race
        facts: Facts = {
            "credit_limit": line.row["credit_limit"],
            "drawn": line.row["drawn"],
            "most_today": day.row["most_today"],
            "today": day.row["today"],
        }
        return facts, min(line.at, day.at)

    async def _draw(self, application: dict[str, Any], plan: Plan) -> None:
        account_id, amount = application["account_id"], plan["amount"]
        await self._desk.write(
            [
                (self._sql["draw_line"], (account_id, amount)),
                (self._sql["draw_day"], (account_id, amount)),
                (self._sql["note_draw"], (application["id"], account_id, amount, plan["drawn"], plan["today"])),
            ],
            touches=[account_id],
        )
