"""What the database says no to, at the statement or at COMMIT, with whatever SQLSTATE: the tasks at fault run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import StagedWriteFailed
from tests.support.bank import BALANCE, LOG
from tests.support.graphs import fan

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank

# What a trigger may choose: an error of its own, a broken rule, a wrong value, and states in which the driver sees a
# lost connection, a time limit, a lock that was not granted.
STATES = ["P0001", "23514", "22012", "42501", "08006", "57P01", "26000", "57014", "55P03"]


async def refuse_updates(bank: Bank, state: str, *, at_commit: bool) -> None:
    body = f"BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END"
    await bank.do(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
    kind, when = ("CONSTRAINT TRIGGER", "DEFERRABLE INITIALLY DEFERRED") if at_commit else ("TRIGGER", "")
    await bank.do(f"CREATE {kind} refuse AFTER UPDATE ON account {when} FOR EACH ROW EXECUTE FUNCTION refuse()")


@pytest.mark.parametrize("at_commit", [False, True])
@pytest.mark.parametrize("state", STATES)
async def test_a_task_whose_write_a_trigger_refuses_runs_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, state: str, *, at_commit: bool
) -> None:
    await refuse_updates(bank, state, at_commit=at_commit)
    runs: list[str] = []

    async def careless(state: Any) -> Any:
        runs.append("careless")
        await current_step().fetchval(BALANCE, 2)
        if runs.count("careless") == 1:
            current_step().stage("UPDATE account SET note = 'x' WHERE id = 5")
        else:
            current_step().stage(LOG, "careful")
        return {"seen": ["careless"]}

    async def beside(state: Any) -> Any:
        current_step().stage(LOG, "beside")
        return {"seen": ["beside"]}

    flow = transactional(fan(saver, careless, beside))
    with pytest.raises(StagedWriteFailed) as raised:
        await flow.ainvoke({"seen": []}, thread)
    assert raised.value.sqlstate == state
    assert await bank.journal() == []
    await flow.ainvoke(None, thread)
    assert sorted(await bank.journal()) == ["beside", "careful"]
    assert runs == ["careless", "careless"]
