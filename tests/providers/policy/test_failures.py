"""What a failure means, for what the vendors' SDKs really raise on real responses, and for any exception at all."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_anthropic import ChatAnthropic
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
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from werkzeug import Response

from superstep.providers.policy.failures import (
    Action,
    ContentRefused,
    Failure,
    MalformedAnswer,
    StreamCut,
    TooSlow,
    classify,
)
from superstep.runtime.faults import ConfigError, ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.language_models import BaseChatModel
    from pytest_httpserver import HTTPServer

SAID = "the customer's own words"  # stands for what a provider may quote

# -- what the SDKs raise on real responses


@pytest.fixture(params=["openai", "anthropic"])
def vendor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def model(vendor: str, url: str) -> BaseChatModel:
    key = SecretStr("sk-test")
    if vendor == "openai":
        return ChatOpenAI(model="m", api_key=key, base_url=f"{url}v1", max_retries=0)
    return ChatAnthropic(model_name="m", api_key=key, base_url=url, max_retries=0, timeout=None, stop=None)


def body(vendor: str, code: str | None = None, type_: str = "some_error") -> dict[str, Any]:
    error = {"message": SAID, "type": type_, "code": code}
    return {"error": error} if vendor == "openai" else {"type": "error", "error": error}


async def consume(asked: BaseChatModel) -> None:
    async for _ in asked.astream("hi"):
        pass


async def failure_of(
    vendor: str, server: HTTPServer, response: Response, *, status: int | None = None, stream: bool = False
) -> Failure:
    """What a response makes the vendor's LangChain model raise, judged."""
    server.expect_request("/v1/chat/completions" if vendor == "openai" else "/v1/messages").respond_with_response(
        response
    )
    asked = model(vendor, server.url_for("/"))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        await (consume(asked) if stream else asked.ainvoke("hi"))
    assert isinstance(caught.value, Exception)
    found = classify(caught.value, status=status)
    assert SAID not in found.why
    return found


def answered(status: int, content: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(content), status, {"content-type": "application/json", **(headers or {})})


@pytest.mark.parametrize(
    ("status", "action", "counts"),
    [
        *((status, Action.RETRY, True) for status in (408, 409, 425, 429, 500, 502, 503, 504, 520, 529)),
        *((status, Action.MOVE_ON, True) for status in (402, 404, 405, 410, 501, 505)),
        *((status, Action.STOP, False) for status in (400, 401, 403, 406, 415, 422, 451)),
        (413, Action.CONTEXT, False),
    ],
)
async def test_a_status_decides(vendor: str, httpserver: HTTPServer, status: int, action: Action, counts: bool) -> None:
    found = await failure_of(vendor, httpserver, answered(status, body(vendor)))
    assert found == Failure(action, f"status {status}", status, None, counts)


async def test_the_type_of_a_response_with_a_status_does_not_decide(vendor: str, httpserver: HTTPServer) -> None:
    found = await failure_of(vendor, httpserver, answered(503, body(vendor, type_="invalid_request_error")))
    assert found.action is Action.RETRY


@pytest.mark.parametrize(
    ("status", "code", "action", "why", "counts"),
    [
        (429, "insufficient_quota", Action.MOVE_ON, "quota used up", True),
        (403, "model_not_found", Action.MOVE_ON, "model not found", True),
        (400, "context_length_exceeded", Action.CONTEXT, "input too long", False),
        (400, "content_filter", Action.CONTENT, "content refused", False),
        (400, "content_policy_violation", Action.CONTENT, "content refused", False),
        (400, "something_new", Action.STOP, "status 400", False),
        (400, "502", Action.STOP, "status 400", False),
    ],
)
async def test_an_error_code_says_more_than_its_status(
    httpserver: HTTPServer, status: int, code: str, action: Action, why: str, counts: bool
) -> None:
    found = await failure_of("openai", httpserver, answered(status, body("openai", code)))
    assert found == Failure(action, why, status, None, counts)


async def test_anthropic_says_that_a_quota_is_used_up(httpserver: HTTPServer) -> None:
    content = body("anthropic", type_="billing_error")
    content["error"]["details"] = {"error_code": "enforced_spend_limit_reached"}
    found = await failure_of("anthropic", httpserver, answered(400, content))
    assert (found.action, found.why) == (Action.MOVE_ON, "quota used up")


