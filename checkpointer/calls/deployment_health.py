"""How deployments of models did lately, from the records of calls (`model_call`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from superstep.checkpointer.calls import queries

if TYPE_CHECKING:
    from datetime import datetime

    from superstep.checkpointer.database.database import Database

__all__ = ["DeploymentHealth", "DeploymentAttempt", "deployment_health"]


class DeploymentAttempt(NamedTuple):
    """One attempt to have a call answered: when it ended, whether with an answer, else whether it speaks against it."""

    at: datetime
    answered: bool
    counts: bool


@dataclass(frozen=True, slots=True)
class DeploymentHealth:
    """What the records say about one deployment.

    Attributes:
        deployment: its name, as it was configured when the calls were made.
        calls: attempts, answered or not.
        failed: those that were not answered.
        p50_ms: milliseconds that half of the answers took at most; `None` without any.
        last_failure_at: when an attempt last failed.
        last_failure: why, in the words of the record.
        attempts: the latest of them, oldest first.
    """

    deployment: str
    calls: int
    failed: int
    p50_ms: float | None
    last_failure_at: datetime | None
    last_failure: str | None
    attempts: tuple[DeploymentAttempt, ...]


async def deployment_health(database: Database, *, seconds: float) -> list[DeploymentHealth]:
    """Ask what the records of the last `seconds` say, by deployment. One round trip.

    Raises:
        SchemaMissing: there are no such records.
        DatabaseUnavailable: the database did not come back.
    """
    rows = await database.autocommit(lambda conn: queries.deployment_health(conn, database.schema, seconds))
    return [
        DeploymentHealth(
            **{key: row[key] for key in ("deployment", "calls", "failed", "p50_ms", "last_failure_at", "last_failure")},
            attempts=tuple(map(DeploymentAttempt, *(reversed(row[key]) for key in ("moments", "results", "counts")))),
        )
        for row in rows
    ]
