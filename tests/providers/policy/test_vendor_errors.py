"""Too long an input and a used up credit, as each vendor and server says them, over the vendors' own SDKs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI
from pydantic import SecretStr
from werkzeug import Response

from superstep.providers.policy.failures import classify
from superstep.providers.policy.vendor_errors import PHRASES, Action

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from pytest_httpserver import HTTPServer


def error(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


def google(status: int, message: str, word: str, **more: Any) -> list[dict[str, Any]]:
    return [{"error": {"code": status, "message": message, "status": word, **more}}]


def quota(name: str) -> list[dict[str, Any]]:
    failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": name}]}
    return google(429, "You exceeded your current quota.", "RESOURCE_EXHAUSTED", details=[failure])


# Status and body, as seen; what only their figures say is shortened.
TOO_LONG: dict[str, tuple[int, Any]] = {
    "OpenAI": (400, error("too long", type="invalid_request_error", code="context_length_exceeded")),
    "OpenAI, responses": (400, error("Your input exceeds the context window of this model. Adjust it.")),
    "llama.cpp": (400, error("it", code=400, type="exceed_context_size_error", n_prompt_tokens=9, n_ctx=4)),
    "llama.cpp, earlier": (500, error("the request exceeds the available context size, try increasing it", code=500)),
    "vLLM": (400, error("said otherwise", type="BadRequestError", param="input_tokens", code=400)),
    "vLLM, earlier": (
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens.",
            "type": "BadRequestError",
            "code": 400,
        },
    ),
    "SGLang": (
        400,
        {
            "object": "error",
            "message": "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
            "type": "BadRequestError",
            "code": 400,
        },
    ),
    "SGLang, with the answer": (
        400,
        error("Requested token count exceeds the model's maximum context length of 4096 tokens.", code=400),
    ),
    "OpenRouter": (400, error("This endpoint's maximum context length is 4096 tokens.", code=400)),
    "OpenRouter, under 200": (200, error("This endpoint's maximum context length is 4096 tokens.", code=400)),
    "Mistral": (
        400,
        {
            "object": "error",
            "message": "Prompt contains 9 tokens and 0 draft tokens, too large for model with 4 maximum context length",
            "type": "invalid_request_invalid_args",
            "param": None,
            "code": "3051",
        },
    ),
    "DeepSeek": (
        400,
        error("This model's maximum context length is 65,536 tokens.", type="invalid_request_error", param=None),
    ),
    "Gemini": (
        400,
        google(400, "The input token count (12) exceeds the maximum number of tokens allowed (4).", "INVALID_ARGUMENT"),
    ),
    "TGI": (
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4. Given: 9 tokens",
            "error_type": "validation",
        },
    ),
    "TGI, without the answer": (
        422,
        {
            "error": "Input validation error: `inputs` must have less than 4 tokens. Given: 9",
            "error_type": "validation",
        },
    ),
}
USED_UP: dict[str, tuple[int, Any]] = {
    "OpenAI": (429, error("quota", type="insufficient_quota", code="insufficient_quota")),
    "OpenRouter": (402, error("Insufficient credits", code=402)),
    "OpenRouter, under 200": (200, error("Insufficient credits", code=402)),
    "OpenRouter, of the key": (403, error("Key limit exceeded (total limit).", code=403)),
    "DeepSeek": (402, error("Insufficient Balance", type="unknown_error", code="invalid_request_error")),
    "Gemini": (429, quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")),
}
ANTHROPIC: dict[str, tuple[int, dict[str, Any], Action]] = {
    "too long": (400, error("prompt is too long: 9 tokens > 4 maximum", type="invalid_request_error"), Action.CONTEXT),
    "too long with the answer": (
        400,
        error("input length and `max_tokens` exceed context limit: 8 + 3 > 9", type="invalid_request_error"),
        Action.CONTEXT,
    ),
    "too large": (413, error("Request exceeds the maximum size", type="request_too_large"), Action.CONTEXT),
    "no credit": (
        400,
        error("Your credit balance is too low to access the Anthropic API.", type="invalid_request_error"),
        Action.MOVE_ON,
    ),
    "no credit, by its code": (400, error("pay", type="billing_error"), Action.MOVE_ON),
}
OTHERWISE: dict[str, tuple[int, Any, Action]] = {
    "what is not said under a 401": (401, error("This model's maximum context length is 4 tokens"), Action.STOP),
    "nor under a 503": (503, error("the request exceeds the available context size"), Action.RETRY),
    "Mistral's code of many meanings": (400, {"message": "Image input is not enabled", "code": "3051"}, Action.STOP),
    "Gemini's quota of a minute": (429, quota("GenerateRequestsPerMinutePerProject"), Action.RETRY),
    "a request that quotes its input": (
        400,
        error("messages.0: invalid value 'is the maximum context length is enough?'"),
        Action.STOP,
    ),
    "a body that is a text": (400, "no", Action.STOP),
    "a body of nothing": (400, [], Action.STOP),
    "a body of odd shapes": (400, {"error": [{"message": 5, "details": [3, {"violations": [4]}]}]}, Action.STOP),
}


async def consume(asked: BaseChatModel) -> None:
    async for _ in asked.astream("hi"):
        pass


async def verdict(
    server: HTTPServer, status: int, body: Any, *, vendor: str = "openai", stream: bool = False
) -> tuple[Action, str]:
    path = "/v1/chat/completions" if vendor == "openai" else "/v1/messages"
    response = Response(json.dumps(body), status, content_type="application/json")
    server.expect_request(path).respond_with_response(response)
    key, url = SecretStr("sk-test"), server.url_for("")
    asked: BaseChatModel = (
        ChatOpenAI(model="m", api_key=key, base_url=f"{url}v1", max_retries=0)
        if vendor == "openai"
        else ChatAnthropic(model_name="m", api_key=key, base_url=url, max_retries=0, timeout=None, stop=None)
    )
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever the SDK raises
        await (consume(asked) if stream else asked.ainvoke("hi"))
    found = classify(caught.value, status=status)
    return found.action, found.why


@pytest.mark.parametrize(
    ("status", "body", "stream"),
    # A stream that has begun with 200 has a form of its own for it, below.
    [(*each, stream) for each in TOO_LONG.values() for stream in (False, True) if not (stream and each[0] == 200)],
)
async def test_too_long_an_input_is_seen(httpserver: HTTPServer, status: int, body: Any, stream: bool) -> None:
    assert await verdict(httpserver, status, body, stream=stream) == (Action.CONTEXT, "input too long")


@pytest.mark.parametrize(("status", "body"), USED_UP.values(), ids=USED_UP.keys())
async def test_a_used_up_credit_is_seen(httpserver: HTTPServer, status: int, body: Any) -> None:
    action, why = await verdict(httpserver, status, body)
    assert (action, why) == (Action.MOVE_ON, "quota used up")


@pytest.mark.parametrize(("status", "body", "action"), ANTHROPIC.values(), ids=ANTHROPIC.keys())
async def test_anthropic_says_it_in_its_own_way(
    httpserver: HTTPServer, status: int, body: dict[str, Any], action: Action
) -> None:
    found, _ = await verdict(httpserver, status, {"type": "error", **body}, vendor="anthropic")
    assert found is action


@pytest.mark.parametrize(("status", "body", "action"), OTHERWISE.values(), ids=OTHERWISE.keys())
async def test_nothing_else_is_taken_for_it(httpserver: HTTPServer, status: int, body: Any, action: Action) -> None:
    found, _ = await verdict(httpserver, status, body)
    assert found is action


async def test_a_stream_says_it_as_an_event(httpserver: HTTPServer) -> None:
    """SGLang and TGI begin with status 200 and find out then."""
    for event in ({"error": TOO_LONG["SGLang"][1]}, error(TOO_LONG["TGI"][1]["error"], http_status_code=422)):
        httpserver.clear()
        httpserver.expect_request("/v1/chat/completions").respond_with_data(
            f"data: {json.dumps(event)}\n\n", content_type="text/event-stream"
        )
        asked = ChatOpenAI(model="m", api_key=SecretStr("k"), base_url=httpserver.url_for("/v1"), max_retries=0)
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await consume(asked)
        assert classify(caught.value, status=200).action is Action.CONTEXT


def test_each_phrase_has_a_source_and_takes_no_time() -> None:
    for phrase in PHRASES:
        assert phrase.source
        assert phrase.server
        assert phrase.pattern.search("maximum context length " * 200) is None
