"""A prompt that is read in a super-step is one of its facts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from superstep import chat_model, transactional
from superstep.checkpointer import TransactionalSaver
from superstep.prompts import CANARY, PromptStore, point_of
from superstep.runtime.author.prompts import prompt, prompt_sync
from superstep.runtime.faults import NoActiveStep, PromptInvalid, PromptNotFound, StepConflict
from tests.support.graphs import chain, config_of, fan
from tests.support.prompts import HELLO, toml

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from langchain_core.runnables import RunnableConfig


async def text(name: str = "p", **which: Any) -> str:
    """The title of the version that the step gets, and what it says to Ada."""
    found = await prompt(name, **which)
    value = await found.ainvoke({"who": "Ada"})
    return f"{value.prompt}: {value.messages[0].text}"


@pytest.fixture(autouse=True)
async def two_versions(store: PromptStore) -> None:
    """`p` in versions 1 (production) and 2."""
    await store.add([toml(HELLO)], label="production")
    await store.add([toml(HELLO.replace("Hello", "Hi"))])


@pytest.fixture
async def restless(database_url: str) -> AsyncIterator[TransactionalSaver]:
    """A saver that gives its transaction back after every read."""
    async with TransactionalSaver.from_conn_string(database_url, hold_idle=0) as saver:
        yield saver


async def test_the_record_of_the_step_names_what_was_used(saver: TransactionalSaver, store: PromptStore) -> None:
    async def node(state: Any) -> Any:
        return {"seen": [await text(), await text(version=2), await text()]}

    async def after(state: Any) -> Any:
        return {"seen": [await text(label="staging")]}

    await store.promote("p", 2, label="staging")
    result = await chain(saver, node, after).ainvoke({"seen": []}, config_of("t"))
    assert result["seen"] == ["p@1: Hello Ada", "p@2: Hi Ada", "p@1: Hello Ada", "p@2: Hi Ada"]
    assert [step.prompts for step in await saver.asteps("t")] == [["p@1", "p@2"], ["p@2"]]


async def test_a_promotion_takes_effect_on_the_next_super_step(
    restless: TransactionalSaver, store: PromptStore
) -> None:
    async def before(state: Any) -> Any:
        return {"seen": [await text()]}

    async def promotes(state: Any) -> Any:
        await store.promote("p", 2)

    async def after(state: Any) -> Any:
        return {"seen": [await text()]}

    result = await chain(restless, before, promotes, after).ainvoke({"seen": []}, config_of("t"))
    assert result["seen"] == ["p@1: Hello Ada", "p@2: Hi Ada"]


async def test_a_super_step_that_holds_its_transaction_never_mixes_versions(
    database_url: str, store: PromptStore
) -> None:
    promoted = asyncio.Event()

    async def early(state: Any) -> Any:
        seen = [await text()]
        await store.promote("p", 2)
        promoted.set()
        return {"seen": [*seen, await text()]}

    async def late(state: Any) -> Any:
        await promoted.wait()
        return {"seen": [await text()]}

    async with TransactionalSaver.from_conn_string(database_url, hold_idle="forever") as saver:
        result = await fan(saver, early, late).ainvoke({"seen": []}, config_of("t"))
    assert result["seen"] == ["p@1: Hello Ada"] * 3


async def test_tasks_run_again_that_used_a_version_which_was_replaced_during_their_step(
    restless: TransactionalSaver, store: PromptStore
) -> None:
    runs: list[str] = []
    everybody = asyncio.Barrier(2)
    promoted = asyncio.Event()

    async def early(state: Any) -> Any:
        runs.append("early")
        seen = await text()
        if not promoted.is_set():
            await everybody.wait()
            await store.promote("p", 2)
            promoted.set()
        return {"seen": [("early", seen)]}

    async def other(state: Any) -> Any:
        runs.append("other")
        seen = await text("q")
        if not promoted.is_set():
            await everybody.wait()
        return {"seen": [("other", seen)]}

    async def late(state: Any) -> Any:
        runs.append("late")
        await promoted.wait()
        return {"seen": [("late", await text())]}

    await store.add([toml(HELLO, "q")], label="production")
    flow = transactional(fan(restless, early, other, late))
    result = await flow.ainvoke({"seen": []}, config_of("t"))
    assert dict(result["seen"]) == {
        "early": "p@2: Hi Ada",
        "other": "q@1: Hello Ada",
        "late": "p@2: Hi Ada",
    }
    assert sorted(runs) == ["early", "early", "late", "other"]
    [step] = await restless.asteps("t")
    assert (step.prompts, step.drifts) == (["p@2", "q@1"], 1)


async def test_without_a_retrying_flow_the_promotion_is_a_conflict(
    restless: TransactionalSaver, store: PromptStore
) -> None:
    async def node(state: Any) -> Any:
        seen = await text()
        await store.promote("p", 2)
        return {"seen": [seen]}

    graph = chain(restless, node)
    with pytest.raises(StepConflict) as caught:
        await graph.ainvoke({"seen": []}, config_of("t"))
    assert caught.value.tasks == ("node",)
    assert (await graph.ainvoke(None, config_of("t")))["seen"] == ["p@2: Hi Ada"]


async def test_only_what_was_used_counts(restless: TransactionalSaver, store: PromptStore) -> None:
    """Other labels, other prompts, new versions and new notes change nothing for who used production."""
    runs: list[int] = []

    async def node(state: Any) -> Any:
        runs.append(1)
        seen = [await text()]
        await store.add([toml("description = 'new'\n" + HELLO), toml(HELLO, "q")], label="staging")
        await store.add([toml(HELLO.replace("Hello", "Hey"))])
        await store.promote("p", 2, label="staging")
        await store.promote("p", 2, label=CANARY)
        return {"seen": seen}

    result = await chain(restless, node).ainvoke({"seen": []}, config_of("t"))
    assert result["seen"] == ["p@1: Hello Ada"]
    assert len(runs) == 1
    assert len(await store.versions("p")) == 3


async def test_an_answer_is_paid_once_when_only_other_facts_moved(
    restless: TransactionalSaver, store: PromptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    await store.add([toml(HELLO.replace('"str"', '"object"'), "q")], label="production")
    runs: list[Any] = []

    async def node(state: Any) -> Any:
        value = await (await prompt("q")).ainvoke({"who": {"b": 1, "a": 2} if runs else {"a": 2, "b": 1}})
        answer = await chat_model("fast").ainvoke(value)
        runs.append(answer.text)
        await text()
        if len(runs) == 1:
            await store.promote("p", 2)
        return {"seen": [answer.text]}

    result = await transactional(chain(restless, node)).ainvoke({"seen": []}, config_of("t"))
    assert len(runs) == 2
    assert result["seen"] == ['[offline] Hello {"a": 2, "b": 1}']
    [step] = await restless.asteps("t")
    assert (step.llm_paid, step.llm_reused, step.prompts) == (1, 1, ["p@2", "q@1"])
    assert [call.get("prompt") for call in step.calls] == ["q@1"]


async def test_rendered_messages_are_no_output_of_the_node(saver: TransactionalSaver) -> None:
    async def p(state: Any) -> Any:  # called like the prompt that it uses
        return {"seen": [await text()]}

    streamed = [each async for each in chain(saver, p).astream({"seen": []}, config_of("t"), stream_mode="messages")]
    assert streamed == []


async def test_synchronous_nodes(saver: TransactionalSaver) -> None:
    def node(state: Any) -> Any:
        return {"seen": [prompt_sync("p").title, prompt_sync("p", version=2).title]}

    def wrong(state: Any) -> Any:
        with pytest.raises(PromptNotFound):
            prompt_sync("q")

    result = await chain(saver, node, wrong).ainvoke({"seen": []}, config_of("t"))
    assert result["seen"] == ["p@1", "p@2"]
    assert [step.prompts for step in await saver.asteps("t")] == [["p@1", "p@2"], []]


async def test_a_version_is_compiled_once(saver: TransactionalSaver) -> None:
    async def node(state: Any) -> Any:
        return {"seen": [id(await prompt("p")), id(await prompt("p"))]}

    result = await chain(saver, node).ainvoke({"seen": []}, config_of("t"))
    assert len(set(result["seen"])) == 1


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ({"name": "q"}, r"There is no prompt 'q'.*runtime prompts add"),
        ({"name": "pp"}, r"There is no prompt 'pp' \(did you mean 'p'\?\)"),
        (
            {"name": "p", "label": "x"},
            r"no label 'x'\. Its labels are production\. .*runtime prompts promote p VERSION",
        ),
        ({"name": "p", "version": 3}, r"no version 3\. It has 1 to 2"),
    ],
)
async def test_what_is_not_there_says_what_to_run(saver: TransactionalSaver, which: Any, says: str) -> None:
    async def node(state: Any) -> Any:
        await prompt(**which)

    with pytest.raises(PromptNotFound, match=says):
        await chain(saver, node).ainvoke({"seen": []}, config_of("t"))


async def test_a_database_without_the_tables_says_what_to_run(saver: TransactionalSaver) -> None:
    async with saver.transaction() as tx:
        await tx.execute("DROP TABLE runtime.prompt_label, runtime.prompt_move, runtime.prompt_version")

    async def node(state: Any) -> Any:
        await prompt("p")

    with pytest.raises(PromptNotFound, match="runtime db migrate"):
        await chain(saver, node).ainvoke({"seen": []}, config_of("t"))


async def test_wrong_variables_are_an_error_before_any_call(saver: TransactionalSaver) -> None:
    async def node(state: Any) -> Any:
        await ((await prompt("p")) | chat_model("fast")).ainvoke({"whom": "Ada"})

    with pytest.raises(PromptInvalid, match=r"p@1 cannot be rendered: who is missing \(str\); whom is not"):
        await chain(saver, node).ainvoke({"seen": []}, config_of("t"))
    assert await saver.asteps("t") == []


async def test_outside_of_a_super_step_there_is_nothing_to_read_in() -> None:
    with pytest.raises(NoActiveStep):
        await prompt("p")


# -- canaries --------------------------------------------------------------------------------------------------------

THREADS = sorted((f"thread-{at}" for at in range(12)), key=lambda thread: point_of(thread, "p"))
POINTS = [point_of(thread, "p") for thread in THREADS]


async def used(saver: TransactionalSaver, **which: Any) -> list[str]:
    """What each of the threads gets, in the order of their points."""

    async def node(state: Any) -> Any:
        return {"seen": [(await prompt("p", **which)).title]}

    graph = chain(saver, node)
    results = await asyncio.gather(*(graph.ainvoke({"seen": []}, config_of(thread)) for thread in THREADS))
    return [each["seen"][-1] for each in results]


async def test_the_share_of_the_canary_is_exact_sticky_and_grows(saver: TransactionalSaver, store: PromptStore) -> None:
    await store.promote("p", 2, label=CANARY)
    assert await used(saver) == ["p@1"] * 12  # no share yet
    for threads in (0, 4, 4, 9, 12):
        weight = 1.0 if threads == 12 else POINTS[threads]  # the point at the share itself is not in it
        await store.promote("p", 2, label=CANARY, weight=weight)
        assert await used(saver) == ["p@2"] * threads + ["p@1"] * (12 - threads)
    assert await used(saver, label=CANARY) == ["p@2"] * 12
    await store.promote("p", 2, label="staging")
    await store.promote("p", 1, label=CANARY)
    assert await used(saver, label="staging") == ["p@2"] * 12


async def test_a_new_share_is_a_fact_only_for_threads_whose_choice_changes(
    restless: TransactionalSaver, store: PromptStore
) -> None:
    await store.promote("p", 2, label=CANARY, weight=POINTS[4])
    read = asyncio.Barrier(12)
    changed = asyncio.Event()
    runs: list[str] = []

    async def node(state: Any, config: RunnableConfig) -> Any:
        thread = config["configurable"]["thread_id"]
        runs.append(thread)
        seen = (await prompt("p")).title
        if not changed.is_set():
            if await read.wait() == 0:
                await store.promote("p", 2, label=CANARY, weight=POINTS[7])
                changed.set()
            await changed.wait()
        return {"seen": [seen]}

    flow = transactional(chain(restless, node))
    results = await asyncio.gather(*(flow.ainvoke({"seen": []}, config_of(thread)) for thread in THREADS))
    assert [each["seen"] for each in results] == [["p@2"]] * 7 + [["p@1"]] * 5
    assert sorted(runs) == sorted([*THREADS, *THREADS[4:7]])


def test_points_are_spread_evenly_and_differ_between_prompts() -> None:
    points = [point_of(f"thread-{at}", "p") for at in range(20_000)]
    assert all(0 <= point < 1 for point in points)
    for tenth in range(10):
        share = sum(tenth / 10 <= point < (tenth + 1) / 10 for point in points) / len(points)
        assert 0.09 < share < 0.11
    assert point_of("thread-1", "p") != point_of("thread-1", "q")
    assert point_of("thread-1", "p") == 0.4032369541873576  # in every process and release: threads stay where they are
