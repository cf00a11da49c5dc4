"""A search of a collection is a fact about the rows that are nearest, and about nothing else."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from langgraph.types import Command, interrupt

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.collections.documents import Document
from superstep.checkpointer.collections.search import Search, matches
from superstep.checkpointer.collections.vectors import vector_text
from superstep.runtime.flow.transactional import transactional
from tests.checkpointer.collections.test_collection import at
from tests.support.graphs import chain, fan, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer.collections.collection import Collection
    from tests.support.bank import Bank

EAST = [1.0, 0.0]
FAR, NEAR = (-1.0, 0.1), (1.0, 0.01)


@pytest.fixture
def hold_idle() -> float:
    """Every commit validates in a transaction of its own."""
    return 0


@pytest.fixture
async def policy(saver: TransactionalSaver) -> Collection:
    policy = await saver.acollection("policy", dimensions=2)
    await policy.add([at(1, 0.1 * n, id=f"{n}", metadata={"tenant": "ab"[n % 2]}) for n in range(1, 9)])
    return policy


@pytest.fixture
async def other(database_url: str) -> Any:
    """The same collection, in a process that takes part in no step."""
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        yield await saver.collections.get("policy")


CHANGES: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "a row far away": (lambda c: c.add([at(*FAR, id="new")]), False),
    "a row among the nearest": (lambda c: c.add([at(*NEAR, id="new")]), True),
    "a row that ties with the last, and comes after it": (lambda c: c.add([at(1, 0.3, id="4")]), False),
    "a row that ties with the last, and comes before it": (lambda c: c.add([at(1, 0.3, id="2a")]), True),
    "one of the nearest is deleted": (lambda c: c.delete(["2"]), True),
    "another one is deleted": (lambda c: c.delete(["7"]), False),
    "one of the nearest says something else": (lambda c: c.add([Document("!", id="2", embedding=[1, 0.2])]), True),
    "one of the nearest moves": (lambda c: c.add([at(1, 0.21, id="2", metadata={"tenant": "a"})]), True),
    "one of the nearest is written as it was": (lambda c: c.add([at(1, 0.2, id="2", metadata={"tenant": "a"})]), False),
    "another one comes near": (lambda c: c.add([at(*NEAR, id="7")]), True),
    "another one moves far away": (lambda c: c.add([at(*FAR, id="7")]), False),
}


def looks(seen: list[Any], **more: Any) -> Any:
    """A node that searches, and lets somebody change the collection the first time."""

    async def node(state: Any) -> Any:
        rows = await current_step().nearest("policy", embedding=EAST, **{"k": 3, **more})
        seen.append([row["id"] for row in rows])
        return {"seen": [len(seen)]}

    return node


@pytest.mark.parametrize("change", CHANGES)
async def test_a_flow_runs_again_if_the_nearest_rows_have_changed_and_only_then(
    saver: TransactionalSaver, policy: Collection, other: Collection, thread: RunnableConfig, change: str
) -> None:
    work, moves = CHANGES[change]
    seen: list[Any] = []
    look = looks(seen)

    async def node(state: Any) -> Any:
        answer = await look(state)
        if len(seen) == 1:
            await work(other)
        current_step().stage("INSERT INTO journal (line) VALUES ($1)", "done")
        return answer

    await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert len(seen) == 1 + moves
    assert (seen[0] == seen[-1]) is (not moves or "says something else" in change or "moves" in change)


async def test_rows_of_others_do_not_matter_and_rows_that_begin_to_match_do(
    saver: TransactionalSaver, policy: Collection, other: Collection, new_thread: Callable[[], RunnableConfig]
) -> None:
    for metadata, moves in [({"tenant": "b"}, 0), ({"tenant": "a"}, 1), ({"tenant": "b"}, 1)]:
        seen: list[Any] = []
        look = looks(seen, filter={"tenant": "a"})

        async def node(state: Any, look: Any = look, seen: Any = seen, metadata: Any = metadata) -> Any:
            answer = await look(state)
            if len(seen) == 1:
                await other.add([at(*NEAR, id="x", metadata=metadata)])
            return answer

        await transactional(chain(saver, node)).ainvoke({"n": 0}, new_thread())
        assert len(seen) == 1 + moves


async def test_any_match_matters_if_there_were_fewer_than_wanted(
    saver: TransactionalSaver, policy: Collection, other: Collection, thread: RunnableConfig
) -> None:
    seen: list[Any] = []
    look = looks(seen, k=20)

    async def node(state: Any) -> Any:
        answer = await look(state)
        if len(seen) == 1:
            await other.add([at(*FAR, id="new")])
        return answer

    await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert [len(each) for each in seen] == [8, 9]


async def test_an_empty_collection_is_a_fact(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    empty = await saver.acollection("policy", dimensions=2)
    empty._step = lambda: None
    seen: list[Any] = []
    look = looks(seen)

    async def node(state: Any) -> Any:
        answer = await look(state)
        if len(seen) == 1:
            await empty.add([at(*FAR, id="new")])
        return answer

    await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert seen == [[], ["new"]]


@pytest.mark.parametrize(("vector", "moves"), [(FAR, False), (NEAR, True)])
async def test_over_an_approval_that_takes_its_time_and_another_process_that_resumes(
    database_url: str,
    saver: TransactionalSaver,
    policy: Collection,
    thread: RunnableConfig,
    vector: tuple[float, float],
    moves: bool,
) -> None:
    seen: list[Any] = []
    look = looks(seen)

    async def node(state: Any) -> Any:
        await look(state)
        said = interrupt(seen[-1])
        return {"seen": [said]}

    flow = transactional(chain(saver, node))
    await flow.ainvoke({"n": 0}, thread)
    await policy.add([at(*vector, id="new")])
    async with TransactionalSaver.from_conn_string(database_url) as later:
        again = transactional(chain(later, node))
        result = await again.ainvoke(Command(resume="yes"), thread)
        if moves:  # the answer was to another question
            assert result["__interrupt__"][0].value == ["new", "1", "2"]
            result = await again.ainvoke(Command(resume="yes"), thread)
    assert result["seen"] == ["yes"]
    assert seen[0] == ["1", "2", "3"]
    assert (seen[-1] == seen[0]) is not moves


async def test_two_that_search_and_insert_are_serial(
    saver: TransactionalSaver, policy: Collection, new_thread: Callable[[], RunnableConfig]
) -> None:
    """Each adds a row nearer than all: whoever commits second has seen the first one's."""
    met = asyncio.Barrier(4)
    seen: dict[str, list[list[str]]] = {}

    async def node(state: Any) -> Any:
        name = state["bag"]["name"]
        rows = await current_step().nearest("policy", embedding=EAST, k=3)
        seen.setdefault(name, []).append([row["id"] for row in rows])
        if len(seen[name]) == 1:
            await met.wait()
        await policy.add([at(1, 0.001 * len(name), id=name)])
        return {"seen": [name]}

    flow = transactional(chain(saver, node))
    names = ["x", "xx", "xxx", "xxxx"]
    await asyncio.gather(*(flow.ainvoke({"bag": {"name": name}}, new_thread()) for name in names))
    last = {name: seen[name][-1] for name in names}
    order = sorted(names, key=lambda name: sum(each in names for each in last[name]))
    for n, name in enumerate(order):
        assert [each for each in last[name] if each in names] == sorted(order[:n], key=len)[:3]


