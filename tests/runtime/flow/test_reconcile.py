"""Finished flows that decide again: nothing changes, nothing is paid twice, and what differs is what was incoherent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.types import Command, interrupt

from superstep import transactional
from superstep.checkpointer import current_step
from superstep.runtime.flow.reconcile import STAGED, reconcile, without_ids
from tests.checkpointer.shared.plans import TOTAL
from tests.support.bank import BALANCE, DEBIT, LOG
from tests.support.graphs import State, chain, config_of, fan

if TYPE_CHECKING:
    from superstep.checkpointer import TransactionalSaver
    from tests.support.bank import Bank

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class Counted(GenericFakeChatModel):
    """Counts what is paid."""

    paid: list[str] = []  # noqa: RUF012 - a field of a pydantic model

    def _generate(self, messages: Any, *args: Any, **options: Any) -> Any:
        self.paid.append(str(messages[-1].content))
        return super()._generate(messages, *args, **options)


def model() -> Counted:
    return Counted(messages=iter(AIMessage(f"answer {n}") for n in range(100)), paid=[])


async def everything(bank: Bank) -> dict[str, Any]:
    """The rows of all tables that a trial could touch, but for those it notes itself in."""
    names = await bank.do(
        "SELECT table_schema || '.' || table_name AS name FROM information_schema.tables "
        "WHERE table_schema IN ('runtime', 'public') AND table_type = 'BASE TABLE'"
    )
    kept = [row["name"] for row in names if row["name"] not in ("runtime.worker", "runtime.reconciliation")]
    return {name: sorted(map(str, await bank.do(f"SELECT * FROM {name}"))) for name in kept}


async def test_a_coherent_flow_decides_the_same_and_nothing_changes(saver: TransactionalSaver, bank: Bank) -> None:
    asked = model()

    async def plan(state: State) -> Any:
        balance = await current_step().fetchval(BALANCE, 1)
        said = await asked.ainvoke(f"balance {balance}")
        return {"seen": [said.text, balance]}

    async def act(state: State) -> Any:
        said = await asked.ainvoke("act?")
        current_step().stage(LOG, "acted")
        current_step().reduce(TOTAL.name, "a", 5)
        await saver.store.aput(("a",), "b", {"c": 1})
        await saver.store.aremember(("a",), {"c": 2})
        own = await saver.store.aget(("a",), "b")  # a task sees its own puts, in a trial too
        return {"seen": [said.text, own.value if own is not None else None]}

    async def after(state: State) -> Any:
        return {"n": await current_step().fetchval("SELECT count(*) FROM journal")}

    flow = transactional(chain(saver, plan, act, after))
    await flow.ainvoke({}, config_of("t"))
    assert asked.paid == ["balance 100", "act?"]
    before = await everything(bank)
    found = await reconcile(flow, saver, "t")
    assert (found.outcome, found.channels, found.facts, found.observed) == ("same", [], 1, False)
    assert (found.llm_paid, found.llm_reused) == (0, 2)
    assert asked.paid == ["balance 100", "act?"]
    assert await everything(bank) == before
    told = await saver.ametrics()
    assert (told.reconciled, told.reconciled_differing, told.reconciliation_delta) == (1, 0, 0.0)


async def test_what_was_decided_on_a_cache_that_lagged_is_decided_otherwise(
    saver: TransactionalSaver, bank: Bank
) -> None:
    asked, cache = model(), {"balance": 100}

    async def plan(state: State) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 2)
        step.observed("account:1", cache["balance"], as_of=EPOCH)
        said = await asked.ainvoke(f"enough? {cache['balance']}")
        return {"n": cache["balance"], "seen": [said.text]}

    flow = transactional(chain(saver, plan))
    await flow.ainvoke({}, config_of("t"))
    assert (await reconcile(flow, saver, "t")).outcome == "same"
    cache["balance"] = 30
    found = await reconcile(flow, saver, "t")
    assert (found.outcome, found.observed, found.llm_paid, found.llm_reused) == ("differs", True, 1, 0)
    assert (found.before, found.after) == (
        {"n": 100, "seen": ["answer 0"]},
        {"n": 30, "seen": ["answer 1"]},
    )
    assert (await reconcile(flow, saver, "t", channels=["bag"])).outcome == "same"
    cache["balance"] = 20
    await reconcile(flow, saver, "t")
    told = await saver.ametrics()
    assert (told.reconciled, told.reconciled_differing) == (1, 1)


async def test_whether_it_writes_is_part_of_the_decision(saver: TransactionalSaver, bank: Bank) -> None:
    cache = {"enough": True}

    async def act(state: State) -> Any:
        step = current_step()
        step.observed("enough", cache["enough"])
        if cache["enough"]:
            step.stage(LOG, "acted")
        return {"n": 1}

    flow = transactional(chain(saver, act))
    await flow.ainvoke({}, config_of("t"))
    cache["enough"] = False
    found = await reconcile(flow, saver, "t")
    assert (found.outcome, found.before, found.after) == ("differs", {STAGED: True}, {STAGED: False})
    assert await bank.journal() == ["acted"]


@pytest.mark.parametrize("who", ["itself", "another"])
async def test_facts_that_have_moved_since_are_another_question(
    saver: TransactionalSaver, bank: Bank, who: str
) -> None:
    async def act(state: State) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        if who == "itself":
            step.stage(DEBIT, 1)
        return {"n": balance}

    flow = transactional(chain(saver, act))
    await flow.ainvoke({}, config_of("t"))
    if who == "another":
        await bank.set(3)
    found = await reconcile(flow, saver, "t")
    assert (found.outcome, found.is_compared) == ("facts moved", False)
    assert await bank.balance() == (99 if who == "itself" else 3)
    assert (await saver.ametrics()).reconciled == 0


async def test_flows_that_cannot_be_compared(saver: TransactionalSaver) -> None:
    broken = False

    async def ask(state: State) -> Any:
        return {"seen": [interrupt("sure?")]}

    async def node(state: State) -> Any:
        if broken:
            raise ValueError("no")
        return {"n": 1}

    asking = transactional(chain(saver, ask))
    await asking.ainvoke({}, config_of("asks"))
    await asking.ainvoke(Command(resume="yes"), config_of("asks"))
    assert (await reconcile(asking, saver, "asks")).outcome == "asks a human"
    flow = transactional(chain(saver, node))
    await flow.ainvoke({}, config_of("fails"))
    await flow.ainvoke({}, config_of("forks"))
    (at,) = [state async for state in flow.aget_state_history(config_of("forks")) if state.next == ("node",)]
    await flow.ainvoke(None, at.config)
    broken = True
    found = await reconcile(flow, saver, "fails")
    assert (found.outcome, found.error) == ("failed", "ValueError: no")
    assert (await reconcile(flow, saver, "forks")).outcome == "forked"
    assert (await reconcile(flow, saver, "nobody's")).outcome == "no input"
    assert [each.thread_id for each in await saver.athreads() if each.thread_id.startswith("reconcile")] == []


async def test_a_run_that_a_node_starts_has_no_effect_either(saver: TransactionalSaver, bank: Bank) -> None:
    async def inner(state: State) -> Any:
        current_step().stage(LOG, "inner")
        return {"n": 1}

    within = transactional(chain(saver, inner))

    async def outer(state: State) -> Any:
        await within.ainvoke({}, config_of(f"inner of {current_step().thread_id}"))
        return {"n": 2}

    flow = transactional(chain(saver, outer))
    await flow.ainvoke({}, config_of("t"))
    found = await reconcile(flow, saver, "t")
    assert found.outcome == "failed"
    assert "trial" in str(found.error)
    assert await bank.journal() == ["inner"]


async def test_only_the_latest_run_decides_again_and_identical_questions_have_their_own_answers(
    saver: TransactionalSaver,
) -> None:
    asked = model()

    async def sample(state: State) -> Any:
        return {"seen": [(await asked.ainvoke("dice")).text for _ in range(3)]}

    flow = transactional(chain(saver, sample))
    await flow.ainvoke({}, config_of("t"))
    asked.paid.clear()
    found = await reconcile(flow, saver, "t")
    assert (found.outcome, found.llm_reused, asked.paid) == ("same", 3, [])


async def test_subgraphs_and_parallel_tasks(saver: TransactionalSaver, bank: Bank) -> None:
    async def left(state: State) -> Any:
        current_step().stage(LOG, "left")
        return {"seen": [await current_step().fetchval(BALANCE, 2)]}

    async def right(state: State) -> Any:
        return {"seen": [await current_step().fetchval(BALANCE, 3)]}

    inner = fan(None, left, right)

    async def outer(state: State) -> Any:
        return {"seen": (await inner.ainvoke({}))["seen"]}

    flow = transactional(chain(saver, outer))
    await flow.ainvoke({}, config_of("t"))
    found = await reconcile(flow, saver, "t")
    assert (found.outcome, found.facts) == ("same", 2)
    assert await bank.journal() == ["left"]


def test_ids_that_are_made_anew_each_time_are_left_out() -> None:
    call = {"type": "tool_call", "id": "1", "name": "f", "args": {"id": 7}}
    value = [{"type": "ai", "content": "x", "id": "2", "tool_calls": [call]}, {"id": 3}]
    without = [
        {"type": "ai", "content": "x", "tool_calls": [{"type": "tool_call", "name": "f", "args": {"id": 7}}]},
        {"id": 3},
    ]
    assert without_ids(value) == without