async def test_anthropic_says_that_a_request_is_too_large(httpserver: HTTPServer) -> None:
    found = await failure_of("anthropic", httpserver, answered(413, body("anthropic", type_="request_too_large")))
    assert (found.action, found.why) == (Action.CONTEXT, "input too long")


async def test_the_server_says_when_to_come_back(vendor: str, httpserver: HTTPServer) -> None:
    found = await failure_of(vendor, httpserver, answered(429, body(vendor), {"Retry-After": "7"}))
    assert found.retry_after == 7.0


EVENTS = {
    "openai": 'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":'
    '[{"index":0,"delta":{"role":"assistant","content":"Hel"}}]}\n\ndata: %s\n\n',
    "anthropic": "event: error\ndata: %s\n\n",
}


@pytest.mark.parametrize(
    ("type_", "action", "why"),
    [
        ("overloaded_error", Action.RETRY, "overloaded"),
        ("api_error", Action.RETRY, "server error"),
        ("rate_limit_error", Action.RETRY, "rate limited"),
        ("timeout_error", Action.RETRY, "timed out at the provider"),
        ("not_found_error", Action.MOVE_ON, "model not found"),
        ("billing_error", Action.MOVE_ON, "quota used up"),
        ("invalid_request_error", Action.STOP, "bad request"),
        ("authentication_error", Action.STOP, "key rejected"),
        ("error_of_tomorrow", Action.RETRY, "malformed answer"),
    ],
)
async def test_an_error_in_a_stream_is_judged_by_its_type(
    vendor: str, httpserver: HTTPServer, type_: str, action: Action, why: str
) -> None:
    events = EVENTS[vendor] % json.dumps(body(vendor, type_=type_))
    response = Response(events, 200, {"content-type": "text/event-stream"})
    found = await failure_of(vendor, httpserver, response, status=200, stream=True)
    assert (found.action, found.why, found.status) == (action, why, 200)


@pytest.mark.parametrize(("code", "action"), [(502, Action.RETRY), (429, Action.RETRY), (400, Action.STOP)])
async def test_gateways_number_the_errors_in_their_streams(httpserver: HTTPServer, code: int, action: Action) -> None:
    events = EVENTS["openai"] % json.dumps({"error": {"message": SAID, "code": code}})
    response = Response(events, 200, {"content-type": "text/event-stream"})
    found = await failure_of("openai", httpserver, response, status=200, stream=True)
    assert found.action is action


@pytest.mark.parametrize("content", ["{", "<html></html>", "[]", '"text"', "{}", "null"])
async def test_an_answer_that_cannot_be_read_may_be_readable_next_time(
    vendor: str, httpserver: HTTPServer, content: str
) -> None:
    response = Response(content, 200, {"content-type": "application/json"})
    found = await failure_of(vendor, httpserver, response, status=200)
    assert found == Failure(Action.RETRY, "malformed answer", 200, None, counts=True)


async def test_a_server_that_is_not_there(vendor: str) -> None:
    with socket.socket() as bound:  # bound, but nobody listens
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        with pytest.raises(ModelConnectionError) as caught:
            await model(vendor, url).ainvoke("hi")
    assert classify(caught.value) == Failure(Action.RETRY, "connection failed", None, None, counts=True)


# -- classes without a response

REQUEST = httpx2.Request("POST", "http://test")