async def test_siblings_are_serial_too(saver: TransactionalSaver, policy: Collection, thread: RunnableConfig) -> None:
    seen: list[list[str]] = []

    async def first(state: Any) -> Any:
        await policy.add([at(*NEAR, id="near"), at(*FAR, id="far")])
        return {"n": 1}

    async def second(state: Any) -> Any:
        rows = await current_step().nearest("policy", embedding=EAST, k=3)
        seen.append([row["id"] for row in rows])
        return {"seen": [2]}

    await transactional(fan(saver, first, second)).ainvoke({"n": 0}, thread)
    assert seen == [["1", "2", "3"], ["near", "1", "2"]]


async def test_a_sibling_that_adds_far_away_changes_nothing(
    saver: TransactionalSaver, policy: Collection, thread: RunnableConfig
) -> None:
    seen: list[Any] = []

    async def first(state: Any) -> Any:
        await policy.add([at(*FAR, id="far")])
        return {"n": 1}

    second = looks(seen)
    second.__name__ = "second"
    await transactional(fan(saver, first, second)).ainvoke({"n": 0}, thread)
    assert len(seen) == 1


@pytest.mark.parametrize("from_outside", [False, True])
async def test_what_a_subgraph_adds_is_no_change_from_outside_and_the_rest_is(
    saver: TransactionalSaver, policy: Collection, other: Collection, thread: RunnableConfig, from_outside: bool
) -> None:
    seen: list[Any] = []
    look = looks(seen)

    async def inner(state: Any) -> Any:
        await policy.add([at(1, 0.02, id="inner")])
        return {"n": 2}

    inside = chain(None, inner)

    async def outer(state: Any) -> Any:
        await look(state)
        await inside.ainvoke({"n": 0})
        if from_outside and len(seen) == 1:
            await other.add([at(*NEAR, id="new")])
        return {"seen": [len(seen)]}

    await transactional(chain(saver, outer)).ainvoke({"n": 0}, thread)
    assert len(seen) == 1 + from_outside
    assert seen[-1] == (["new", "inner", "1"] if from_outside else ["1", "2", "3"])


