"""Proxies of the environment: the real reason where one cannot be used, and none in the way of who needs none."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from superstep.providers.embeddings.remote import RemoteEmbedder
from superstep.providers.embeddings.settings import EmbeddingSettings
from superstep.providers.transport.proxies import proxy_variable
from superstep.runtime.faults import ConfigError, ProviderExhausted, ProviderUnavailable, RuntimeFault
from tests.support.routes import Bed, record
from tests.support.vendors import vectors

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "s3cr3t-of-the-proxy"
WRONG: list[tuple[str, type[RuntimeFault], str]] = [
    ("socks5://me:{}@127.0.0.1:9", ProviderUnavailable, r"socksio.*pip install 'httpx2\[socks\]'"),
    ("socks5h://me:{}@127.0.0.1:9", ProviderUnavailable, r"socksio"),
    ("socks://me:{}@127.0.0.1:9", ConfigError, r"socks:// is no kind of proxy"),
    ("socks4://me:{}@127.0.0.1:9", ConfigError, r"socks4:// is no kind of proxy"),
    ("http://me:{}@127.0.0.1:port", ConfigError, r"an address is malformed"),
]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def embed(bed: Bed) -> Any:
    settings = EmbeddingSettings(
        name="e", provider="openai-compatible", model="m", dimensions=8, base_url=bed.first.openai_url
    )
    embedder = RemoteEmbedder(settings)
    try:
        return await embedder.embed(["hi"])
    finally:
        await embedder.aclose()


WHO: dict[str, Callable[[Bed], Any]] = {
    "openai": lambda bed: bed.model(bed.openai()).ainvoke("ping"),
    "anthropic": lambda bed: bed.model(bed.anthropic()).ainvoke("ping"),
    "embeddings": embed,
}


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize(("address", "kind", "why"), WRONG)
async def test_a_proxy_that_cannot_be_used_is_the_reason(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, who: str, address: str, kind: type[RuntimeFault], why: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", address.format(SECRET))
    with pytest.raises(kind, match=why) as caught:
        await WHO[who](bed)
    said = str(caught.value)
    assert "ALL_PROXY" in said
    assert "NO_PROXY" in said
    assert "langchain" not in said
    assert SECRET not in said
    assert caught.value.__context__ is None or SECRET not in repr(caught.value.__context__)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize(("address", "kind", "why"), WRONG)
async def test_who_needs_no_proxy_is_served(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, who: str, address: str, kind: type[RuntimeFault], why: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", address.format(SECRET))
    monkeypatch.setenv("NO_PROXY", "example.org,127.0.0.1")
    if who == "embeddings":
        bed.first.always(vectors(8))
    assert await WHO[who](bed)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY", "all_proxy"])
async def test_a_proxy_that_is_away_is_named(bed: Bed, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv(variable, f"http://me:{SECRET}@127.0.0.1:{port}")
    with pytest.raises(ProviderExhausted) as caught:
        await bed.model(bed.openai()).ainvoke("ping")
    assert caught.value.tried[0]["why"] == f"connection failed, through the proxy of {variable}"
    assert variable in str(caught.value)
    assert SECRET not in str(caught.value)


async def test_a_failure_without_a_proxy_names_none(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # for other addresses
    bed.first.kill()
    assert record(await bed.model().ainvoke("ping"))["tried"][0]["why"] == "connection failed"


def test_which_variable_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://a:1")
    monkeypatch.setenv("ALL_PROXY", "http://b:1")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    assert proxy_variable(None) == "https_proxy"
    assert proxy_variable("http://outside.example") == "ALL_PROXY"
    assert proxy_variable("https://inside.example/v1") is None
