"""The answer to COMMIT is lost, outside of a super-step: what others have written since is not undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from asyncpg.transaction import Transaction

from superstep.runtime.faults import DatabaseUnavailable

if TYPE_CHECKING:
    from superstep.checkpointer import TransactionalSaver


async def test_a_put_is_not_made_again(saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    commit, lost = Transaction.commit, []

    async def loses(self: Transaction) -> Any:
        await commit(self)
        if not lost:
            lost.append(True)
            raise asyncpg.ConnectionDoesNotExistError

    monkeypatch.setattr(Transaction, "commit", loses)
    with pytest.raises(DatabaseUnavailable, match="is not known"):
        await saver.store.aput(("a",), "k", {"n": 0})
    await saver.store.aput(("a",), "k", {"n": 1})
    assert [each.value["n"] for each in await saver.store.ahistory(("a",), "k")] in ([0, 1], [1, 0])
