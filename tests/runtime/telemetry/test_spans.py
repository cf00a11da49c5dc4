"""One trace: a run, its super-steps, tasks, reads, commits, calls of models, its pause, and who resumes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langgraph.types import Command, interrupt
from opentelemetry.trace import StatusCode

from superstep import chat_model, current_step, telemetry, transactional
from superstep.providers import configure
from superstep.runtime.faults import ConflictExhausted, StagedWriteFailed
from superstep.runtime.flow.retry import Settings
from superstep.runtime.telemetry import names
from tests.runtime.telemetry.conftest import id_of, measured, parent_of, said, trace_of
from tests.support.bank import BALANCE, DEBIT
from tests.support.graphs import State, chain, fan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.runnables import RunnableConfig
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    from superstep.checkpointer import TransactionalSaver
    from tests.runtime.telemetry.conftest import Spans
    from tests.support.bank import Bank

SECRET = "the-secret-of-a-person"


@pytest.fixture(autouse=True)
def _offline() -> Iterator[None]:
    configure(None)
    yield
    configure(None)


def deciding(bank: Bank, *, moves: int = 1) -> Any:
    """A node that reads, asks a model and stages; so many times somebody else changes what it has read."""
    left = [moves]

    async def decide(state: State) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        await chat_model("fast").ainvoke(f"{SECRET}: {balance}")
        if left[0]:
            left[0] -= 1
            await bank.set(balance - 1)
        step.stage(DEBIT, 1)
        return {"n": balance}

    return decide


async def ask(state: State) -> Any:
    balance = await current_step().fetchval(BALANCE, 1)
    return {"seen": [interrupt(f"{SECRET}: {balance}?")]}


async def test_a_conflict_a_call_an_interrupt_and_its_resume(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, spans: Spans, measures: InMemoryMetricReader
) -> None:
    flow = transactional(chain(saver, deciding(bank), ask), name="loans")
    await flow.ainvoke({"n": 0}, thread)
    await flow.ainvoke(Command(resume="yes"), thread)

    assert len({trace_of(span) for span in spans.all}) == 1
    execution = ("task decide", ["read", "chat offline"])
    paused = ("superstep ask", [("task ask", ["read"])])
    resumed = ("invoke_workflow loans", [("superstep ask", [("task ask", ["read"]), "commit"])])
    decided = ("superstep decide", [execution, "commit", execution, "commit"])
    assert spans.tree() == [("invoke_workflow loans", [decided, paused, resumed])]
    assert {span.status.status_code for span in spans.all} == {StatusCode.UNSET}

    first, second = spans.named("invoke_workflow loans")
    assert said(first)[names.STATUS] == "interrupted"
    assert [event.name for event in first.events] == [names.CONFLICT_EVENT, names.INTERRUPT_EVENT]
    assert (said(second)[names.STATUS], said(second)[names.RESUMED]) == ("completed", True)
    assert said(first)[names.CONVERSATION] == thread["configurable"]["thread_id"]
    step = said(spans.one("superstep decide"))
    assert (step[names.ATTEMPTS], step[names.DRIFTS], step[names.READS], step[names.WRITES]) == (2, 1, 1, 1)
    assert [said(each)[names.OUTCOME] for each in spans.named("task ask")] == ["interrupted", "finished"]
    commits = [span for span in spans.named("commit") if parent_of(span) == id_of(spans.one("superstep decide"))]
    assert [said(each).get(names.OUTCOME) for each in commits] == ["conflict", None]

    call = said(spans.named("chat offline")[0])
    assert (call[names.OPERATION], call[names.PROVIDER], call[names.ROUTE]) == ("chat", "offline", "fast")
    assert call[names.INPUT_TOKENS] > 0
    assert SECRET not in str([span.to_json() for span in spans.all])
    assert "account" not in str([span.to_json() for span in spans.all])  # no SQL either

    found = measured(measures)
    assert [point.value for point in found[names.CONFLICTS]] == [1]
    assert [point.value for point in found[names.STEP_DRIFTS]] == [1]
    assert sum(point.count for point in found[names.CALL_DURATION]) == 2
    assert {point.attributes[names.TOKEN_TYPE] for point in found[names.TOKEN_USAGE]} == {"input", "output"}
    assert {point.attributes[names.STATUS] for point in found[names.RUN_DURATION]} == {"interrupted", "completed"}


async def test_content_only_when_it_is_asked_for(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, spans: Spans
) -> None:
    telemetry(content=True, metrics=False, tracer_provider=spans.provider)
    await transactional(chain(saver, deciding(bank, moves=0)), name="loans").ainvoke({"n": 0}, thread)
    assert SECRET in said(spans.one("chat offline"))[names.INPUT_MESSAGES]
    assert "offline" in said(spans.one("chat offline"))[names.OUTPUT_MESSAGES]
    assert said(spans.one("read"))[names.STATEMENT] == BALANCE


async def test_a_resume_goes_on_in_the_trace_after_a_change_by_hand(
    saver: TransactionalSaver, thread: RunnableConfig, spans: Spans
) -> None:
    flow = transactional(chain(saver, ask))
    await flow.ainvoke({"n": 0}, thread)
    await flow.aupdate_state(thread, {"n": 5}, as_node="__start__")
    await flow.ainvoke(None, thread)
    assert len({trace_of(span) for span in spans.all}) == 1


async def test_another_turn_is_another_trace(
    saver: TransactionalSaver, thread: RunnableConfig, spans: Spans, bank: Bank
) -> None:
    flow = transactional(chain(saver, deciding(bank, moves=0)))
    await flow.ainvoke({"n": 0}, thread)
    await flow.ainvoke({"n": 1}, thread)
    assert len({trace_of(span) for span in spans.all}) == 2


async def test_a_run_in_a_span_of_the_application_is_below_it_and_linked(
    saver: TransactionalSaver, thread: RunnableConfig, spans: Spans
) -> None:
    flow, tracer = transactional(chain(saver, ask), name="asks"), spans.provider.get_tracer("app")
    await flow.ainvoke({"n": 0}, thread)
    with tracer.start_as_current_span("request") as request:
        await flow.ainvoke(Command(resume="yes"), thread)
    first, second = spans.named("invoke_workflow asks")
    assert parent_of(second) == request.get_span_context().span_id
    assert [link.context.span_id for link in second.links] == [id_of(first)]


async def test_a_span_of_the_application_inside_a_node_stays_current(
    saver: TransactionalSaver, thread: RunnableConfig, spans: Spans
) -> None:
    tracer = spans.provider.get_tracer("app")

    async def node(state: State) -> Any:
        step = current_step()
        with tracer.start_as_current_span("lookup"):
            await current_step().fetchval(BALANCE, 1)
        await step.fetchval(BALANCE, 2)
        with tracer.start_as_current_span("afterwards"):
            pass
        return {"n": 1}

    await transactional(chain(saver, node), name="f").ainvoke({"n": 0}, thread)
    task = ("task node", [("lookup", ["read"]), "read", "afterwards"])
    assert spans.tree() == [("invoke_workflow f", [("superstep node", [task, "commit"])])]


async def test_what_a_node_reports_that_uses_no_step_is_below_the_run(
    saver: TransactionalSaver, thread: RunnableConfig, spans: Spans
) -> None:
    tracer = spans.provider.get_tracer("app")

    async def node(state: State) -> Any:
        with tracer.start_as_current_span("request"):
            return {"n": 1}

    flow = transactional(chain(saver, node), name="f")
    async for _ in flow.astream({"n": 0}, thread):
        with tracer.start_as_current_span("consumer"):
            pass
    assert parent_of(spans.one("request")) == id_of(spans.one("invoke_workflow f"))
    assert parent_of(spans.one("consumer")) is None


@pytest.mark.parametrize("blocking", [False, True])
async def test_parallel_tasks_have_their_own(
    saver: TransactionalSaver, thread: RunnableConfig, spans: Spans, blocking: bool
) -> None:
    both = asyncio.Barrier(2)

    async def one(state: State) -> Any:
        await current_step().fetchval(BALANCE, 1)
        await both.wait()
        await current_step().fetchval(BALANCE, 3)
        return {"seen": [1]}

    async def two(state: State) -> Any:
        current_step()
        await both.wait()
        await chat_model("fast").ainvoke("hello")
        return {"seen": [2]}

    def three(state: State) -> Any:
        current_step().sync.fetchval(BALANCE, 2)
        return {"seen": [3]}

    nodes = (one, two, three) if blocking else (one, two)
    await transactional(fan(saver, *nodes)).ainvoke({"n": 0}, thread)
    assert spans.below(spans.one("task one")) == ["read", "read"]
    assert spans.below(spans.one("task two")) == ["chat offline"]
    if blocking:
        assert spans.below(spans.one("task three")) == ["read"]
    (step,) = [span for span in spans.all if span.name.startswith("superstep ")]
    assert {parent_of(span) for span in spans.all if span.name.startswith("task ")} == {id_of(step)}


def test_without_an_event_loop(sync_saver: TransactionalSaver, thread: RunnableConfig, spans: Spans) -> None:
    def one(state: State) -> Any:
        current_step().sync.fetchval(BALANCE, 1)
        chat_model("fast").invoke("hello")
        return {"n": 1}

    def two(state: State) -> Any:
        current_step().sync.fetchval(BALANCE, 1)
        return {"n": 2}

    transactional(chain(sync_saver, one, two), name="f").invoke({"n": 0}, thread)
    first = ("superstep one", [("task one", ["read", "chat offline"]), "commit"])
    second = ("superstep two", [("task two", ["read"]), "commit"])
    assert spans.tree() == [("invoke_workflow f", [first, second])]


@pytest.mark.parametrize("caller_reads", [False, True])
async def test_super_steps_of_a_subgraph_are_below_what_runs_it(
    saver: TransactionalSaver, thread: RunnableConfig, spans: Spans, caller_reads: bool
) -> None:
    async def inner(state: State) -> Any:
        await current_step().fetchval(BALANCE, 1)
        return {"n": 1}

    sub = chain(None, inner)

    async def outer(state: State) -> Any:
        if caller_reads:
            await current_step().fetchval(BALANCE, 2)
        return {"n": (await sub.ainvoke({"n": 0}))["n"]}

    await transactional(chain(saver, outer), name="f").ainvoke({"n": 0}, thread)
    nested = ("superstep inner", [("task inner", ["read"]), "commit"])
    below = [("task outer", ["read", nested]), "commit"] if caller_reads else [nested]
    assert spans.tree() == [("invoke_workflow f", [("superstep outer", below)])]


async def test_a_flow_that_a_node_runs_on_another_thread(
    saver: TransactionalSaver, thread: RunnableConfig, spans: Spans
) -> None:
    async def inner(state: State) -> Any:
        await current_step().fetchval(BALANCE, 1)
        return {"n": 1}

    child = transactional(chain(saver, inner), name="child")

    async def outer(state: State) -> Any:
        current_step()
        await child.ainvoke({"n": 0}, {"configurable": {"thread_id": "another"}})
        return {"n": 1}

    await transactional(chain(saver, outer), name="parent").ainvoke({"n": 0}, thread)
    run = ("invoke_workflow child", [("superstep inner", [("task inner", ["read"]), "commit"])])
    assert spans.tree() == [("invoke_workflow parent", [("superstep outer", [("task outer", [run])])])]


async def test_a_step_that_uses_nothing_has_one_span(
    saver: TransactionalSaver, thread: RunnableConfig, spans: Spans
) -> None:
    async def quiet(state: State) -> Any:
        return {"n": 1}

    await transactional(chain(saver, quiet), name="f").ainvoke({"n": 0}, thread)
    assert spans.tree() == [("invoke_workflow f", ["superstep quiet"])]
    assert said(spans.one("superstep quiet"))[names.OUTCOME] == "committed"


async def test_an_error_tells_its_class_and_not_its_text(
    saver: TransactionalSaver, thread: RunnableConfig, spans: Spans
) -> None:
    async def fails(state: State) -> Any:
        current_step()
        raise ValueError(SECRET)

    with pytest.raises(ValueError, match=SECRET):
        await transactional(chain(saver, fails), name="f").ainvoke({"n": 0}, thread)
    for name in ("task fails", "invoke_workflow f"):
        span = spans.one(name)
        assert (span.status.status_code, said(span)[names.ERROR]) == (StatusCode.ERROR, "ValueError")
    assert spans.one("superstep fails").status.status_code is StatusCode.ERROR
    assert SECRET not in str([span.to_json() for span in spans.all])


async def test_a_rejected_write_is_an_error_of_the_commit(
    saver: TransactionalSaver, thread: RunnableConfig, spans: Spans
) -> None:
    async def fails(state: State) -> Any:
        current_step().stage("UPDATE account SET balance = 1 / 0 WHERE id = 1")
        return {"n": 1}

    with pytest.raises(StagedWriteFailed):
        await transactional(chain(saver, fails), name="f").ainvoke({"n": 0}, thread)
    commit = spans.one("commit")
    assert commit.status.status_code is StatusCode.ERROR
    assert (said(commit)[names.ERROR], said(commit)[names.SQLSTATE]) == ("StagedWriteFailed", "22012")


async def test_conflicts_without_end_are_an_error_of_the_run(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, spans: Spans
) -> None:
    flow = transactional(chain(saver, deciding(bank, moves=9)), settings=Settings(max_attempts=2), name="f")
    with pytest.raises(ConflictExhausted):
        await flow.ainvoke({"n": 0}, thread)
    run = spans.one("invoke_workflow f")
    assert (run.status.status_code, said(run)[names.ERROR]) == (StatusCode.ERROR, "ConflictExhausted")


async def test_an_answer_that_is_served_again_is_no_call(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, spans: Spans
) -> None:
    left = [1]

    async def node(state: State) -> Any:
        step = current_step()
        await chat_model("fast").ainvoke("the same")
        await step.fetchval(BALANCE, 1)
        if left[0]:
            left[0] -= 1
            await bank.set(5)
        step.stage(DEBIT, 1)
        return {"n": 1}

    await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert len(spans.named("chat offline")) == 1
    first, second = spans.named("task node")
    assert ([event.name for event in first.events], [event.name for event in second.events]) == (
        [],
        [names.REUSED_EVENT],
    )


async def test_a_model_that_is_not_routed(saver: TransactionalSaver, thread: RunnableConfig, spans: Spans) -> None:
    async def node(state: State) -> Any:
        await FakeListChatModel(responses=["yes"]).ainvoke("hello")
        return {"n": 1}

    await transactional(chain(saver, node)).ainvoke({"n": 0}, thread)
    assert spans.below(spans.one("task node")) == ["chat"]


async def test_plain_langgraph_has_super_steps(saver: TransactionalSaver, thread: RunnableConfig, spans: Spans) -> None:
    graph = chain(saver, ask)
    with spans.provider.get_tracer("app").start_as_current_span("request"):
        await graph.ainvoke({"n": 0}, thread)
    with spans.provider.get_tracer("app").start_as_current_span("answer"):
        await graph.ainvoke(Command(resume="yes"), thread)
    assert spans.tree() == [
        ("request", [("superstep ask", [("task ask", ["read"])])]),
        ("answer", [("superstep ask", [("task ask", ["read"]), "commit"])]),
    ]


async def test_a_stream_that_is_left_ends_its_spans(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, spans: Spans
) -> None:
    flow = transactional(chain(saver, deciding(bank, moves=0), ask), name="f")
    stream = flow.astream({"n": 0}, thread)
    async for _ in stream:
        break
    await stream.aclose()
    assert said(spans.one("invoke_workflow f"))[names.STATUS] == "unfinished"


async def test_metadata_of_a_thread_say_its_trace_only_while_telemetry_is_on(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, spans: Spans
) -> None:
    flow = transactional(chain(saver, deciding(bank, moves=0)))
    await flow.ainvoke({"n": 0}, thread)
    state = await flow.aget_state(thread)
    assert state.metadata is not None
    assert state.metadata[names.TRACEPARENT] == await saver.atraceparent(thread["configurable"]["thread_id"])  # type: ignore[typeddict-item]
    telemetry(traces=False, metrics=False)
    other: RunnableConfig = {"configurable": {"thread_id": "off"}}
    await flow.ainvoke({"n": 0}, other)
    assert await saver.atraceparent("off") is None
    assert len(spans.named("invoke_workflow LangGraph") + spans.named("invoke_workflow")) == 1
