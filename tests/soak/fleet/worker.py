"""A worker that is killed: `runtime worker`, forked."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

import pytest

import superstep.checkpointer.effects.backend
import superstep.runtime.cli.worker.commands
import superstep.runtime.workers.worker  # noqa: F401 - imported before it forks, as those above
from superstep.runtime.cli import main as runtime
from tests.soak.fleet import flows
from tests.soak.fleet.planted import PLANTED

__all__ = ["FleetJob", "main"]

LEASE = 2.0  # seconds: somebody dies all the time here, and whoever is starved of CPU must not seem to


@dataclass(frozen=True)
class FleetJob:
    """What a worker is told: the database, its book, where effects go, a defect to plant."""

    url: str
    book: str
    receiver: str
    planted: str | None = None

    def arguments(self) -> list[str]:
        """For `main`."""
        return [json.dumps(asdict(self))]


def main(arguments: list[str]) -> int:
    """Work."""
    job = FleetJob(**json.loads(arguments[0]))
    if job.planted is not None:
        PLANTED[job.planted](pytest.MonkeyPatch())
    os.environ |= {
        flows.BOOK: job.book,
        flows.RECEIVER: job.receiver,
        "RUNTIME_LEASE": str(LEASE),
        "RUNTIME_TRIES": "1000",  # so many workers may die at a run
    }
    return runtime(["worker", "--db", job.url, "--graph", flows.GRAPH, "--concurrency", "8"])
