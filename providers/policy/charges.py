"""Which failed attempts are paid for all the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.providers.policy.failures import (
    TIMED_OUT,
    Action,
    ContentRefused,
    MalformedAnswer,
    TooSlow,
    chain,
    implied_status,
    names,
)
from superstep.providers.policy.usage import sound

if TYPE_CHECKING:
    from langchain_core.messages.ai import UsageMetadata

    from superstep.providers.policy.failures import Failure

__all__ = ["may_have_cost", "usage_in"]

_NEVER_SENT = frozenset({"httpx.ConnectTimeout", "httpx2.ConnectTimeout", "httpx.PoolTimeout", "httpx2.PoolTimeout"})


def may_have_cost(error: Exception, failure: Failure, *, sent: bool | None) -> bool:
    """Whether a provider may send a bill for an attempt that failed like this.

    It does for what it has generated: an answer that was refused, cut or cannot be read, and one that nobody waited
    for any longer. It does not for an error that it reports instead of an answer.

    Args:
        error: what the attempt raised.
        failure: what the policy makes of it.
        sent: whether the request went out; `None` if that is not known.
    """
    if sent is False or any(names(each) & _NEVER_SENT for each in chain(error)):
        return False
    if isinstance(error, ContentRefused | MalformedAnswer | TooSlow) or failure.why == TIMED_OUT:
        return True
    began = failure.status is not None and 200 <= failure.status < 300
    return began and failure.action is not Action.CONTEXT and implied_status(error) is None


def usage_in(error: Exception) -> UsageMetadata | None:
    """The tokens that an error names, where it comes with the answer that was no use."""
    if (known := sound(getattr(error, "usage", None))) is not None:
        return known
    counted: Any = getattr(getattr(error, "completion", None), "usage", None)  # openai.LengthFinishReasonError
    read, written = (getattr(counted, name, None) for name in ("prompt_tokens", "completion_tokens"))
    return sound({"input_tokens": read, "output_tokens": written})
