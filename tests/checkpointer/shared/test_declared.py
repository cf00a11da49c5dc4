"""What was declared, and what was stored by an earlier declaration."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from superstep import current_step, shared
from superstep.checkpointer.shared import declared
from superstep.reducers import append, last_writer, merge
from superstep.runtime.faults import ConfigError, SharedOutdated, StagedWriteFailed, UpdateInvalid
from tests.support.graphs import chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.runnables import RunnableConfig

    from superstep import TransactionalSaver


class Old(BaseModel):
    total: int = 0


class New(BaseModel):
    model_config = ConfigDict(extra="forbid")
    amount: Decimal
    currency: str


def renamed(data: Any, version: int) -> Any:
    assert version == 1
    return {"amount": str(data["total"]), "currency": "EUR"}


@pytest.fixture(autouse=True)
def _own_declarations() -> Iterator[None]:
    """What a test declares is forgotten after it, as with another process."""
    known = dict(declared._declared)
    yield
    declared._declared.clear()
    declared._declared.update(known)


def redeclare(**options: Any) -> None:
    """As another release would."""
    declared._declared.pop("test.ledger", None)
    shared("test.ledger", reducer=merge(), **options)


async def test_an_upgrade_is_applied_when_it_is_read_and_stored_when_it_is_reduced(
    saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    redeclare(model=Old)
    await saver.areduce("test.ledger", "l", {"total": 3})
    redeclare(model=New, version=2, upgrade=renamed)
    assert await saver.ashared("test.ledger", "l") == New(amount=Decimal(3), currency="EUR")
    seen: list[Any] = []

    async def node(state: Any) -> Any:
        seen.append(await current_step().shared("test.ledger", "l"))
        current_step().reduce("test.ledger", "l", {"amount": Decimal("4.50")})
        return {}

    await chain(saver, node).ainvoke({}, thread)
    assert seen == [New(amount=Decimal(3), currency="EUR")]
    assert await saver.ashared("test.ledger", "l") == New(amount=Decimal("4.50"), currency="EUR")
    assert [(u.version, u.form) for u in await saver.ashared_history("test.ledger", "l")] == [(1, 1), (2, 2)]
    redeclare(model=Old)  # an older process, which must not undo it
    with pytest.raises(SharedOutdated, match="was stored by version 2 of its declaration, and this one is 1"):
        await saver.ashared("test.ledger", "l")
    with pytest.raises(SharedOutdated):
        await saver.areduce("test.ledger", "l", {"total": 1})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, r"does not fit its model .*New: amount: Field required.*version=.*upgrade="),
        ({"version": 2}, "was stored by version 1 of its declaration, and this one is 2"),
        ({"version": 2, "upgrade": lambda data, _: data["no"]}, "could not be upgraded from version 1 to 2"),
        ({"version": 2, "upgrade": lambda *_: {"amount": "x"}}, "does not fit its model"),
    ],
)
async def test_a_value_whose_model_has_changed(
    saver: TransactionalSaver, thread: RunnableConfig, options: Any, words: str
) -> None:
    redeclare(model=Old)
    await saver.areduce("test.ledger", "l", {"total": 3})
    redeclare(model=New, **options)

    async def look(state: Any) -> Any:
        await current_step().shared("test.ledger", "l")

    async def reduce(state: Any) -> Any:
        current_step().reduce("test.ledger", "l", {"currency": "EUR"})

    with pytest.raises(SharedOutdated, match=words) as caught:
        await chain(saver, look).ainvoke({}, thread)
    assert (caught.value.name, caught.value.key) == ("test.ledger", "l")
    with pytest.raises(StagedWriteFailed, match=words) as failed:
        await chain(saver, reduce).ainvoke({}, thread)
    assert isinstance(failed.value.__cause__, SharedOutdated)
    redeclare(model=Old)
    assert await saver.ashared("test.ledger", "l") == Old(total=3)  # nothing is lost


def test_a_name_is_declared_once_or_by_the_same_code() -> None:
    for _ in range(2):
        shared("test.twice", reducer=append(key="id"), model=list[int])
    for options in ({"reducer": append()}, {"model": list[str]}, {"version": 2}, {"default": [1]}):
        with pytest.raises(ConfigError, match="is declared twice, and not alike"):
            shared("test.twice", **{"reducer": append(key="id"), "model": list[int], **options})


@pytest.mark.parametrize(("name", "key"), [("", "k"), ("n", ""), ("n\0", "k"), ("n", "\ud800"), ("n", "k" * 1001)])
def test_what_cannot_be_a_name_or_a_key(name: str, key: str) -> None:
    with pytest.raises(ConfigError, match="shared value"):
        declared.usable_place(name, key)


def test_a_default_must_fit() -> None:
    with pytest.raises(ConfigError, match="does not fit its model"):
        shared("test.default", reducer=last_writer(), model=int, default="x")


class Row(TypedDict):
    at: datetime


async def test_values_come_back_as_their_model_makes_them(saver: TransactionalSaver) -> None:
    class Aliased(BaseModel):
        model_config = ConfigDict(strict=True)
        count: int = Field(alias="Count")
        at: datetime
        big: int = 2**70

    now = datetime.now(UTC)
    shared("test.aliased", reducer=last_writer(), model=Aliased)
    await saver.areduce("test.aliased", "k", Aliased(Count=1, at=now))
    assert await saver.ashared("test.aliased", "k") == Aliased(Count=1, at=now)
    shared("test.rows", reducer=append(), model=list[Row], default=[{"at": now}])
    assert await saver.ashared("test.rows", "k") == [{"at": now}]
    await saver.areduce("test.rows", "k", {"at": now})
    assert await saver.ashared("test.rows", "k") == [{"at": now}] * 2
    shared("test.any", reducer=last_writer())
    assert await saver.ashared("test.any", "k") is None
    await saver.areduce("test.any", "k", {"a": [1, None, "\0é"]})
    assert await saver.ashared("test.any", "k") == {"a": [1, None, "\0é"]}


async def test_a_default_is_everybodys_own_copy(saver: TransactionalSaver) -> None:
    shared("test.copy", reducer=append(), model=list[int], default=[1])
    (await saver.ashared("test.copy", "k")).append(2)
    assert await saver.ashared("test.copy", "k") == [1]


def test_a_model_must_be_one() -> None:
    with pytest.raises(ConfigError, match="nothing that pydantic knows"):
        shared("test.model", reducer=last_writer(), model=object())


def test_bytes_are_a_document_only_if_the_model_says_how() -> None:
    class Sealed(BaseModel):
        model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
        data: bytes

    value = shared("test.bytes", reducer=last_writer(), model=Sealed)
    text = value.update("k", Sealed(data=b"\xff\0"))
    assert value.value("k", value.after("k", None, json.loads(text)), 1) == Sealed(data=b"\xff\0")
    with pytest.raises(UpdateInvalid, match="no JSON document"):
        value.update("k", {"data": object()})
