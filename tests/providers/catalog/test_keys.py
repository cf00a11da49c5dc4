"""Keys: how they are read, what they must not be in, and what they must not be written in."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from superstep.providers.catalog.parse import parse_models
from superstep.providers.embeddings import configure_embeddings, embedder
from superstep.providers.records.redaction import without_secret
from superstep.runtime.faults import ConfigError, ProviderUnavailable
from tests.support.routes import KEY, Bed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.vendors import Vendor


@pytest.fixture
def embeddings(first: Vendor) -> Iterator[Any]:
    table = {"provider": "openai-compatible", "model": "m", "dimensions": 8, "base_url": first.openai_url}
    configure_embeddings({"default": {**table, "api_key_env": "FIRST_KEY"}})
    yield embedder()
    configure_embeddings({})


# -- reading them --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", ["\n", "\r\n", "\t", " "])
async def test_blanks_around_a_key_are_not_part_of_it(
    blank: str, bed: Bed, embeddings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_KEY", "SECOND_KEY"):
        monkeypatch.setenv(name, blank + KEY + blank)
    for deployment in (bed.openai(), bed.anthropic()):
        assert (await bed.model(deployment).ainvoke("ping")).text == "pong"
    await embeddings.embed(["a"])
    assert [each.key for each in (*bed.first.requests, *bed.second.requests)] == [KEY] * 3


async def test_a_blank_key_counts_as_not_set(bed: Bed, embeddings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST_KEY", " \n")
    message = await bed.model().ainvoke("ping")
    assert [each["why"] for each in message.response_metadata["routing"]["tried"]] == ["FIRST_KEY is not set"]
    with pytest.raises(ProviderUnavailable, match="FIRST_KEY is not set"):
        await embeddings.embed(["a"])
    assert bed.first.count == 0


@pytest.mark.parametrize("odd", ["\u200b", "\u2026", "\x7f", "\n\n."])
@pytest.mark.parametrize("how", ["openai", "anthropic", "stream", "embeddings"])
async def test_a_key_with_odd_characters_is_refused_and_not_shown(
    how: str, odd: str, bed: Bed, embeddings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An HTTP library would refuse it with an error that shows it."""
    variable = "SECOND_KEY" if how == "anthropic" else "FIRST_KEY"
    monkeypatch.setenv(variable, KEY + odd)
    model = bed.model(bed.anthropic() if how == "anthropic" else bed.openai())

    async def ask() -> object:
        if how == "embeddings":
            return await embeddings.embed(["a"])
        return [chunk async for chunk in model.astream("ping")] if how == "stream" else await model.ainvoke("ping")

    with pytest.raises(ConfigError, match=f"the key in {variable} has invisible or non-ASCII characters") as caught:
        await ask()
    assert KEY not in "".join(traceback.format_exception(caught.value)) + caplog.text
    assert bed.first.count == bed.second.count == 0


# -- taking them out of errors -------------------------------------------------------------------------------------


def caused(by: Exception) -> Exception:
    error = ValueError("harmless")
    error.__cause__ = by
    error.__context__ = ValueError("harmless, too")
    return error


def under(hidden: Exception) -> Exception:
    error = caused(ValueError("harmless"))
    error.__context__ = hidden
    return error


def noted(note: str) -> Exception:
    error = ValueError("harmless")
    error.add_note(note)
    return error


@pytest.mark.parametrize("key", [KEY, "sk-\"quoted'\\0123456789", KEY + "\u200b", KEY + "\u00e9"])
def test_an_error_that_quotes_a_key_in_whatever_form_is_replaced(key: str) -> None:
    quoting: Sequence[Exception] = [
        ValueError(f"the key {key} is wrong"),
        ValueError(key.encode()) if key.isascii() else ValueError(ascii(key)),
        ValueError(json.dumps({"key": key})),
        ValueError(str({"body": json.dumps({"key": key})})),
        caused(ValueError(key)),
        under(ValueError(key)),
        noted(f"with {key}"),
        ExceptionGroup("several", [ValueError("harmless"), ValueError([key])]),
    ]
    for error in quoting:
        replaced = without_secret(error, key)
        assert replaced is not error
        text = "".join(traceback.format_exception(replaced))
        assert "quotes the key" in text
        assert key[:12] not in text


def test_other_errors_stay_as_they_are() -> None:
    error = ValueError("harmless")
    error.__context__ = other = ValueError("harmless, too")
    other.__context__ = error  # a circle, which Python itself takes care not to make
    assert without_secret(error, KEY) is error
    assert without_secret(error, None) is error


# -- keeping them out of files -------------------------------------------------------------------------------------


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
