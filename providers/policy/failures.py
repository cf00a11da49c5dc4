"""What a failed attempt means: again, elsewhere, or not at all.

Decided on exception classes, HTTP status codes and providers' error codes. Texts of messages change, are translated,
and quote the input: they are asked last, and only for the two things that `vendor_errors` lists. LangChain's normalized
classes come from `langchain_core`; classes of SDKs and HTTP clients are known by their qualified name, so that no SDK
is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from langchain_core.exceptions import (
    ContextOverflowError,
    ModelAPIError,
    ModelAuthenticationError,
    ModelConnectionError,
    ModelInvalidRequestError,
    ModelNotFoundError,
    ModelPermissionDeniedError,
    ModelRateLimitError,
    ModelTimeoutError,
)

from superstep.providers.policy.headers import retry_after
from superstep.providers.policy.vendor_errors import Action, code_verdict, phrase_verdict, words
from superstep.runtime.faults import RuntimeFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.messages.ai import UsageMetadata

__all__ = [
    "CONNECTION_FAILED",
    "PROXY_FAILED",
    "TIMED_OUT",
    "Action",
    "ContentRefused",
    "Failure",
    "MalformedAnswer",
    "StreamCut",
    "TooSlow",
    "chain",
    "classify",
    "implied_status",
    "names",
]

TIMED_OUT, CONNECTION_FAILED, PROXY_FAILED = "timed out", "connection failed", "proxy failed"


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt, judged.

    Attributes:
        action: what to do next.
        why: in a few words, for records. Never holds text of a provider, which may quote the input.
        status: the HTTP status, if there was a response; 200 where the answer failed after it had begun.
        retry_after: seconds that the server asked to be left alone.
        counts: whether it speaks against the deployment's health, and so counts on its circuit breaker. A request that
            no deployment could answer does not. Neither does a rejected key: it is a mistake to be reported by every
            call, and an open circuit would hide it behind another deployment's answers.
    """

    action: Action
    why: str
    status: int | None
    retry_after: float | None
    counts: bool


class TooSlow(TimeoutError):
    """A deployment did not keep a time limit of ours.

    Attributes:
        why: which, for records: "no first token in 2 s".
    """

    def __init__(self, missed: str, seconds: float) -> None:
        self.why = f"{missed} in {seconds:g} s"
        super().__init__(self.why)


class ContentRefused(Exception):
    """A model, or a filter in front of it, refused the content, in an answer that is otherwise in order.

    Attributes:
        usage: the tokens that it took all the same, if they were counted.
    """

    def __init__(self, message: str, usage: UsageMetadata | None = None) -> None:
        super().__init__(message)
        self.usage = usage


class MalformedAnswer(Exception):
    """An answer that is none: it has nothing to choose from."""

    why = "malformed answer"


class StreamCut(MalformedAnswer):
    """A stream that ended without saying why, which a complete one does."""

    why = "stream cut"


# An error in the middle of a stream comes under status 200. Its type says which status it would have had.
_STATUS_OF_TYPE: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}

# For integrations that raise LangChain's classes without a status.
_STATUS_OF_CLASS: Mapping[type[Exception], int] = {
    ModelInvalidRequestError: 400,
    ModelAuthenticationError: 401,
    ModelPermissionDeniedError: 403,
    ModelNotFoundError: 404,
    ModelRateLimitError: 429,
    ModelAPIError: 500,
}

_WORDS: Mapping[int, str] = {
    400: "bad request",
    401: "key rejected",
    402: "quota used up",
    403: "not permitted",
    404: "model not found",
    409: "conflict",
    429: "rate limited",
    500: "server error",
    504: "timed out at the provider",
    529: "overloaded",
}

# 408, 425, 429: the same request may pass later (RFC 9110, 8470, 6585). 409: a lock at the provider, which the vendors'
# own SDKs retry. 499: a gateway lost patience or its connection. 5xx too, except those below.
_RETRIED = frozenset({408, 409, 425, 429, 499})
# Not this server, but perhaps another one: no credit, no such model or path, method or protocol not offered there.
_LEFT = frozenset({402, 404, 405, 410, 421, 501, 505})
# The endpoint takes no content of that size (RFC 9110, 15.5.14); one with a larger window may.
_TOO_LARGE = 413

_TIMEOUTS = frozenset(
    {"httpx.TimeoutException", "httpx2.TimeoutException", "openai.APITimeoutError", "anthropic.APITimeoutError"}
)
_CONNECTIONS = frozenset(
    {"httpx.TransportError", "httpx2.TransportError", "openai.APIConnectionError", "anthropic.APIConnectionError"}
)
_PROXIES = frozenset({"httpx.ProxyError", "httpx2.ProxyError"})
_REFUSALS = frozenset({"openai.ContentFilterFinishReasonError"})
_CUT_OFF = frozenset({"openai.LengthFinishReasonError"})

_ERROR_NUMBERS = frozenset(map(str, range(400, 600)))

# Without any response, these are mistakes of ours or of the caller, which the next deployment would meet as well.
_MISTAKES = (TypeError, ValueError, AttributeError, LookupError, NotImplementedError, AssertionError)


class _Verdict(NamedTuple):
    action: Action
    why: str
    harmless: bool = False  # says nothing against the deployment, although it is left


