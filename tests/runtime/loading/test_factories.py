"""Factories of graphs: what they may take, what they may return, and that what they open is closed."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.runnables import RunnableConfig  # noqa: TC002 - read from the annotations at run time
from langgraph.runtime import Runtime  # noqa: TC002
from langgraph_sdk.runtime import ServerRuntime  # noqa: TC002

from superstep.runtime.faults import GraphInvalid
from superstep.runtime.loading.factories import FactoryCall, call_factory

if TYPE_CHECKING:
    from superstep.no_such_module import Absent


@dataclass
class Context:
    user: str


CONFIG = {"configurable": {"thread_id": "t"}}
CALL = FactoryCall(CONFIG, {"user": "Ada"}, runs=True)


def nothing() -> Any:
    return "made"


def lone(whatever: Any) -> Any:
    return whatever


def by_name(runtime: Any, config: Any) -> Any:
    return config, runtime.context


def by_annotation(first: ServerRuntime[Context], second: RunnableConfig) -> Any:
    return second, first.execution_runtime.context  # type: ignore[union-attr]


def optional(config: RunnableConfig | None = None, runtime: Runtime[Context] | None = None) -> Any:
    return config, runtime and runtime.context


def annotated_for_checkers(first: Absent, config: RunnableConfig) -> Any:
    return first


def with_more(config: RunnableConfig, *rest: Any, temperature: float = 0.5, **more: Any) -> Any:
    return config, temperature


def keyword(*, config: RunnableConfig) -> Any:
    return config


class Callable:
    def __call__(self, runtime: ServerRuntime[Context]) -> Any:
        return runtime.execution_runtime


async def later(config: RunnableConfig) -> Any:
    return config


@pytest.mark.parametrize(
    ("factory", "made"),
    [
        (nothing, "made"),
        (lone, CONFIG),
        (by_name, (CONFIG, {"user": "Ada"})),
        (by_annotation, (CONFIG, Context("Ada"))),
        (optional, (CONFIG, Context("Ada"))),
        (with_more, (CONFIG, 0.5)),
        (keyword, CONFIG),
        (later, CONFIG),
        (lambda config: config, CONFIG),
    ],
)
async def test_each_parameter_gets_what_it_asks_for(factory: Any, made: Any) -> None:
    assert (await call_factory(factory, CALL, "m:f"))[0] == made


async def test_of_a_graph_that_is_only_looked_at() -> None:
    look = FactoryCall()
    assert (await call_factory(Callable(), look, "m:f"))[0] is None
    runtime = (await call_factory(lambda runtime: runtime, look, "m:f"))[0]
    assert (runtime.access_context, runtime.context, runtime.user) == ("assistants.read", None, None)
    with pytest.raises(PermissionError):
        runtime.ensure_user()


@pytest.mark.parametrize("factory", [lambda a, b: None, lambda a, *, b: None, annotated_for_checkers, int.__add__])
async def test_what_asks_for_more_is_refused(factory: Any) -> None:
    with pytest.raises(GraphInvalid, match="needs arguments"):
        await call_factory(factory, CALL, "m:f")


async def test_what_is_opened_is_closed() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def opens(config: RunnableConfig) -> Any:
        events.append("open")
        yield config
        events.append("close")

    @contextmanager
    def plainly() -> Any:
        events.append("open")
        yield "made"
        events.append("close")

    async def later_still() -> Any:
        return plainly()

    for factory in (opens, plainly, later_still):
        events.clear()
        made, resources = await call_factory(factory, CALL, "m:f")
        assert (made in (CONFIG, "made"), events) == (True, ["open"])
        await resources.aclose()
        assert events == ["open", "close"]


async def test_a_failure_names_the_factory() -> None:
    @asynccontextmanager
    async def fails() -> Any:
        raise RuntimeError("no socket")
        yield

    with pytest.raises(GraphInvalid, match="m:f failed: RuntimeError: no socket"):
        await call_factory(fails, CALL, "m:f")