async def test_a_server_that_has_crashed_or_was_restored_compares_all_rows_once(
    saver: TransactionalSaver, policy: Collection, bank: Bank, new_thread: Callable[[], RunnableConfig]
) -> None:
    """A crash empties the table of epochs; a dump brings the row of another server."""
    for lost in ("TRUNCATE runtime.collection_epoch", "UPDATE runtime.collection_epoch SET made_in = '7'"):
        for change, moves in ((FAR, False), (NEAR, True)):
            seen: list[Any] = []
            look = looks(seen)

            async def node(state: Any, look: Any = look, seen: Any = seen, change: Any = change) -> Any:
                answer = await look(state)
                if len(seen) == 1:
                    async with policy._database.transaction() as tx:
                        await tx.execute(lost)  # noqa: B023
                        # As if its number were one that the snapshot has seen.
                        await tx.execute(f"ALTER TABLE {policy.table} DISABLE TRIGGER revision")
                        await tx.execute(
                            f"INSERT INTO {policy.table} (id, content, embedding, revision)"
                            " VALUES ($1, '', $2::text::vector, '3')",
                            f"new {change} {lost}",  # noqa: B023
                            str(list(change)),
                        )
                        await tx.execute(f"ALTER TABLE {policy.table} ENABLE ALWAYS TRIGGER revision")
                return answer

            await transactional(chain(saver, node)).ainvoke({"n": 0}, new_thread())
            assert len(seen) == 1 + moves
            await bank.do(f"DELETE FROM {policy.table} WHERE id LIKE 'new%'")
    await saver.database.home.settle()
    (row,) = await bank.do("SELECT made_in::xid = xmin AS valid FROM runtime.collection_epoch")
    assert row["valid"]


async def test_revisions_are_of_the_outermost_transaction_whoever_writes(bank: Bank, policy: Collection) -> None:
    async with bank.saver.transaction() as tx:
        async with tx.transaction():
            await tx.execute(
                f"INSERT INTO {policy.table} (id, content, embedding, revision) VALUES ('sub', '', '[1,1]', '1')"
            )
        number = await tx.fetchval("SELECT pg_current_xact_id()")
        assert await tx.fetchval(f"SELECT revision FROM {policy.table} WHERE id = 'sub'") == number


async def test_two_in_one_shared_transaction(
    saver: TransactionalSaver, policy: Collection, new_thread: Callable[[], RunnableConfig]
) -> None:
    """The rows of those before are in the same transaction, uncommitted: they count as written since."""
    met = asyncio.Barrier(8)
    seen: dict[int, list[list[str]]] = {}

    async def node(state: Any) -> Any:
        mine = seen.setdefault(state["n"], [])
        rows = await current_step().nearest("policy", embedding=EAST, k=2)
        mine.append([row["id"] for row in rows])
        if len(mine) == 1:
            await met.wait()
        vector = FAR if state["n"] % 2 else (1, 0.0001 * (state["n"] + 1))
        await policy.add([at(*vector, id=f"n{state['n']}")])
        return {"seen": [1]}

    flow = transactional(chain(saver, node))
    await asyncio.gather(*(flow.ainvoke({"n": n}, new_thread()) for n in range(8)))
    assert await policy.count() == 16
    nearest = await policy.search(embedding=EAST, k=4)
    assert [row["id"] for row in nearest] == ["n0", "n2", "n4", "n6"]
    assert all(seen[n][-1] != ["1", "2"] or n in seen for n in seen)


