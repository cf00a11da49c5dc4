"""What a reducer is given of values whose JSON is a text, and of models."""

from __future__ import annotations

import operator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from superstep import shared
from superstep.checkpointer.shared import declared
from superstep.reducers import maximum, merge

if TYPE_CHECKING:
    from superstep.checkpointer import TransactionalSaver


@pytest.fixture(autouse=True)
def own_declarations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "_declared", {})


EARLY, LATE = datetime(2026, 1, 1, 23, tzinfo=timezone(timedelta(hours=5))), datetime(2026, 1, 1, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("model", "reducer", "updates", "value"),
    [
        (Decimal, operator.add, [Decimal(1), 2, "0.5"], Decimal("3.5")),
        (Decimal, maximum(), [Decimal(9), Decimal(10)], Decimal(10)),
        (datetime, maximum(), [EARLY, LATE], LATE),
        (bytes, operator.add, [b"abc", b"d"], b"abcd"),
        (timedelta, operator.add, [timedelta(hours=1), timedelta(minutes=5)], timedelta(minutes=65)),
    ],
)
async def test_values_are_merged_as_what_they_are(
    saver: TransactionalSaver, model: Any, reducer: Any, updates: list[Any], value: Any
) -> None:
    shared("v", reducer=reducer, model=model)
    for each in updates:
        await saver.areduce("v", "k", each)
    assert await saver.ashared("v", "k") == value


class Plan(BaseModel):
    owner: str | None = None
    seen: int = 0


async def test_a_model_that_is_given_as_an_update_writes_what_it_has_set(saver: TransactionalSaver) -> None:
    shared("v", reducer=merge(seen=maximum()), model=Plan, default={})
    await saver.areduce("v", "k", Plan(owner="ann"))
    await saver.areduce("v", "k", Plan(seen=3))
    assert await saver.ashared("v", "k") == Plan(owner="ann", seen=3)
