"""A flow in which everything that could be lost or doubled shows.

Balances are changed by subtraction and journal lines have no key, so neither write is idempotent; the last step reads
both, so a wrong one also shows in the state. The rules of the offline model are called only for an answer that is
really paid, and write a line to a file each time. Each question has a text of its own; one is asked twice on purpose.
"""

from __future__ import annotations

import operator
import os
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send

from superstep import current_step
from superstep.providers import chat_model

if TYPE_CHECKING:
    from superstep.checkpointer import Step
    from superstep.providers import OfflineRequest

PAID = "SUPERSTEP_CRASH_PAID"  # variable with the path of the file of paid questions
TABLES = """
CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL);
INSERT INTO account SELECT i, 1000 FROM generate_series(1, 9) i;
CREATE TABLE journal (seq serial PRIMARY KEY, line text NOT NULL);
"""
BALANCE = "SELECT balance FROM account WHERE id = $1"

example_input = {"seen": ["start"]}


class State(TypedDict, total=False):
    seen: Annotated[list[str], operator.add]
    found: Annotated[list[str], operator.add]
    total: int
    lines: int


class Inner(TypedDict, total=False):
    """The subgraph's."""

    found: Annotated[list[str], operator.add]


class Item(TypedDict):
    account: int


def pay(request: OfflineRequest) -> str:
    file = os.open(os.environ[PAID], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, f"{request.text}\n".encode())
    os.close(file)
    return f"answer to <{request.text}>"


async def ask(question: str) -> str:
    return str((await chat_model(offline=pay).ainvoke(question)).content)


def draw(step: Step, account: int, amount: int, line: str) -> None:
    step.stage("UPDATE account SET balance = balance - $2 WHERE id = $1", account, amount, expect_rows=1)
    step.stage("INSERT INTO journal (line) VALUES ($1)", line)


async def opening(state: State) -> State:
    step = current_step()
    balance = await step.fetchval(BALANCE, 1)
    said = await ask(f"opening at {balance}")
    draw(step, 1, 1, f"opening {balance}")
    return {"seen": [said]}


async def audit(state: State) -> State:
    """Asks the same thing twice: two samples, both to be paid, each once."""
    step = current_step()
    both = await step.fetch("SELECT balance FROM account WHERE id IN (1, 2) ORDER BY id")
    said = [await ask("audit"), await ask("audit")]
    draw(step, 2, 7, f"audit {[row['balance'] for row in both]}")
    return {"seen": said}


def price(state: State) -> State:
    """In a thread, with the blocking forms."""
    step = current_step().sync
    balance = step.fetchval(BALANCE, 3)
    said = chat_model(offline=pay).invoke(f"price at {balance}")
    step.stage("UPDATE account SET balance = balance - 3 WHERE id = 3", expect_rows=1)
    step.stage("INSERT INTO journal (line) VALUES ($1)", f"price {balance}")
    return {"seen": [str(said.content)]}


async def note(state: State) -> State:
    """Writes without having read."""
    current_step().stage("INSERT INTO journal (line) VALUES ('note')")
    return {"seen": ["note"]}


async def plain(state: State) -> State:
    return {"seen": ["plain"]}


async def inspect(state: Inner) -> Inner:
    step = current_step()
    balance = await step.fetchval(BALANCE, 4)
    said = await ask(f"inspect at {balance}")
    draw(step, 4, 11, f"inspect {balance}")
    return {"found": [said]}


async def settle(state: Inner) -> Inner:
    """Asks before it reads; then reads what `inspect` has written."""
    said = await ask("settle")
    step = current_step()
    balance = await step.fetchval(BALANCE, 4)
    draw(step, 4, 13, f"settle {balance}")
    return {"found": [said]}


async def watch(state: State) -> State:
    """Beside the subgraph: its step stays open while the subgraph's steps commit."""
    step = current_step()
    balance = await step.fetchval(BALANCE, 5)
    said = await ask(f"watch at {balance}")
    draw(step, 5, 17, f"watch {balance}")
    return {"seen": [said]}


async def work(item: Item) -> State:
    step = current_step()
    account = item["account"]
    balance = await step.fetchval(BALANCE, account)
    said = await ask(f"work on {account} at {balance}")
    draw(step, account, account, f"work {account} {balance}")
    return {"seen": [said]}


async def closing(state: State) -> dict[str, Any]:
    step = current_step()
    total = await step.fetchval("SELECT sum(balance) FROM account")
    lines = await step.fetchval("SELECT count(*) FROM journal")
    said = await ask(f"closing at {total} with {lines}")
    draw(step, 9, 19, f"closing {total} {lines}")
    return {"seen": [said], "total": total, "lines": lines}


def deal(state: State) -> list[Send]:
    return [Send("work", {"account": account}) for account in (6, 7, 8)]


books = StateGraph(Inner)
books.add_node("inspect", inspect)
books.add_node("settle", settle)
books.add_edge(START, "inspect")
books.add_edge("inspect", "settle")
books.add_edge("settle", END)

flow = StateGraph(State)
for node in (opening, audit, price, note, plain, watch, work, closing):
    flow.add_node(node.__name__, node)
flow.add_node("books", books.compile())
flow.add_edge(START, "opening")
for beside in ("audit", "price", "note", "plain"):
    flow.add_edge("opening", beside)
flow.add_edge(["audit", "price", "note", "plain"], "books")
flow.add_edge(["audit", "price", "note", "plain"], "watch")
flow.add_conditional_edges("books", deal, ["work"])
flow.add_edge("watch", END)
flow.add_edge("work", "closing")
flow.add_edge("closing", END)
