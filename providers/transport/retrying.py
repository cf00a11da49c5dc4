"""Repeating an attempt whose failure may pass, after the pause that the policy states."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import tenacity

if TYPE_CHECKING:
    from collections.abc import Callable

    from superstep.providers.policy.failures import Failure

__all__ = ["AttemptFailed", "may_be_repeated", "retrying"]


class AttemptFailed(Exception):
    """One attempt that failed; its cause is what the attempt raised.

    Attributes:
        failure: what the policy makes of it.
        pause: seconds before the attempt may be repeated; `None`: it may not.
    """

    def __init__(self, failure: Failure, pause: float | None) -> None:
        super().__init__(failure.why)
        self.failure = failure
        self.pause = pause


def may_be_repeated(error: BaseException) -> bool:
    """Whether this is an attempt that failed and may be repeated."""
    return isinstance(error, AttemptFailed) and error.pause is not None


def retrying(again: Callable[[BaseException], bool] = may_be_repeated) -> tenacity.AsyncRetrying:
    """Repeats a coroutine function while `again` says so of the error, and then raises that error itself."""
    return tenacity.AsyncRetrying(
        wait=_stated_pause, retry=tenacity.retry_if_exception(again), sleep=asyncio.sleep, reraise=True
    )


def _stated_pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    return error.pause or 0.0 if isinstance(error, AttemptFailed) else 0.0
