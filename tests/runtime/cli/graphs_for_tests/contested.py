"""A graph whose step reads a row that another session changes before each commit, until `left` is used up."""

import os
from typing import TypedDict

import psycopg
from langgraph.graph import START, StateGraph

from superstep import current_step


class State(TypedDict, total=False):
    left: int
    balance: int


async def setup(saver: object) -> None:
    with psycopg.connect(os.environ["CONTESTED_URL"], autocommit=True) as other:
        other.execute("CREATE TABLE IF NOT EXISTS contested (balance int, disturbances int)")
        other.execute("INSERT INTO contested SELECT 0, 0 WHERE NOT EXISTS (SELECT FROM contested)")


async def decide(state: State) -> State:
    step = current_step()
    balance = await step.fetchval("SELECT balance FROM contested")
    step.stage("UPDATE contested SET balance = $1", balance + 100)
    with psycopg.connect(os.environ["CONTESTED_URL"], autocommit=True) as other:
        other.execute(
            "UPDATE contested SET balance = balance + 1, disturbances = disturbances + 1 WHERE disturbances < %s",
            [state["left"]],
        )
    return {"balance": balance}


graph = StateGraph(State)
graph.add_node("decide", decide)
graph.add_edge(START, "decide")
