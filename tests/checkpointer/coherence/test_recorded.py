"""What committed super-steps leave for the measures."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from superstep import ConfigError, transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.step.read_set import Read
from tests.checkpointer.coherence.conftest import records
from tests.support.bank import BALANCE, DEBIT, LOG, Bank, make_bank
from tests.support.graphs import AGAIN, chain, config_of, fan

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig


async def look(state: Any) -> Any:
    await current_step().fetchval(BALANCE, 1)
    return {"n": 1}


async def test_a_fact_has_the_same_key_in_every_thread_and_another_digest_when_it_moves(
    saver: TransactionalSaver, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    flow = transactional(chain(saver, look))
    for balance in (100, 100, 60):
        await bank.set(balance)
        await flow.ainvoke({}, new_thread())
    one, two, three = [record["facts"] for record in await records(bank)]
    question = Read(BALANCE, (1,), b"").question
    assert question is not None
    assert one == two
    assert one[0][0] == three[0][0] == urlsafe_b64encode(question[:12]).decode()
    assert one[0][1] != three[0][1]
    assert (await records(bank))[0]["labels"] == [[BALANCE, "1"]]


async def test_nothing_is_kept_of_a_super_step_that_read_nothing(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    async def node(state: Any) -> Any:
        current_step().stage(LOG, "line")
        return {"n": 1}

    await transactional(chain(saver, node)).ainvoke({}, thread)
    (record,) = await records(bank)
    assert not record.keys() & {"facts", "labels", "observed", "names", "skew", "conflicts", "left_out"}


async def test_its_moment_is_that_of_the_snapshot_it_committed_in(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """A snapshot that was taken again is newer than the first look, and one that was held older than the commit."""
    release = True
    looked: list[datetime] = []

    async def clock() -> datetime:
        return (await bank.do("SELECT clock_timestamp() AS now"))[0]["now"]  # type: ignore[no-any-return]

    async def held(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 1)
        looked.append(await clock())
        if release:
            await step._step.snapshot.release()
        return {"n": 1}

    flow = transactional(chain(saver, held))
    await flow.ainvoke({}, thread)
    release = False
    await flow.ainvoke({}, thread)
    again, direct = await records(bank)
    assert (again["commit"], direct["commit"]) == ("replay", "direct")
    assert again["at"] > looked[0]
    assert direct["at"] < looked[1]


async def test_parallel_tasks_have_no_skew_although_the_row_changes_between_their_reads(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    first = asyncio.Event()

    async def one(state: Any) -> Any:
        if not first.is_set():
            await current_step().fetchval(BALANCE, 1)
            await bank.set(42)
            first.set()
        else:
            await current_step().fetchval(BALANCE, 1)

    async def two(state: Any) -> Any:
        await first.wait()
        await current_step().fetchval(BALANCE, 1)

    await transactional(fan(saver, one, two)).ainvoke({}, thread)
    (record,) = await records(bank)
    assert record["skew"] == [1, {}]


async def test_what_parallel_tasks_read_elsewhere_is_measured_and_is_no_fact(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    async def one(state: Any) -> Any:
        current_step().observed("account:1", 100, as_of=now)

    async def two(state: Any) -> Any:
        current_step().observed("account:1", 60, as_of=now + timedelta(seconds=3))

    await transactional(fan(saver, one, two)).ainvoke({}, thread)
    (record,) = await records(bank)
    ((key, _, as_of),) = record["observed"]
    assert (as_of, record["names"]) == ((now + timedelta(seconds=3)).timestamp(), ["account:1"])
    assert record["skew"] == [1, {key: [3.0, 1]}]
    assert "facts" not in record
    assert record["reads"] == 0


async def test_what_an_attempt_that_failed_observed_is_dropped(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    tries: list[int] = []

    async def node(state: Any) -> Any:
        tries.append(1)
        current_step().observed(f"try {len(tries)}", 1)
        if len(tries) == 1:
            raise ValueError

    await transactional(chain(saver, node, retry_policy=AGAIN)).ainvoke({}, thread)
    assert [record["names"] for record in await records(bank)] == [["try 2"]]


async def test_what_a_task_observed_is_kept_with_its_saved_result(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """The sibling fails, the process goes on: the finished task does not run again."""
    broken = True
    runs: list[str] = []

    async def finished(state: Any) -> Any:
        runs.append("finished")
        current_step().observed("cache", [1, 2], as_of=datetime(2026, 1, 1, tzinfo=UTC))
        return {"seen": ["finished"]}

    async def sibling(state: Any) -> Any:
        if broken:
            raise RuntimeError

    flow = transactional(fan(saver, finished, sibling))
    with pytest.raises(RuntimeError):
        await flow.ainvoke({}, thread)
    broken = False
    await flow.ainvoke(None, thread)
    assert runs == ["finished"]
    assert [record["names"] for record in await records(bank)] == [["cache"]]


@pytest.mark.parametrize(
    ("value", "as_of"),
    [(object(), None), (1, datetime.now(UTC).replace(tzinfo=None))],
    ids=["a value", "a moment"],
)
async def test_what_cannot_be_compared_is_refused(
    saver: TransactionalSaver, thread: RunnableConfig, value: Any, as_of: datetime | None
) -> None:
    async def node(state: Any) -> Any:
        current_step().observed("k", value, as_of=as_of)

    with pytest.raises(ConfigError, match="observed"):
        await transactional(chain(saver, node)).ainvoke({}, thread)


async def test_a_synchronous_node_observes(saver: TransactionalSaver, bank: Bank, thread: RunnableConfig) -> None:
    def node(state: Any) -> Any:
        current_step().sync.observed("k", 1)

    await transactional(chain(saver, node)).ainvoke({}, thread)
    assert [record["names"] for record in await records(bank)] == [["k"]]


async def test_conflicts_are_counted_by_key_and_survive_the_process(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, database_url: str
) -> None:
    """Twice the row moves under the flow; the second attempt is another saver's."""
    left = [60, 50]

    async def node(state: Any) -> Any:
        step = current_step()
        await step.fetchval(BALANCE, 2)
        await step.fetchval(BALANCE, 1)
        if left:
            await bank.set(left.pop(0))
        step.stage(DEBIT, 1)
        return {"n": 1}

    graph = chain(saver, node)
    with pytest.raises(Exception, match="changed"):
        await graph.ainvoke({}, thread)
    async with TransactionalSaver.from_conn_string(database_url) as other:
        await transactional(chain(other, node)).ainvoke(None, thread)
    (record,) = await records(bank)
    quiet, moved = [key for key, _ in record["facts"]]
    assert record["attempts"] == 3
    assert record["conflicts"] == {moved: 2}
    assert quiet != moved
    found = (await saver.ametrics()).coherence
    assert [(c.key, c.conflicts, c.attempts) for c in found.conflicts] == [(moved, 2, 3), (quiet, 0, 3)]


