"""docs/testing-flows.md: its tests pass, and fail with the flow broken as the page says."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.docs.pages import blocks, page

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGE = "\n\n".join(blocks(page("testing-flows.md"), "python"))
TESTS = ["test_what_is_decided_is_decided_on_what_is_there", "test_nothing_is_drawn_twice"]


def module(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "tests_of_page"}
    exec(compile(source.replace("@pytest.fixture\n", ""), "testing-flows.md", "exec", dont_inherit=True), names)
    return names


@asynccontextmanager
async def fixture_of(names: dict[str, Any]) -> AsyncIterator[Any]:
    made = names["saver"]()
    yield await anext(made)
    assert await anext(made, "over") == "over"


async def test_its_tests_are_these() -> None:
    assert [name for name in module(PAGE) if name.startswith("test_")] == TESTS


@pytest.mark.parametrize("name", TESTS)
async def test_it_passes(name: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    names = module(PAGE)
    async with asyncio.timeout(60), fixture_of(names) as saver:
        await names[name](saver)


@pytest.mark.parametrize("name", TESTS)
async def test_it_fails_when_the_read_is_no_fact(name: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    broken = PAGE.replace('WHERE id = 1")\n        amount', 'WHERE id = 1", validate=False)\n        amount')
    assert broken != PAGE
    names = module(broken)
    async with asyncio.timeout(60), fixture_of(names) as saver:
        with pytest.raises(AssertionError):
            await names[name](saver)
