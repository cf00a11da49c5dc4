"""What one super-step leaves to be done at COMMIT, or waits for, is not for others that would share its transaction."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer import current_step
from superstep.runtime.faults import StagedWriteFailed, StepConflict
from tests.checkpointer.commit.test_shared import FLOWS, NOTE, Together, together
from tests.support.bank import BALANCE, DEBIT

if TYPE_CHECKING:
    from tests.support.bank import Bank

__all__ = ["together"]

_RAISES = (
    "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'no: %', NEW.line USING ERRCODE = '{}'; END $$"
)
_AT_COMMIT = (
    "CREATE CONSTRAINT TRIGGER no AFTER INSERT ON {} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION no()"
)


async def test_a_deferred_trigger_sees_what_its_own_super_step_left(together: Together, bank: Bank) -> None:
    await bank.do("CREATE TABLE audit (at int, balance int); ")
    await bank.do(
        "CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO audit SELECT NEW.line::int, balance FROM account WHERE id = 1; RETURN NULL; END $$"
    )
    await bank.do(
        "CREATE CONSTRAINT TRIGGER audit AFTER INSERT ON journal DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION audit()"
    )

    async def decide(at: int) -> None:
        current_step().stage(DEBIT, 1)
        current_step().stage("INSERT INTO journal (line) VALUES ($1)", str(at))

    together.decide = decide
    await together.run()
    seen = [tuple(row) for row in await bank.do("SELECT at, balance FROM audit ORDER BY at")]
    assert seen == [(at, 99 - at) for at in range(FLOWS)]


@pytest.mark.parametrize("when", ["INITIALLY DEFERRED", "INITIALLY IMMEDIATE"])
async def test_a_reference_is_not_made_good_by_the_next(together: Together, bank: Bank, when: str) -> None:
    """Deferred by the table, or by a trigger of the one before: alone, it would have failed in any order."""
    await bank.do(f"CREATE TABLE pair (id int PRIMARY KEY, of int REFERENCES pair DEFERRABLE {when})")
    await bank.do(
        "CREATE FUNCTION defers() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN SET CONSTRAINTS ALL DEFERRED; RETURN NEW; END $$"
    )
    await bank.do("CREATE TRIGGER defers AFTER INSERT ON journal FOR EACH ROW EXECUTE FUNCTION defers()")

    async def decide(at: int) -> None:
        if at == 1:
            assert await current_step().fetchval("SELECT count(*) FROM pair WHERE id = 2") == 0
            current_step().stage("INSERT INTO pair VALUES (1, 2)")
        elif at == 2:
            current_step().stage("INSERT INTO pair VALUES (2, NULL)")
        else:
            current_step().stage(NOTE, str(at))

    together.decide = decide
    ends = await together.run()
    assert isinstance(ends[1], StagedWriteFailed)
    assert [row["id"] for row in await bank.do("SELECT id FROM pair")] == [2]


@pytest.mark.parametrize("drifts", [False, True])
@pytest.mark.parametrize("state", ["P0001", "57014", "53100", "55P03", "XX000", "23514", "40001"])
async def test_nobody_is_told_what_is_wrong_with_another(
    together: Together, bank: Bank, monkeypatch: pytest.MonkeyPatch, state: str, drifts: bool
) -> None:
    """As if the COMMIT had failed for something else than a trigger: that there is one is not looked for."""
    monkeypatch.setattr("superstep.checkpointer.commit.sharing._HAS_DEFERRABLE", "SELECT false")
    await bank.do("CREATE TABLE refused (line text)")
    await bank.do(_RAISES.format(state))
    await bank.do(_AT_COMMIT.format("refused"))

    async def decide(at: int) -> None:
        if at == 0:
            current_step().stage(DEBIT, 1)
            current_step().stage("INSERT INTO refused VALUES ('0')")
        else:
            await current_step().fetchval(BALANCE, 1 if at == 1 and drifts else 2)
            current_step().stage(NOTE, str(at))

    together.decide = decide
    ends = await together.run()
    assert isinstance(ends[0], Exception)
    assert [end for end in ends[1:] if isinstance(end, Exception) and not isinstance(end, StepConflict)] == []
    assert together.saver.database.connections.lent == 0


async def test_nobody_waits_for_a_lock_that_only_one_of_them_needs(together: Together, bank: Bank) -> None:
    """A program has locked the row, and waits for the others before it goes on. The server cannot see that.

    The one before has left its writes to the one that wants the row; those behind it go on without a turn.
    """

    async def decide(at: int) -> None:
        current_step().stage(*(DEBIT, 1) if at == 1 else (NOTE, str(at)))

    together.decide = decide
    async with bank.saver.transaction() as tx:
        await tx.execute("UPDATE account SET note = 'locked' WHERE id = 1")
        tasks = await together.start()
        ends = await asyncio.wait_for(asyncio.gather(tasks[0], *tasks[2:]), 20)
        assert [end["n"] for end in ends] == [10, 12, 13, 14]
        assert not tasks[1].done()
    assert [end["n"] for end in await asyncio.gather(*tasks)] == [10, 11, 12, 13, 14]
    assert await bank.balance() == 99


async def test_transactions_are_shared_again_after_many_were_aborted(together: Together, bank: Bank) -> None:
    order: Any = together.saver._group.order
    for _ in range(10):
        order.learn(False)
    await together.run()
    lines: dict[str, str] = dict(line.split(" ") for line in await bank.journal())
    assert len(set(lines.values())) < FLOWS
