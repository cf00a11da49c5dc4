"""Parameters of chat models: no keys among them, and nothing that has a key of its own."""

from __future__ import annotations

from typing import Any

import pytest

from superstep.providers.catalog.parse import parse_models
from superstep.runtime.faults import ConfigError
from tests.support.routes import KEY


def parse(parameters: dict[str, Any], provider: str = "openai-compatible") -> Any:
    deployment = {"provider": provider, "model": "m", "base_url": "http://host/v1", "parameters": parameters}
    catalog = parse_models({"r": {"deployments": [deployment]}}, {}, {}, place=lambda path: ".".join(map(str, path)))
    return catalog.routes["r"].deployments[0].parameters


@pytest.mark.parametrize(
    "parameters",
    [
        {"default_query": {"key": KEY}},
        {"default_query": {"token": KEY}},
        {"default_query": {"sig": KEY}},
        {"default_headers": {"Ocp-Apim-Subscription-Key": KEY}},
        {"default_headers": {"X-Auth": KEY}},
        {"default_headers": {"Cookie": KEY}},
        {"model_kwargs": {"extra_headers": {"Authorization": KEY}}},
        {"model_kwargs": {"extra_headers": {"x-token": KEY}}},
        {"model_kwargs": {"extra_headers": {"x": f"Bearer {KEY}"}}},
        {"model_kwargs": {"extra_headers": {"x": [KEY]}}},
        {"model_kwargs": {"extra_query": {"x": KEY}}},
    ],
    ids=str,
)
def test_a_key_in_headers_and_queries_is_refused_and_not_shown(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="keys do not belong there") as caught:
        parse(parameters)
    assert KEY not in str(caught.value)


def test_harmless_headers_and_parameters_are_taken() -> None:
    parameters = {
        "max_tokens": 5,
        "stop": ["Basic ", "sk-"],
        "default_headers": {"HTTP-Referer": "https://a.b", "anthropic-beta": "token-efficient-tools-2025-02-19"},
        "default_query": {"api-version": "2024-10-21", "max_tokens": "5"},
        "metadata": {"key": "value"},
    }
    assert parse(parameters) == parameters


@pytest.mark.parametrize("provider", ["openai", "openai-compatible", "anthropic"])
@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("timeout", "write timeout there"),
        ("default_request_timeout", "write timeout there"),
        ("stream_chunk_timeout", "write token_timeout there"),
        ("max_retries", "write retries there"),
        ("openai_api_base", "write base_url there"),
        ("http_client", "Write base_url and timeout instead"),
        ("http_async_client", "Write base_url and timeout instead"),
    ],
)
def test_what_the_runtime_does_itself_is_no_parameter(name: str, instead: str, provider: str) -> None:
    with pytest.raises(ConfigError, match=rf"^models\.r\.deployments\.0\.parameters\.{name} .*{instead}"):
        parse({name: 1}, provider)