async def test_several_searches_are_validated_in_one_round_trip(
    saver: TransactionalSaver, policy: Collection, other: Collection, new_thread: Callable[[], RunnableConfig]
) -> None:
    """What cannot be asked together is noted, and asked by itself from then on."""
    for vector, moves in ((FAR, False), (NEAR, True)):
        seen: list[Any] = []

        async def node(state: Any, seen: Any = seen, vector: Any = vector) -> Any:
            step = current_step()
            for towards in (EAST, [0.0, 1.0], [-1.0, 0.0]):
                seen.append(await step.nearest("policy", embedding=towards, k=2, filter={"tenant": {"$ne": "c"}}))
            if len(seen) == 3:
                await other.add([at(*vector, id="new", metadata={"tenant": "c"}), at(*vector, id="new 2")])
                await other.delete(["new 2"] if vector is FAR else [])
            return {"seen": [1]}

        await transactional(chain(saver, node)).ainvoke({"n": 0}, new_thread())
        assert len(seen) == 3 * (1 + moves)
    assert not list(saver.database.apart._texts)


VECTORS = st.tuples(st.integers(-2, 2), st.integers(-2, 2)).filter(any)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 5), VECTORS, st.integers(0, 1)),
        st.tuples(st.just("delete"), st.integers(0, 5)),
        st.tuples(st.just("put back"), st.integers(0, 5)),
        st.tuples(st.just("give away"), st.integers(0, 5), st.integers(0, 1)),
    ),
    max_size=6,
)


def test_validation_says_moved_exactly_when_the_nearest_rows_have_changed(database_url: str) -> None:
    """Whatever was under way when it was searched, whatever comes after: by comparison with exact searches."""
    with asyncio.Runner() as runner:
        opening = TransactionalSaver.from_conn_string(database_url)
        saver = runner.run(opening.__aenter__())
        notes = runner.run(saver.acollection("note", dimensions=2))

        @settings(max_examples=120, deadline=None, phases=[Phase.generate, Phase.shrink], derandomize=True)
        @given(
            before=st.lists(st.tuples(st.integers(0, 5), VECTORS, st.integers(0, 1)), max_size=10),
            under_way=OPERATIONS,
            after=OPERATIONS,
            k=st.integers(1, 5),
            tenant=st.integers(0, 2),
            rolled_back=st.booleans(),
        )
        def check(**case: Any) -> None:
            runner.run(_compare(saver, notes, **case))

        try:
            check()
        finally:
            runner.run(opening.__aexit__(None, None, None))


async def _compare(
    saver: TransactionalSaver,
    notes: Collection,
    *,
    before: Any,
    under_way: Any,
    after: Any,
    k: int,
    tenant: int,
    rolled_back: bool,
) -> None:
    """Search while one transaction is under way; ask the condition after it, and after others."""
    async with saver.transaction() as tx:
        await tx.execute(f"DELETE FROM {notes.table}")
        for id_, vector, of in before:
            await _apply(tx, notes, ("put", id_, vector, of), {})
        kept = {row["id"]: row for row in await tx.fetch(f"SELECT * FROM {notes.table}")}
    where, args = ("source = $1", [f"{tenant}"]) if tenant < 2 else (None, [])
    search = Search(notes.definition, saver.schema, vector_text(notes.definition, [1, 0]), k, where, args)
    async with saver.database.connections.borrow() as conn:
        transaction = conn.transaction()
        await transaction.start()
        for operation in under_way:
            await _apply(conn, notes, operation, kept)
        async with saver.transaction() as tx:  # its number is greater, so the snapshot names the one under way
            await tx.execute("SELECT pg_current_xact_id()")
        async with saver.transaction() as tx:
            returned = await tx.fetch(search.rows_and_snapshot, *search.values)
            shown = [tuple(row["found"]) for row in matches(returned)]
            assert shown == await _exact(tx, search)
        condition = search.condition(returned)
        assert condition is not None
        await (transaction.rollback() if rolled_back else transaction.commit())
    for operation in [None, *after]:
        async with saver.transaction() as tx:
            if operation is not None:
                await _apply(tx, notes, operation, kept)
            said = await tx.fetch(condition[0], *condition[1])
            now = await _exact(tx, search)
            assert bool(said) is (now != shown)
            if said:
                assert [row["id"] for row in said if row["id"]] == [row[0] for row in now]


