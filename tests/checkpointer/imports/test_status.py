"""The status of a thread without its graph."""

from __future__ import annotations

from typing import Any

import pytest

from superstep.checkpointer.imports.rows import version_text
from superstep.checkpointer.imports.status import Task, status_of

FIRST, SECOND = (f"{n:032}.0.5" for n in (1, 2))


def task(*writes: tuple[int, str]) -> Task:
    made = Task()
    for idx, channel in writes:
        made.note(idx, channel, ("msgpack", channel.encode()))
    return made


def body(values: dict[str, Any], seen: dict[str, dict[str, str]], **versions: str) -> dict[str, Any]:
    return {"channel_values": values, "channel_versions": versions, "versions_seen": seen}


DONE = body({"log": 1}, {"node": {"branch:to:node": FIRST}}, log=SECOND)


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ([], "completed"),
        ([task((-3, "__interrupt__"))], "interrupted"),
        ([task((-3, "__interrupt__"), (-4, "__resume__"), (0, "log"))], "completed"),  # answered, and has ended
        ([task((-1, "__error__")), task((0, "log"))], "failed"),
        ([task((-1, "__error__")), task((-3, "__interrupt__"))], "interrupted"),
    ],
)
def test_what_tasks_have_written(tasks: list[Task], expected: str) -> None:
    status, error = status_of(DONE, (), {}, tasks)
    assert status == expected
    assert (error is not None) == (expected == "failed")


@pytest.mark.parametrize(
    ("body", "stored", "joins"),
    [
        (body({"branch:to:node": None}, {}), (), {}),
        (body({}, {}), ("__pregel_tasks",), {}),
        (body({"__start__": {}}, {}), (), {}),
        (body({}, {}), ("join:a+b:c",), {"join:a+b:c": {"a", "b"}}),
        (body({"x": 1}, {"node": {"x": FIRST}}, x=SECOND), (), {}),
    ],
)
def test_a_task_is_due(body: dict[str, Any], stored: tuple[str, ...], joins: dict[str, Any]) -> None:
    assert status_of(body, stored, joins, []) == ("unfinished", None)


def test_a_join_that_waits_is_not_due() -> None:
    assert status_of(body({}, {}), ("join:a+b:c",), {"join:a+b:c": {"a"}}, []) == ("completed", None)


def test_numbers_as_versions_keep_their_order() -> None:
    assert version_text(9) < version_text(10) < f"{11:032}.0.5"
    assert version_text(FIRST) == FIRST
