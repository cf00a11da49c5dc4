"""Delivery: at least once, in line by key, given up by name, undone once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.database import failpoints
from superstep.effects import Effect, handler
from superstep.runtime.faults import ConfigError, EffectNotFound
from tests.support.effects import Received, become, jobs, outbox, settled, states, working
from tests.support.graphs import chain

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


@pytest.fixture
def emit(saver: TransactionalSaver, new_thread: Callable[[], RunnableConfig]) -> Callable[..., Any]:
    """Emit one effect, in a flow of its own."""

    async def one(payload: Any, *, topic: str = "mail", key: str | None = None) -> None:
        async def emits(_: Any) -> Any:
            current_step().emit(topic, payload, key=key)
            return {}

        await chain(saver, emits).ainvoke({}, new_thread())

    return one


async def test_a_failure_is_tried_again_with_the_same_identity(
    saver: TransactionalSaver, received: Received, emit: Any
) -> None:
    received.fail = lambda effect: ValueError("not yet") if effect.attempt < 3 else None
    await emit("x")
    async with working(saver):
        await received.has(1)
    assert [effect.attempt for effect in received.tried] == [1, 2, 3]
    assert len({effect.id for effect in received.tried}) == 1
    (stored,) = await outbox(saver)
    assert (stored.state, stored.attempts, stored.failure) == ("delivered", 3, None)


async def test_one_that_keeps_failing_is_a_dead_letter_and_can_be_tried_again(
    saver: TransactionalSaver, received: Received, emit: Any
) -> None:
    received.fail = lambda _: ValueError("always")
    await emit("x")
    async with working(saver):
        await become(saver, "dead")
        (stored,) = await saver.outbox.effects(dead=True)
        assert (stored.attempts, stored.failure) == (3, "ValueError: always")
        received.fail = lambda _: None
        assert await saver.outbox.retry(stored.id) == "waiting"
        await received.has(1)
    assert [effect.attempt for effect in received.tried] == [1, 2, 3, 1]
    assert await saver.outbox.effects(dead=True) == []


async def test_a_topic_without_handler_is_a_dead_letter_with_its_reason(saver: TransactionalSaver, emit: Any) -> None:
    await emit("x", topic="unheard")
    async with working(saver):
        await become(saver, "dead")
        await settled(saver)
    (stored,) = await outbox(saver)
    assert "no handler of effects 'unheard'" in (stored.failure or "")


async def test_one_that_takes_too_long_is_tried_again(saver: TransactionalSaver, emit: Any) -> None:
    tried: list[int] = []

    @handler("slow", attempts=2, backoff=0.001, timeout=0.05)
    async def slow(effect: Effect) -> None:
        tried.append(effect.attempt)
        if effect.attempt == 1:
            await asyncio.Event().wait()

    await emit("x", topic="slow")
    async with working(saver):
        await become(saver, "delivered")
    assert tried == [1, 2]


async def test_one_whose_worker_dies_after_it_was_delivered_comes_again_with_the_same_identity(
    saver: TransactionalSaver, bank: Bank, emit: Any
) -> None:
    """Killed between the delivery and its record: the worker never comes to that."""
    received = Received()
    handler("mail", timeout=0.001)(received)
    reached = asyncio.Event()

    async def die() -> None:
        reached.set()
        await asyncio.Event().wait()

    failpoints.arm("effect.delivered", die)
    await emit("x")
    stop = asyncio.Event()
    dead = asyncio.create_task(saver.queue.work(saver.effect_handlers(), concurrency=1, lease=1000, stop=stop))
    await reached.wait()
    failpoints.disarm("effect.delivered")
    assert await states(saver) == ["waiting"]
    # Its lease and its claim run out:
    await bank.do("UPDATE runtime.queue_pgqueuer SET heartbeat = now() - interval '1 day'")
    await bank.do("UPDATE runtime.effect SET claimed_until = now() - interval '1 s'")
    async with working(saver):
        await received.has(2)
        await become(saver, "delivered")
    first, second = received.effects
    assert first.id == second.id
    assert (first.attempt, second.attempt) == (1, 2)
    dead.cancel()
    await asyncio.wait([dead])


async def test_two_workers_deliver_each_once(saver: TransactionalSaver, received: Received, emit: Any) -> None:
    for n in range(30):
        await emit(n)
    async with working(saver), working(saver):
        await received.has(30)
        await settled(saver)
    assert sorted(received.payloads) == list(range(30))
    assert len(received.tried) == 30


async def test_a_job_too_many_does_no_harm(
    saver: TransactionalSaver, received: Received, bank: Bank, emit: Any
) -> None:
    """Two jobs of one effect, in two workers at once: the one that comes second waits, and finds it delivered."""
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slowly() -> None:
        begun.set()
        await may_end.wait()

    failpoints.arm("effect.claimed", slowly)
    await emit("x")
    await bank.do(
        "INSERT INTO runtime.queue_pgqueuer (priority, status, entrypoint, payload, attempts) "
        "SELECT priority, 'queued', entrypoint, payload, 0 FROM runtime.queue_pgqueuer"
    )
    async with working(saver, concurrency=1), working(saver, concurrency=1):
        await begun.wait()
        async with asyncio.timeout(30):
            while not (await bank.do("SELECT FROM runtime.queue_pgqueuer WHERE attempts > 0")):
                pass  # the other one was sent away
        failpoints.disarm("effect.claimed")
        may_end.set()
        await bank.do("UPDATE runtime.queue_pgqueuer SET execute_after = now() WHERE attempts > 0")
        await settled(saver)
    assert len(received.tried) == 1


async def test_effects_of_a_key_are_delivered_in_order(
    saver: TransactionalSaver, received: Received, emit: Any
) -> None:
    """The first of the key fails at first. Those behind it wait, another key's does not."""
    waited = asyncio.Event()
    received.fail = lambda effect: ValueError("no") if effect.payload == "a1" and not waited.is_set() else None
    handler("mail", attempts=1000, backoff=0.001, longest=0.01, timeout=10)(received)
    for payload in ("a1", "a2", "a3"):
        await emit(payload, key="a")
    await emit("b1", key="b")
    await emit("free")
    async with working(saver, concurrency=8):
        await received.has(2)
        await received.until(lambda: received.tried[-1].attempt > 5)
        assert sorted(received.payloads) == ["b1", "free"]
        waited.set()
        await received.has(5)
        await settled(saver)
    assert [each for each in received.payloads if each[0] == "a"] == ["a1", "a2", "a3"]


