"""Structured logs."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from superstep import current_step, transactional
from superstep.runtime.telemetry.logs import JsonLines, log_to
from tests.runtime.telemetry.conftest import trace_of
from tests.support.bank import BALANCE, DEBIT
from tests.support.graphs import State, chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.runtime.telemetry.conftest import Spans
    from tests.support.bank import Bank


@pytest.fixture
def lines() -> Iterator[Any]:
    """What is logged, once as lines of JSON."""
    root, ours = logging.getLogger(), logging.getLogger("superstep")
    before = (root.level, root.handlers[:], ours.level)
    stream = io.StringIO()
    log_to(stream, as_json=True, level="info")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    ours.setLevel(before[2])


async def test_runs_and_conflicts_are_told_with_their_trace(
    saver: TransactionalSaver, bank: Bank, thread: RunnableConfig, spans: Spans, lines: Any
) -> None:
    left = [1]

    async def node(state: State) -> Any:
        step = current_step()
        balance = await step.fetchval(BALANCE, 1)
        if left[0]:
            left[0] -= 1
            await bank.set(5)
        logging.getLogger("app").warning("in %s", "the node", extra={"balance": balance})
        step.stage(DEBIT, 1)
        return {"n": 1}

    await transactional(chain(saver, node), name="f").ainvoke({"n": 0}, thread)
    told = lines()
    assert [line["message"] for line in told if line["logger"] == "app"] == ["in the node"] * 2
    assert [line["balance"] for line in told if line["logger"] == "app"] == [100, 5]
    conflict, end = [line for line in told if line["logger"].startswith("superstep.runtime.flow")]
    assert (conflict["nodes"], conflict["level"], conflict["graph"]) == (["node"], "info", "f")
    assert (end["status"], end["thread_id"]) == ("completed", thread["configurable"]["thread_id"])
    trace = f"{trace_of(spans.one('invoke_workflow f')):032x}"
    assert {line["trace_id"] for line in told} == {trace}


def test_a_line_is_one_line_whatever_it_says() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord("x", logging.ERROR, "f.py", 1, "a\nb %s", ("c",), (ValueError, error, None))
    record.odd = object()
    line = JsonLines().format(record)
    assert "\n" not in line
    said = json.loads(line)
    assert (said["message"], said["exception"], said["level"]) == ("a\nb c", "ValueError: two\nlines", "error")
    assert said["time"].endswith("+00:00")