async def _apply(tx: Any, notes: Collection, operation: Any, kept: Any) -> None:
    kind, number, *rest = operation
    id_ = f"{number}"
    if kind == "delete":
        await tx.execute(f"DELETE FROM {notes.table} WHERE id = $1", id_)
        return
    if kind == "give away":
        await tx.execute(f"UPDATE {notes.table} SET source = $2 WHERE id = $1", id_, f"{rest[0]}")
        return
    if kind == "put back" and id_ not in kept:
        return
    vector, tenant = rest if kind == "put" else (kept[id_]["embedding"].to_list(), kept[id_]["source"])
    await tx.execute(
        f"INSERT INTO {notes.table} (id, content, source, embedding) VALUES ($1, '', $2, $3::text::vector)"
        " ON CONFLICT (id) DO UPDATE SET source = excluded.source, embedding = excluded.embedding",
        id_,
        f"{tenant}",
        str(list(vector)),
    )


async def _exact(tx: Any, search: Search) -> list[tuple[Any, ...]]:
    rows = await tx.fetch(
        f"SELECT id, content, metadata, (embedding <=> '[1,0]') + 0 FROM {search.table} "
        f"WHERE {search.where or 'true'} ORDER BY 4, id LIMIT {search.k}",
        *search.args,
    )
    return [tuple(row) for row in rows]


async def test_validation_looks_at_the_rows_in_question_and_locks_no_others(
    saver: TransactionalSaver, bank: Bank
) -> None:
    """Through other indexes it would lock what the fact is not about: those that a filter could use, above all."""
    notes = await saver.acollection("note", dimensions=2)
    await notes.add(at(1, 0.001 * n, id=f"{n}", metadata={"of": n % 500}) for n in range(2000))
    await bank.do(f"SELECT count(*) FROM {notes.table}")
    async with saver.database.connections.borrow() as conn:
        await conn.execute(f"ANALYZE {notes.table}")
        where, args = "metadata @> $1::text::jsonb AND source IS NULL", ['{"of": 7}']
        search = Search(notes.definition, saver.schema, vector_text(notes.definition, EAST), 4, where, args)
        condition = search.condition(await conn.fetch(search.rows_and_snapshot, *search.values))
        assert condition is not None
        async with conn.transaction(isolation="serializable"):
            assert await conn.fetch(condition[0], *condition[1]) == []
            locked = await conn.fetch(
                "SELECT DISTINCT locktype, relation::regclass::text AS name FROM pg_locks"
                " WHERE mode = 'SIReadLock' AND pid = pg_backend_pid()"
            )
    of = f"runtime.{notes.definition.bare_table}"
    assert {(row["locktype"], row["name"]) for row in locked} <= {
        ("tuple", of),
        ("page", of),
        ("page", f"{of}_pkey"),
        ("page", f"{of}_revision_idx"),
        ("relation", "runtime.collection_epoch"),
        ("tuple", "runtime.collection_epoch"),
        ("page", "runtime.collection_epoch_pkey"),
    }
    assert ("page", f"{of}_revision_idx") in {(row["locktype"], row["name"]) for row in locked}


@pytest.mark.parametrize("hold_idle", [0, 0.25])
async def test_far_rows_cost_nothing_with_an_index_either(
    saver: TransactionalSaver, thread: RunnableConfig, new_thread: Callable[[], RunnableConfig]
) -> None:
    """Thirty flows that search one place and add to another: with an approximate index, nothing runs twice."""
    chance = random.Random(3)
    notes = await saver.acollection("note", dimensions=8)

    def vector(sign: float) -> list[float]:
        return [sign + chance.gauss(0, 0.3) for _ in range(8)]

    await notes.add([Document("", id=f"{n}", embedding=vector(1)) for n in range(600)])
    assert await notes.index(force=True)
    assert (await saver.collections.all())[0]["indexed"]
    runs = 0

    async def node(state: Any) -> Any:
        nonlocal runs
        runs += 1
        assert len(await current_step().nearest("note", embedding=vector(1), k=4)) == 4
        await notes.add([Document("", embedding=vector(-1))])
        return {"seen": [1]}

    flow = transactional(chain(saver, node))
    threads = [new_thread() for _ in range(30)]
    await asyncio.gather(*(flow.ainvoke({"n": 0}, each) for each in threads))
    assert runs == 30
    assert [step.drifts for each in threads for step in await steps_of(saver, each)] == [0] * 30
    assert await notes.count() == 630