async def test_with_encryption_nothing_of_a_question_can_be_read(database_url: str) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(JsonPlusSerializer(allowed_msgpack_modules=None), key=b"k" * 32)

    async def node(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        current_step().observed("hunter2", "hunter3")

    async with TransactionalSaver.from_conn_string(database_url, serde=serde) as saver:
        await make_bank(saver)
        await transactional(chain(saver, node)).ainvoke({}, config_of("t"))
        (record,) = await records(Bank(saver))
        question = Read(BALANCE, (1,), b"").question
        assert question is not None
        assert record["facts"][0][0] != urlsafe_b64encode(question[:12]).decode()
        assert "labels" not in record
        assert "names" not in record
        assert "hunter" not in str(record)
        (first, second) = (await saver.ametrics()).coherence.conflicts[0].label
        assert (first, second) == (record["facts"][0][0], "")
        assert [step.reads for step in await saver.asteps("t")] == [1]


async def test_what_is_kept_is_small(saver: TransactionalSaver, bank: Bank, new_thread: Any) -> None:
    """Of a super-step with one read: an eighth of a kilobyte more than of one without."""

    async def blind(state: Any) -> Any:
        current_step().stage(LOG, "line")

    await transactional(chain(saver, look)).ainvoke({}, new_thread())
    await transactional(chain(saver, blind)).ainvoke({}, new_thread())
    rows = await bank.do("SELECT pg_column_size(stats) AS size FROM runtime.checkpoint WHERE stats IS NOT NULL")
    smaller, larger = sorted(row["size"] for row in rows)
    assert 0 < larger - smaller < 160