async def test_a_dead_one_holds_its_line_up_until_it_is_dropped(
    saver: TransactionalSaver, received: Received, emit: Any
) -> None:
    received.fail = lambda effect: ValueError("no") if effect.payload == 1 else None
    await emit(1, key="a")
    await emit(2, key="a")
    await emit(3, key="a")
    async with working(saver):
        await become(saver, "dead", "waiting", "waiting")
        await settled(saver)  # no job is left: it takes a drop to go on
        assert received.payloads == []
        (dead,) = await saver.outbox.effects(dead=True)
        assert await saver.outbox.drop(dead.id) == "dropped"
        await received.has(2)
        await become(saver, "dropped", "delivered", "delivered")
    assert received.payloads == [2, 3]


async def test_a_line_is_of_one_topic(saver: TransactionalSaver, received: Received, emit: Any) -> None:
    received.fail = lambda _: ValueError("no")
    other = Received()
    handler("other")(other)
    await emit(1, key="a")
    await emit(2, key="a", topic="other")
    async with working(saver):
        await other.has(1)


async def test_a_dropped_one_is_not_delivered(saver: TransactionalSaver, received: Received, emit: Any) -> None:
    await emit("x")
    (waiting,) = await outbox(saver)
    await saver.outbox.drop(waiting.id)
    async with working(saver):
        await settled(saver)
    assert received.tried == []
    with pytest.raises(EffectNotFound, match="dropped"):
        await saver.outbox.drop(waiting.id)


async def test_undo_runs_the_compensation_once_whoever_asks(saver: TransactionalSaver, emit: Any) -> None:
    did, undone = Received(), Received()
    undone.fail = lambda effect: ValueError("not yet") if effect.attempt == 1 else None
    handler("pay", backoff=0.001, undo=undone)(did)
    await emit({"cents": 5}, topic="pay")
    async with working(saver):
        await become(saver, "delivered")
        (stored,) = await outbox(saver)
        asked = await asyncio.gather(*(saver.outbox.undo(stored.id) for _ in range(4)), return_exceptions=True)
        assert sorted(isinstance(each, EffectNotFound) for each in asked) == [False, True, True, True]
        await become(saver, "undone")
        await settled(saver)
    assert [effect.attempt for effect in undone.tried] == [1, 2]
    assert undone.effects[0].id == did.effects[0].id == stored.id
    assert undone.payloads == [{"cents": 5}]
    with pytest.raises(EffectNotFound, match="undone"):
        await saver.outbox.undo(stored.id)


async def test_without_a_compensation_it_is_stuck_by_name(
    saver: TransactionalSaver, received: Received, emit: Any
) -> None:
    await emit("x")
    async with working(saver):
        await become(saver, "delivered")
        (stored,) = await outbox(saver)
        await saver.outbox.undo(stored.id)
        await become(saver, "stuck")
    (stuck,) = await saver.outbox.effects(dead=True)
    assert "no compensation" in (stuck.failure or "")
    assert len(received.tried) == 1


async def test_what_is_not_there_is_named(saver: TransactionalSaver) -> None:
    for ask in (saver.outbox.retry, saver.outbox.drop, saver.outbox.undo):
        with pytest.raises(EffectNotFound, match="no effect 'nobody'"):
            await ask("nobody")


