"""The way of a chat message from the routed model to the wire and into its record: through few files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.globals import get_llm_cache, set_llm_cache

from superstep import providers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import FrameType

    from superstep.providers import RoutedChatModel
    from tests.support.routes import Bed

# The files that pass a call on to others. What else a call touches (policy, prices, redaction, …) decides or holds one
# thing and knows nothing of the call's way.
WALK = (
    "chat/model.py",
    "chat/service.py",
    "routing/budgets.py",
    "routing/router.py",
    "routing/candidates.py",
    "routing/deployment_state.py",
    "transport/invoke.py",
    "transport/clients.py",
    "transport/wire.py",
    "chat/call.py",
)


async def whole(model: RoutedChatModel) -> None:
    await model.ainvoke("ping")


async def streamed(model: RoutedChatModel) -> None:
    async for _ in model.astream("ping"):
        pass


@pytest.fixture
def no_memo() -> Iterator[None]:
    """Inside of super-steps a stream also goes through the replay of streams; a saver's memo outlives its test."""
    before = get_llm_cache()
    set_llm_cache(None)
    yield
    set_llm_cache(before)


@pytest.mark.usefixtures("no_memo")
@pytest.mark.parametrize("ask", [whole, streamed])
async def test_a_message_goes_through_ten_files(ask: Callable[[RoutedChatModel], Awaitable[None]], bed: Bed) -> None:
    model = bed.model(bed.openai())
    await ask(model)  # makes the client, once
    root, passing, seen = Path(providers.__file__).parent, set[str](), set[str]()

    def file_of(frame: FrameType | None) -> str | None:
        path = Path(frame.f_code.co_filename) if frame else root
        return path.relative_to(root).as_posix() if path.is_relative_to(root) and path != root else None

    def note(frame: FrameType, event: str, _: Any) -> None:
        here = file_of(frame) if event == "call" else None
        if here is not None:
            seen.add(here)
            caller = file_of(frame.f_back)
            if caller not in (None, here):
                passing.add(str(caller))

    sys.setprofile(note)
    try:
        await ask(model)
    finally:
        sys.setprofile(None)
    assert passing | {"transport/wire.py"} == set(WALK)
    assert set(WALK) <= seen
