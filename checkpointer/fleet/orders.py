"""What cannot be submitted. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from superstep.checkpointer.langgraph.questions import answers_unnamed
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from superstep.checkpointer.fleet.runs import Order

__all__ = ["refuse_unusable"]

_MOST_PRIORITY = 2**31 - 1
_LONGEST_DELAY = timedelta(days=36_500)


def refuse_unusable(order: Order) -> None:
    """Refuse a run that could not be stored, or whose input would count for what nobody knows yet.

    An answer that names no question counts for whichever its thread asks when the run's turn comes, and for the next
    one once more if the run is given to another worker after that has asked it.

    Raises:
        ConfigError: it is one.
    """
    if abs(order.priority) > _MOST_PRIORITY or order.delay > _LONGEST_DELAY:
        raise ConfigError(
            f"A run of {order.graph!r} cannot wait with priority {order.priority} for {order.delay}: a priority is a "
            f"number of 32 bits, and a delay is of {_LONGEST_DELAY.days} days at most."
        )
    if answers_unnamed(order.request.input):
        raise ConfigError(
            f"The answer that is submitted to {order.graph!r} does not say which question it is for. When its turn "
            f"comes the thread may ask another one: submit Command(resume={{interrupt.id: value}})."
        )
