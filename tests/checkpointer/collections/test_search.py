"""What a search of a collection finds: with an index and without, by filters, by words."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from superstep.checkpointer import TransactionalSaver, current_step
from superstep.checkpointer.collections import indexing
from superstep.checkpointer.collections.documents import Document
from superstep.runtime.faults import ConfigError
from superstep.runtime.flow.transactional import transactional
from tests.benchmarks.semantic import recall
from tests.checkpointer.collections.test_collection import at, in_step
from tests.support.graphs import chain

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


async def test_recall_on_an_index_while_rows_are_inserted(saver: TransactionalSaver) -> None:
    """Beside exact search in the same snapshot. The benchmark does it on 50,000 vectors."""
    _, right, *_ = await recall(saver, 5_000, inserts=200, queries=40)
    assert right >= 0.95
    (described,) = await saver.collections.all()
    assert described["indexed"]
    assert described["rows"] == 5_200


@pytest.mark.parametrize("precision", ["full", "half"])
@pytest.mark.parametrize("indexed", [False, True])
async def test_a_filter_never_gives_fewer_rows_than_there_are(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, precision: Any, indexed: bool
) -> None:
    chance = random.Random(5)
    notes = await saver.acollection("note", dimensions=4, precision=precision)
    await notes.add(
        Document("", id=f"{n}", metadata={"of": n % 100}, embedding=[chance.gauss(0, 1) for _ in range(4)])
        for n in range(1200)
    )
    if indexed:
        assert await notes.index(force=True)
        assert await notes.index()  # there is one
        (plan,) = [
            "\n".join(row[0] for row in rows)
            for rows in [
                await bank.do(
                    f"EXPLAIN SELECT id FROM {notes.table} "
                    f"ORDER BY embedding <=> '[1,1,1,1]'::{notes.definition.type_name} LIMIT 3"
                )
            ]
        ]
        assert f"{notes.definition.bare_table}_nearest" in plan

    async def look(step: Any) -> None:
        for k in (1, 12, 100, 1200, 1300):
            for filter_, match in [({"of": 7}, 12), ({"of": {"$lt": 50}}, 600), ({"of": 100}, 0), (None, 1200)]:
                rows = await step.nearest("note", embedding=[1.0, 1.0, 1.0, 1.0], k=k, filter=filter_)
                assert len(rows) == min(k, match)
                assert rows == sorted(rows, key=lambda row: (row["distance"], row["id"]))

    await in_step(saver, thread, look)


async def test_an_index_is_built_when_it_pays_and_can_be(
    saver: TransactionalSaver, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "PAYS_FROM", 5)
    notes = await saver.acollection("note", dimensions=2)
    await notes.add(at(1, n, id=f"{n}") for n in range(4))
    assert not await notes.index()
    await notes.add([at(1, 4, id="4")])
    assert await notes.index()
    broad = await saver.acollection("broad", dimensions=2001)
    with pytest.raises(ConfigError, match=r'2,000 dimensions.*precision="half"'):
        await broad.index(force=True)


async def test_what_a_broken_build_has_left_is_built_anew(saver: TransactionalSaver, bank: Bank) -> None:
    notes = await saver.acollection("note", dimensions=2)
    await notes.add(at(1, n, id=f"{n}") for n in range(4))
    assert await notes.index(force=True)
    await bank.do(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = $1::text::regclass", f'{notes.table[:-1]}_nearest"'
    )
    assert not (await saver.collections.all())[0]["indexed"]
    assert await notes.index(force=True)
    assert (await saver.collections.all())[0]["indexed"]


WORDS = [
    ("1", "A chargeback has to be filed within 120 days.", [1.0, 0.0]),
    ("2", "Refunds are paid to the card.", [0.9, 0.1]),
    ("3", "Cats sleep, mostly; they're cats.", [0.0, 1.0]),
    ("4", "Code E-4711 means that the chargeback was refused.", [-1.0, 0.0]),
]


async def test_hybrid_search_finds_by_meaning_and_by_words(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    notes = await saver.acollection("note", dimensions=2, language="english")
    await notes.add(Document(text, id=id_, embedding=vector) for id_, text, vector in WORDS)

    async def look(step: Any) -> None:
        async def ids(text: str, **more: Any) -> list[str]:
            rows = await step.nearest("note", **{"k": 4, "embedding": [1.0, 0.0], "text": text, "hybrid": True, **more})
            assert list(rows[0].keys()) == ["id", "content", "metadata", "distance", "score"]
            assert rows == await notes.search(text, **{"k": 4, "embedding": [1.0, 0.0], "hybrid": True, **more})
            return [row["id"] for row in rows]

        assert (await ids("E-4711 refused"))[:2] == ["4", "1"]
        assert (await ids("chargebacks filed"))[0] == "1"
        assert await ids("what are cats' \\ 'habits' & | ! :*", k=1) == ["3"]
        assert await ids("of the") == ["1", "2", "3", "4"]  # no words: by meaning alone
        assert await ids("chargebacks", where="id <> $1", args=["1"], k=1) == ["4"]
        with pytest.raises(ConfigError, match="needs the text"):
            await step.nearest("note", embedding=[1.0, 0.0], k=1, hybrid=True)

    await in_step(saver, thread, look)


@pytest.mark.parametrize("hold_idle", [0])
async def test_a_hybrid_search_is_a_fact(saver: TransactionalSaver, thread: RunnableConfig) -> None:
    notes = await saver.acollection("note", dimensions=2)
    await notes.add(Document(text, id=id_, embedding=vector) for id_, text, vector in WORDS)
    elsewhere = notes.here()
    seen: list[list[str]] = []

    async def node(state: Any) -> Any:
        rows = await current_step().nearest("note", embedding=[1.0, 0.0], text="E-4711", k=2, hybrid=True)
        seen.append([row["id"] for row in rows])
        if len(seen) == 1:
            await elsewhere.add([Document("E-4711 E-4711", id="5", embedding=[0.0, -1.0])])
        return {"seen": [1]}

    await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert len(seen) == 2
    assert "5" in seen[1]