def classify(error: Exception, *, status: int | None = None, headers: Mapping[str, str] | None = None) -> Failure:
    """Judge a failed attempt. Pure, and total: every exception has a verdict.

    Args:
        error: what the attempt raised.
        status: the last HTTP status of the attempt, for errors that carry none. An error of any class after a 2xx is an
            answer that could not be read.
        headers: those of that response, for `retry-after`.
    """
    own = _own_status(error)
    seen = status if own is None else own
    action, why, harmless = (
        _of_our_own(error)
        or _of_its_code(error)
        or _of_its_message(error, own)
        or _of_its_status(error, own)
        or _of_transport(error)
        or _of_its_class(error)
        or _of_the_response(seen)
        or _of_no_response(error)
    )
    counts = action in (Action.RETRY, Action.MOVE_ON) and not harmless
    return Failure(action, why, seen, retry_after(_own_headers(error) or headers), counts)


def _of_our_own(error: Exception) -> _Verdict | None:
    if isinstance(error, RuntimeFault):
        return _Verdict(Action.STOP, "refused before it was sent")
    if isinstance(error, ContentRefused):
        return _Verdict(Action.CONTENT, "content refused")
    if isinstance(error, MalformedAnswer):
        return _Verdict(Action.RETRY, error.why)
    if isinstance(error, TooSlow):
        return _Verdict(Action.MOVE_ON, error.why)  # the time is gone: asking again would multiply the limit
    return None


def _of_its_code(error: Exception) -> _Verdict | None:
    if isinstance(error, ContextOverflowError):
        return _Verdict(Action.CONTEXT, "input too long")
    said = code_verdict(error)
    return None if said is None else _Verdict(*said)


def _of_its_message(error: Exception, own: int | None) -> _Verdict | None:
    said = phrase_verdict(error, own if own is not None and own >= 300 else implied_status(error))
    return None if said is None else _Verdict(*said)


def _of_its_status(error: Exception, own: int | None) -> _Verdict | None:
    """By the status that an error carries, else by the one it stands for.

    LangChain's classes, and errors in the middle of a stream, may carry none, or the 200 that the stream began with.
    They say what they are by class, by a type word, or (vLLM, gateways) by a number: `{"error": {"code": 502}}`.
    """
    if own is not None and own >= 300:
        return _Verdict(_by_status(own), f"status {own}")
    status = implied_status(error)
    return None if status is None else _Verdict(_by_status(status), _WORDS.get(status, f"error {status}"))


def implied_status(error: Exception) -> int | None:
    """The status that an error stands for, by its class, its type word or a number in its body."""
    status = next((status for kind, status in _STATUS_OF_CLASS.items() if isinstance(error, kind)), None)
    for code in words(error):
        status = status or _STATUS_OF_TYPE.get(code) or (int(code) if code in _ERROR_NUMBERS else None)
    return status


def _of_transport(error: Exception) -> _Verdict | None:
    found = names(error)
    if isinstance(error, TimeoutError | ModelTimeoutError) or found & _TIMEOUTS:
        return _Verdict(Action.RETRY, TIMED_OUT)
    if any(names(each) & _PROXIES for each in chain(error)):
        return _Verdict(Action.RETRY, PROXY_FAILED)
    if isinstance(error, OSError | ModelConnectionError) or found & _CONNECTIONS:
        return _Verdict(Action.RETRY, CONNECTION_FAILED)
    return None


def _of_its_class(error: Exception) -> _Verdict | None:
    found = names(error)
    if found & _REFUSALS:
        return _Verdict(Action.CONTENT, "content refused")
    if found & _CUT_OFF:  # the same limit would cut it again
        return _Verdict(Action.MOVE_ON, "answer cut off", harmless=True)
    return None


def _of_the_response(status: int | None) -> _Verdict | None:
    if status is None:
        return None
    if status < 300:
        return _Verdict(Action.RETRY, MalformedAnswer.why)
    return _Verdict(_by_status(status), f"status {status}")


def _of_no_response(error: Exception) -> _Verdict:
    return _Verdict(Action.STOP if isinstance(error, _MISTAKES) else Action.MOVE_ON, type(error).__name__)


def _by_status(status: int) -> Action:
    if status == _TOO_LARGE:
        return Action.CONTEXT
    if status in _LEFT or status < 400:  # a redirect that was not followed: not what serves models
        return Action.MOVE_ON
    if status in _RETRIED or status >= 500:
        return Action.RETRY
    return Action.STOP


def _own_status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    for status in (getattr(error, "status_code", None), getattr(response, "status_code", None)):
        if isinstance(status, int):
            return int(status)
    return None


def _own_headers(error: Exception) -> Mapping[str, str] | None:
    headers: Mapping[str, str] | None = getattr(getattr(error, "response", None), "headers", None)
    return headers if hasattr(headers, "items") else None


def names(error: BaseException) -> set[str]:
    """Qualified names of the classes of an error, with the package only."""
    return {f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}" for kind in type(error).__mro__}


def chain(error: BaseException) -> list[BaseException]:
    """The error, and what caused it."""
    found: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and not any(at is each for each in found):
        found.append(at)
        at = at.__cause__
    return found
