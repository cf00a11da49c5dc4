"""Models that are asked in a graph compiled with `checkpointer=False`, run by a node: it has no super-steps of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage

from superstep import transactional
from superstep.checkpointer import TransactionalSaver, current_step
from superstep.runtime.faults import NoActiveStep
from tests.support.bank import BALANCE
from tests.support.graphs import chain, steps_of
from tests.support.race import Race

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from tests.support.bank import Bank


class Counting(GenericFakeChatModel):
    """Counts what it is asked."""

    def __init__(self) -> None:
        super().__init__(messages=iter(AIMessage(f"answer {n}") for n in range(100)))
        self._asked = 0

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        self._asked += 1
        return super()._generate(*args, **kwargs)


def extracting(model: Any, *, levels: int = 1) -> Any:
    async def extract(state: Any) -> Any:
        return {"seen": [(await model.ainvoke("q")).content]}

    graph = chain(False, extract)
    for _ in range(levels - 1):
        inner = graph

        async def deeper(state: Any, inner: Any = inner) -> Any:
            return {"seen": (await inner.ainvoke({"seen": []}))["seen"]}

        graph = chain(False, deeper)
    return graph


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("wrap", [False, True])
async def test_models_answer_there(
    saver: TransactionalSaver, thread: RunnableConfig, *, wrap: bool, levels: int
) -> None:
    model = Counting()
    inner = extracting(model, levels=levels)

    async def node(state: Any) -> Any:
        return {"seen": (await inner.ainvoke({"seen": []}))["seen"]}

    graph = chain(saver, node)
    flow = transactional(graph) if wrap else graph
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == ["answer 0"]
    (step,) = await steps_of(saver, thread)
    assert step.llm_paid == 1
    assert model._asked == 1


def test_without_a_loop_too(sync_saver: TransactionalSaver, thread: RunnableConfig) -> None:
    model = Counting()

    def extract(state: Any) -> Any:
        return {"seen": [model.invoke("q").content]}

    inner = chain(False, extract)

    def node(state: Any) -> Any:
        return {"seen": inner.invoke({"seen": []})["seen"]}

    assert transactional(chain(sync_saver, node)).invoke({"seen": []}, thread)["seen"] == ["answer 0"]


async def test_what_is_paid_there_is_paid_again_when_the_caller_runs_again(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig
) -> None:
    """And the caller's own calls are not, as everywhere."""
    race, model, own = Race(bank, 55), Counting(), Counting()
    inner = extracting(model)

    async def node(state: Any) -> Any:
        said = (await own.ainvoke("own")).content
        found = (await inner.ainvoke({"seen": []}))["seen"]
        await race.decide()
        return {"seen": [said, *found]}

    flow = transactional(chain(saver, node))
    assert (await flow.ainvoke({"seen": []}, thread))["seen"] == ["answer 0", "answer 1"]
    assert (own._asked, model._asked) == (1, 2)
    (step,) = await steps_of(saver, thread)
    assert (step.llm_paid, step.llm_reused) == (3, 1)


async def test_a_blocking_call_on_the_savers_loop_is_refused_before_it_is_paid(
    saver: TransactionalSaver, thread: RunnableConfig
) -> None:
    from superstep.checkpointer import refuse_blocking

    async def extract(state: Any) -> Any:
        refuse_blocking()
        raise AssertionError

    inner = chain(False, extract)

    async def node(state: Any) -> Any:
        await current_step().fetchval(BALANCE, 1)
        return await inner.ainvoke({"seen": []})

    with pytest.raises(NoActiveStep):
        await transactional(chain(saver, node)).ainvoke({"seen": []}, thread)
