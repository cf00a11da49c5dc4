"""Which model serves a route, and one real round trip over HTTP for each vendor."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel
from werkzeug import Response

from superstep.providers import chat_model
from superstep.runtime.faults import ProviderExhausted, ProviderRejected, ProviderUnavailable

if TYPE_CHECKING:
    from pytest_httpserver import HTTPServer

KEY = "sk-very-secret-0123456789"
VARIABLES = [f"OPENAI_{name}" for name in ("API_KEY", "MODEL", "BASE_URL", "API_BASE")]
VARIABLES += [f"ANTHROPIC_{name}" for name in ("API_KEY", "MODEL", "BASE_URL", "API_URL", "AUTH_TOKEN")]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def openai_server(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> HTTPServer:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", httpserver.url_for("/v1"))
    return httpserver


@pytest.fixture
def anthropic_server(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> HTTPServer:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", httpserver.url_for(""))
    return httpserver


async def test_without_keys_every_route_is_offline() -> None:
    message = await chat_model("any-name").ainvoke("ping")
    assert message.text.startswith("[offline]")
    record = message.response_metadata["routing"]
    assert (record["route"], record["offline"], record["usd"]) == ("any-name", True, 0.0)


class Verdict(BaseModel):
    """A verdict."""

    outcome: Literal["approve", "decline"]
    amount: int


def openai_reply(content: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return {
        "id": "c-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }


def anthropic_reply(block: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "m-1",
        "type": "message",
        "role": "assistant",
        "model": "served",
        "content": [block],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 1},
    }


async def test_openai_round_trip(openai_server: HTTPServer) -> None:
    openai_server.expect_request("/v1/chat/completions", method="POST").respond_with_json(openai_reply("pong"))
    model = chat_model()
    message = await model.ainvoke("ping")
    assert message.text == "pong"
    assert message.usage_metadata is not None
    assert message.usage_metadata["total_tokens"] == 4
    request = openai_server.log[0][0]
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert body_of(request)["messages"][-1]["content"] == "ping"
    assert KEY not in repr(model)
    assert KEY not in str(model)


async def test_anthropic_round_trip(anthropic_server: HTTPServer) -> None:
    reply = anthropic_reply({"type": "text", "text": "pong"})
    anthropic_server.expect_request("/v1/messages", method="POST").respond_with_json(reply)
    model = chat_model()
    message = await model.ainvoke("ping")
    assert message.text == "pong"
    assert message.usage_metadata is not None
    assert message.usage_metadata["total_tokens"] == 4
    request = anthropic_server.log[0][0]
    assert KEY in str(request.headers)  # which header carries it changes between versions of the SDK
    assert body_of(request)["messages"][-1]["role"] == "user"
    assert KEY not in repr(model)
    assert KEY not in str(model)


async def test_openai_structured_output(openai_server: HTTPServer) -> None:
    reply = openai_reply('{"outcome": "approve", "amount": 5}')
    openai_server.expect_request("/v1/chat/completions", method="POST").respond_with_json(reply)
    verdict = await chat_model().with_structured_output(Verdict).ainvoke("ping")
    assert verdict == Verdict(outcome="approve", amount=5)
    asked = body_of(openai_server.log[0][0])["response_format"]["json_schema"]
    assert asked["schema"]["required"] == ["outcome", "amount"]


async def test_anthropic_structured_output(anthropic_server: HTTPServer) -> None:
    block = {"type": "tool_use", "id": "t", "name": "Verdict", "input": {"outcome": "decline", "amount": 0}}
    anthropic_server.expect_request("/v1/messages", method="POST").respond_with_json(anthropic_reply(block))
    verdict = await chat_model().with_structured_output(Verdict).ainvoke("ping")
    assert verdict == Verdict(outcome="decline", amount=0)
    assert body_of(anthropic_server.log[0][0])["tool_choice"] == {"type": "tool", "name": "Verdict"}


async def test_a_rejected_key_is_in_no_error(openai_server: HTTPServer) -> None:
    refused = {"error": {"message": f"Incorrect API key provided: {KEY}.", "type": "invalid_request_error"}}
    openai_server.expect_request("/v1/chat/completions").respond_with_json(refused, status=401)
    with pytest.raises(ProviderRejected, match=r"status 401") as caught:
        await chat_model().ainvoke("ping")
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert len(openai_server.log) == 1


async def test_an_overloaded_vendor_is_asked_again(openai_server: HTTPServer) -> None:
    openai_server.expect_request("/v1/chat/completions").respond_with_handler(
        lambda _: Response("{}", status=503, headers={"retry-after-ms": "1"})
    )
    with pytest.raises(ProviderExhausted, match=r"status 503\), 3 times") as caught:
        await chat_model().ainvoke("ping")
    assert len(openai_server.log) == 3
    assert [error.status_code for error in caught.value.exceptions] == [503, 503, 503]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("variable", "module"), [("OPENAI_API_KEY", "langchain_openai"), ("ANTHROPIC_API_KEY", "langchain_anthropic")]
)
async def test_a_missing_package_is_named(variable: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, KEY)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ProviderUnavailable, match=f"{variable}.*{module.replace('_', '-')}") as caught:
        await chat_model().ainvoke("ping")
    assert KEY not in str(caught.value)


def test_importing_providers_imports_no_sdk() -> None:
    program = (
        "import sys, providers\n"
        "heavy = {'openai', 'anthropic', 'langchain_openai', 'langchain_anthropic', 'wordllama', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def body_of(request: Any) -> Any:
    return json.loads(request.get_data())
