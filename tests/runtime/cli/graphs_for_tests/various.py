"""What a GRAPH may be, and what it may not."""

from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint

from tests.runtime.cli.graphs_for_tests.counting import builder as _counting


@entrypoint()
async def greet(name: str) -> str:
    return f"hello {name}"


def make() -> Any:
    return _counting.compile()


async def make_later(config: Any) -> Any:
    assert config == {"configurable": {}}
    return _counting


def make_number() -> int:
    return 7


def make_nothing(a: int, b: int) -> Any:
    return None


def make_trouble() -> Any:
    raise RuntimeError("no graph today")


number = 7
remembering = _counting.compile(checkpointer=InMemorySaver())
