"""What a thread's checkpoints and their pending writes are found by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.base.id import uuid6
from langgraph.checkpoint.memory import InMemorySaver

from tests.support.graphs import chain, config_of

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver


async def put(saver: Any, thread_id: str, parent: RunnableConfig | None = None, **metadata: Any) -> RunnableConfig:
    checkpoint = {**empty_checkpoint(), "id": str(uuid6(clock_seq=-1))}
    config = parent or config_of(thread_id, checkpoint_ns="")
    return await saver.aput(config, checkpoint, {"source": "update", "step": 0, "parents": {}, **metadata}, {})


async def test_pending_writes_come_in_langgraphs_order(saver: TransactionalSaver) -> None:
    found = []
    for checkpointer in (saver, InMemorySaver()):
        config = await put(checkpointer, "t")
        writes = [
            ("task-z", "~__pregel_pull, b", [("x", 1), ("y", 2), ("x", 3)]),
            ("task-a", "~__pregel_push, 0000000010, False", [("x", 4)]),
            ("task-c", "~__pregel_pull, a", [("__interrupt__", "ask"), ("__resume__", ["yes"])]),
            ("task-b", "~__pregel_push, 0000000002, False", [("y", 5), ("x", 6)]),
            ("00000000-0000-0000-0000-000000000000", "", [("__resume__", "answer"), ("x", 7)]),
            ("task-c", "~__pregel_pull, a", [("x", 8)]),
        ]
        for task, path, values in writes:
            await checkpointer.aput_writes(config, values, task, path)
        loaded = await checkpointer.aget_tuple(config)
        assert loaded is not None
        found.append([tuple(write) for write in loaded.pending_writes or ()])
    assert found[0] == found[1]


async def test_metadata_filters(saver: TransactionalSaver) -> None:
    def steps_of(found: list[Any]) -> list[tuple[str, int]]:
        return [(item.metadata["source"], item.metadata["step"]) for item in found]

    async def node(state: Any) -> Any:
        return {"n": state["n"] + 1}

    results = []
    for checkpointer in (saver, InMemorySaver()):
        graph = chain(checkpointer, node)
        await graph.ainvoke({"n": 0}, {**config_of("t"), "metadata": {"tenant": "red", "priority": 2}})
        await graph.ainvoke({"n": 5}, {**config_of("t"), "metadata": {"tenant": "blue"}})
        await graph.aupdate_state(config_of("t"), {"n": 9})
        await graph.ainvoke({"n": 0}, {**config_of("other"), "metadata": {"tenant": "red"}})
        wanted: list[dict[str, Any]] = [
            {},
            {"source": "loop"},
            {"source": "input"},
            {"source": "update"},
            {"source": "loop", "step": 1},
            {"tenant": "red"},
            {"tenant": "red", "priority": 2},
            {"tenant": "green"},
            {"no such key": 1},
        ]
        results.append(
            [
                (which, steps_of([item async for item in checkpointer.alist(config, filter=which)]))
                for which in wanted
                for config in (config_of("t"), config_of("other"), config_of("nobody"))
            ]
        )
        results[-1].append(({}, len([item async for item in checkpointer.alist(None, filter={"tenant": "red"})])))
    assert results[0] == results[1]
    assert steps_of([item async for item in saver.alist(config_of("t"), filter={"tenant": "red"})]) == [
        ("loop", 1),
        ("loop", 0),
        ("input", -1),
    ]


async def test_list_pages_through_more_than_two_pages(saver: TransactionalSaver) -> None:
    config: RunnableConfig | None = None
    ids: list[str] = []
    for n in range(130):
        config = await put(saver, "t", config, step=n)
        ids.append(config["configurable"]["checkpoint_id"])
    for _ in range(3):
        await put(saver, "other")
    ids.reverse()

    async def listed(**options: Any) -> list[str]:
        return [item.checkpoint["id"] async for item in saver.alist(config_of("t"), **options)]

    assert await listed() == ids
    for limit in (0, 1, 49, 50, 51, 100, 120, 130, 500):
        assert await listed(limit=limit) == ids[:limit]
    before = config_of("t", checkpoint_id=ids[4])
    assert await listed(before=before) == ids[5:]
    assert await listed(before=before, limit=101) == ids[5:106]
    assert await listed(before=config_of("t", checkpoint_id=ids[-1])) == []
    assert len([item async for item in saver.alist(None)]) == 133
    assert len([item async for item in saver.alist(None, limit=131)]) == 131
    first = [item.checkpoint["id"] async for item in _first(saver.alist(config_of("t")), 3)]
    assert first == ids[:3]


async def _first(items: Any, count: int) -> Any:
    async for item in items:
        yield item
        count -= 1
        if not count:
            return


async def test_list_by_checkpoint_id_and_namespace(saver: TransactionalSaver) -> None:
    first = await put(saver, "t")
    await put(saver, "t", first)
    nested = await put(saver, "t", config_of("t", checkpoint_ns="inner:1"))

    async def listed(config: RunnableConfig) -> list[str]:
        return [item.checkpoint["id"] async for item in saver.alist(config)]

    one = first["configurable"]["checkpoint_id"]
    assert await listed(config_of("t", checkpoint_ns="", checkpoint_id=one)) == [one]
    assert await listed(config_of("t", checkpoint_ns="inner:1")) == [nested["configurable"]["checkpoint_id"]]
    assert len(await listed(config_of("t", checkpoint_ns=""))) == 2
    assert len(await listed(config_of("t"))) == 3


async def test_lists_of_all_threads_have_pages_too(saver: TransactionalSaver) -> None:
    """Copies have the ids of what they are copies of: a page ends between two equal ones."""
    config: RunnableConfig | None = None
    for n in range(40):
        config = await put(saver, "t", config, step=n)
    for name in ("s", "u"):
        await saver.acopy_thread("t", name)
    assert config is not None
    last = config["configurable"]["checkpoint_id"]

    async def listed(config: RunnableConfig | None, **options: Any) -> list[tuple[str, str]]:
        return [
            (item.checkpoint["id"], item.config["configurable"]["thread_id"])
            async for item in saver.alist(config, **options)
        ]

    found = await listed(None)
    assert found == sorted(set(found), reverse=True)
    assert len(found) == 120
    assert await listed(None, limit=60) == found[:60]
    assert await listed(None, before=config_of("", checkpoint_id=found[61][0])) == found[63:]
    one: RunnableConfig = {"configurable": {"checkpoint_id": last}}
    assert await listed(one) == [(last, "u"), (last, "t"), (last, "s")]
    assert await listed(one, limit=2) == [(last, "u"), (last, "t")]
    assert await listed(config_of("t", checkpoint_id=last), before=config_of("", checkpoint_id=last)) == []
    assert len(await listed(None, filter={"step": 7})) == 3


async def test_pages_of_a_thread_have_all_its_namespaces(saver: TransactionalSaver) -> None:
    for n in range(70):
        await put(saver, "t", config_of("t", checkpoint_ns=f"inner:{n % 7}" if n % 2 else ""))
    await put(saver, "other", config_of("other", checkpoint_ns="inner:8"))
    ids = [item.checkpoint["id"] async for item in saver.alist(config_of("t"))]
    assert len(ids) == 70
    assert ids == sorted(ids, reverse=True)