@pytest.mark.parametrize(
    ("error", "action", "why", "counts"),
    [
        (ModelRateLimitError(SAID), Action.RETRY, "rate limited", True),
        (ModelAPIError(SAID), Action.RETRY, "server error", True),
        (ModelConnectionError(SAID), Action.RETRY, "connection failed", True),
        (ModelTimeoutError(SAID), Action.RETRY, "timed out", True),
        (ModelNotFoundError(SAID), Action.MOVE_ON, "model not found", True),
        (ModelAuthenticationError(SAID), Action.STOP, "key rejected", False),
        (ModelPermissionDeniedError(SAID), Action.STOP, "not permitted", False),
        (ModelInvalidRequestError(SAID), Action.STOP, "bad request", False),
        (ContextOverflowError(SAID), Action.CONTEXT, "input too long", False),
        (openai.APITimeoutError(REQUEST), Action.RETRY, "timed out", True),
        (openai.APIConnectionError(request=REQUEST), Action.RETRY, "connection failed", True),
        (anthropic.APITimeoutError(REQUEST), Action.RETRY, "timed out", True),
        (anthropic.APIConnectionError(request=REQUEST), Action.RETRY, "connection failed", True),
        (httpx2.ReadTimeout(SAID), Action.RETRY, "timed out", True),
        (httpx2.RemoteProtocolError(SAID), Action.RETRY, "connection failed", True),
        (TimeoutError(SAID), Action.RETRY, "timed out", True),
        (ConnectionResetError(SAID), Action.RETRY, "connection failed", True),
        (OSError(SAID), Action.RETRY, "connection failed", True),
        (TooSlow("no first token", 2.0), Action.MOVE_ON, "no first token in 2 s", True),
        (StreamCut(SAID), Action.RETRY, "stream cut", True),
        (MalformedAnswer(SAID), Action.RETRY, "malformed answer", True),
        (ContentRefused(SAID), Action.CONTENT, "content refused", False),
        (openai.ContentFilterFinishReasonError(), Action.CONTENT, "content refused", False),
        (
            openai.LengthFinishReasonError.__new__(openai.LengthFinishReasonError),
            Action.MOVE_ON,
            "answer cut off",
            False,
        ),
        (ConfigError(SAID), Action.STOP, "refused before it was sent", False),
        (ProviderUnavailable(SAID), Action.STOP, "refused before it was sent", False),
        (TypeError(SAID), Action.STOP, "TypeError", False),
        (json.JSONDecodeError(SAID, "", 0), Action.STOP, "JSONDecodeError", False),
        (KeyError(SAID), Action.STOP, "KeyError", False),
        (AttributeError(SAID), Action.STOP, "AttributeError", False),
        (NotImplementedError(SAID), Action.STOP, "NotImplementedError", False),
        (AssertionError(SAID), Action.STOP, "AssertionError", False),
        (Exception(SAID), Action.MOVE_ON, "Exception", True),
        (ImportError(SAID), Action.MOVE_ON, "ImportError", True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_class_decides(error: Exception, action: Action, why: str, counts: bool) -> None:
    assert classify(error) == Failure(action, why, None, None, counts)


@pytest.mark.parametrize(
    ("status", "action"),
    [(200, Action.RETRY), (204, Action.RETRY), (307, Action.MOVE_ON), (400, Action.STOP), (503, Action.RETRY)],
)
@pytest.mark.parametrize("error", [TypeError(SAID), ValueError(SAID), Exception(SAID)])
def test_the_response_decides_where_the_class_does_not(error: Exception, status: int, action: Action) -> None:
    found = classify(error, status=status, headers={"retry-after": "3"})
    assert (found.action, found.status, found.retry_after) == (action, status, 3.0)


def test_a_time_limit_in_the_middle_of_an_answer_stays_a_time_limit() -> None:
    assert classify(TimeoutError(), status=200) == Failure(Action.RETRY, "timed out", 200, None, counts=True)


def test_an_error_that_carries_its_status_is_believed_before_the_http_layer() -> None:
    response = httpx2.Response(404, request=REQUEST, headers={"retry-after": "1"})
    found = classify(httpx2.HTTPStatusError(SAID, request=REQUEST, response=response), status=503)
    assert (found.action, found.status, found.retry_after) == (Action.MOVE_ON, 404, 1.0)


class Odd(Exception):
    """Attributes as no SDK has them."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(SAID)
        self.__dict__.update(attributes)


values = st.none() | st.booleans() | st.integers(-1, 700) | st.text(max_size=8) | st.lists(st.integers(), max_size=1)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("status_code", "code", "error_code", "type", "response"), values)
    ),
    st.none() | st.integers(100, 599),
    st.none() | st.dictionaries(st.sampled_from(["retry-after", "Retry-After-Ms", "date", "x"]), st.text(max_size=30)),
)
def test_every_exception_has_a_verdict(
    attributes: dict[str, Any], status: int | None, headers: dict[str, str] | None
) -> None:
    found = classify(Odd(**attributes), status=status, headers=headers)
    assert found.why
    assert SAID not in found.why
    assert found.counts is (found.action in (Action.RETRY, Action.MOVE_ON))