async def test_a_deleted_thread_leaves_what_is_still_to_be_delivered(
    saver: TransactionalSaver, received: Received, thread: RunnableConfig
) -> None:
    async def emits(_: Any) -> Any:
        current_step().emit("mail", 1, key="a")
        current_step().emit("mail", 2, key="a")
        return {}

    await chain(saver, emits).ainvoke({}, thread)
    first, _ = await outbox(saver)
    await saver.outbox.drop(first.id)
    await saver.adelete_thread(thread["configurable"]["thread_id"])
    assert await states(saver) == ["waiting"]
    async with working(saver):
        await received.has(1)
        await settled(saver)
    assert received.payloads == [2]
    assert await states(saver) == []
    assert await jobs(saver) == 0


async def test_handlers_are_checked_when_they_are_declared() -> None:
    async def one(_: Effect) -> None: ...

    async def other(_: Effect) -> None: ...

    def plain(_: Effect) -> None: ...

    handler("t")(one)
    handler("t", attempts=3)(one)  # the same code once more
    with pytest.raises(ConfigError, match="two handlers"):
        handler("t")(other)
    with pytest.raises(ConfigError, match="async"):
        handler("u")(plain)  # type: ignore[type-var]
    with pytest.raises(ConfigError, match="async"):
        handler("u", undo=plain)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="above 0"):
        handler("u", attempts=0)


async def test_one_whose_turn_comes_while_that_is_being_committed_is_not_forgotten(
    saver: TransactionalSaver, received: Received, bank: Bank, emit: Any
) -> None:
    """The one before is delivered, and that is being committed. It was not there when its successor was looked for."""
    await bank.do(
        "CREATE FUNCTION runtime.hold() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END'"
    )
    await bank.do(
        "CREATE CONSTRAINT TRIGGER hold AFTER UPDATE ON runtime.effect DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
        "WHEN (NEW.state = 'delivered') EXECUTE FUNCTION runtime.hold()"
    )
    await emit(1, key="a")
    async with working(saver):
        async with saver.transaction() as holds:
            await holds.execute("SELECT pg_advisory_xact_lock(4711)")
            await received.has(1)
            await _until(bank, "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            await emit(2, key="a")
            # A worker was told of it, and has looked: its job is done, or it waits for the commit.
            await _until(
                bank,
                "SELECT WHERE (SELECT count(*) FROM runtime.queue_pgqueuer) = 1 OR EXISTS ("
                "SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted)",
            )
        await received.has(2)
        await become(saver, "delivered", "delivered")


async def _until(bank: Bank, sql: str) -> None:
    async with asyncio.timeout(30):
        while not await bank.do(sql):
            pass


async def test_what_was_given_up_by_one_and_delivered_by_another_is_delivered(
    saver: TransactionalSaver, bank: Bank, emit: Any
) -> None:
    """The other one was paused for longer than its claim."""
    begun, may_end = asyncio.Event(), asyncio.Event()

    @handler("slow", attempts=2, backoff=0.001)
    async def slow(effect: Effect) -> None:
        if effect.attempt > 1:
            raise ValueError("no")
        begun.set()
        await may_end.wait()

    await emit("x", topic="slow")
    async with working(saver):
        await begun.wait()
        await bank.do("UPDATE runtime.effect SET claimed_until = now() - interval '1 s'")
        await bank.do(
            "INSERT INTO runtime.queue_pgqueuer (priority, status, entrypoint, payload, attempts) "
            "SELECT priority, 'queued', entrypoint, payload, 0 FROM runtime.queue_pgqueuer"
        )
        await become(saver, "dead")
        may_end.set()
        await become(saver, "delivered")
    (stored,) = await outbox(saver)
    assert stored.failure is None


@pytest.mark.parametrize("text", ["odd \udcff", "nul \0", "postgresql://u:pass word@host/db"])
async def test_whatever_a_handler_says_its_failure_is_kept_without_secrets(
    saver: TransactionalSaver, received: Received, emit: Any, text: str
) -> None:
    received.fail = lambda _: ValueError(text)
    await emit("x")
    async with working(saver):
        await become(saver, "dead")
    assert len(received.tried) == 3
    (stored,) = await saver.outbox.effects(dead=True)
    assert (stored.failure or "").startswith("ValueError: ")
    assert "word" not in (stored.failure or "")


async def test_a_failure_of_another_key_keeps_no_other_from_being_listed(
    saver: TransactionalSaver, received: Received, emit: Any, database_url: str
) -> None:
    received.fail = lambda _: ValueError("why")
    other = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    async with TransactionalSaver.from_conn_string(database_url, serde=other) as encrypting:
        await emit("x")
        async with working(encrypting):
            await become(saver, "dead")
        await emit("y")
        async with working(saver):
            await become(saver, "dead", "dead")
        assert [each.failure for each in await outbox(saver)] == ["(encrypted)", "ValueError: why"]
        assert [each.state for each in await outbox(encrypting)] == ["dead", "dead"]
