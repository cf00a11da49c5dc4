"""Defects of the delivery of effects, for tests of the tests.

That nobody is fenced does not show in these rounds: a worker that wakes notices that its runs were given out anew, and
gives them up, before it has committed. The rounds of `tests.soak` show it, whose runs have no worker.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from superstep.checkpointer.database import failpoints
from superstep.checkpointer.effects import delivery, queries
from tests.soak.planted import PLANTED as OF_COMMITS
from tests.soak.planted import edit

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

__all__ = ["PLANTED"]


def _identity_of_the_try(patch: pytest.MonkeyPatch) -> None:
    handler_of = delivery.handler_of

    def handler(topic: str) -> Any:
        found = handler_of(topic)
        assert found is not None

        async def deliver(effect: Any) -> None:
            await found.deliver(replace(effect, id=uuid.uuid4().hex))

        return replace(found, deliver=deliver)

    patch.setattr(delivery, "handler_of", handler)


def _settled_before_it_is_delivered(patch: pytest.MonkeyPatch) -> None:
    deliver = delivery.Deliveries._deliver

    async def settle_first(self: Any, row: Any, *rest: Any) -> None:
        await self._settle(row["id"], row["state"])
        await failpoints.hit("effect.claimed")
        await deliver(self, row, *rest)

    patch.setattr(delivery.Deliveries, "_deliver", settle_first)


def _nobody_stands_in_line(patch: pytest.MonkeyPatch) -> None:
    for name in ("look", "claim"):
        edit(patch, queries, name, "p.state IN ('waiting', 'dead')", "false")


PLANTED: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "an effect has the identity of the try": _identity_of_the_try,
    "an effect is settled before it is delivered": _settled_before_it_is_delivered,
    "nobody stands in line": _nobody_stands_in_line,
    "answers are not kept": OF_COMMITS["answers are not kept"],
}
