"""A world per test, and what an undisturbed run leaves behind."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.crash.world import Nursery, Traces, World
from tests.support.bank import no_failpoints
from tests.support.databases import fresh_database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.databases import Admin

    NewWorld = Callable[..., World]

__all__ = ["Undisturbed", "crash_url", "new_world", "no_failpoints", "nursery", "undisturbed", "world"]


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody killed.

    Attributes:
        traces: what it left.
        hits: how often it came to each failpoint.
        seconds: how long it took.
    """

    traces: Traces
    hits: dict[str, int]
    seconds: float


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture(scope="session")
def crash_url(admin: Admin, server_url: str, template: str) -> Iterator[str]:
    """One database for all worlds of this process: making one takes longer than most runs."""
    with fresh_database(admin, server_url, template) as url:
        yield url


@pytest.fixture(scope="session")
def new_world(crash_url: str, tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> NewWorld:
    """Makes a world. The one before is gone then."""

    def make(**variables: str) -> World:
        return World(crash_url, tmp_path_factory.mktemp("world"), nursery, **variables)

    return make


@pytest.fixture
def world(new_world: NewWorld) -> World:
    return new_world()


@pytest.fixture(scope="session")
def undisturbed(new_world: NewWorld) -> Undisturbed:
    world = new_world()
    done = world.start_run(count=True).wait()
    assert done.code == 0, done.err
    traces = world.traces(done)
    world = new_world()  # the first one warmed everything up
    began = time.perf_counter()
    assert world.start_run().wait().code == 0
    return Undisturbed(traces, done.hits, time.perf_counter() - began)
