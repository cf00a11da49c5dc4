"""Which embedder a name gets, and what is said of a configuration that is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from superstep.providers.embeddings import configure_embeddings, configure_embeddings_by_default, embedder, registry
from superstep.providers.embeddings.settings import EmbeddingSettings, parse_embeddings
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KEY = "sk-very-secret-0123456789"
OPENAI = {"provider": "openai", "model": "m", "dimensions": 8}
SERVED = {**OPENAI, "provider": "openai-compatible", "base_url": "http://127.0.0.1:1/v1"}


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    configure_embeddings({})


def place(path: Sequence[str | int]) -> str:
    return f"runtime.toml, line 7: {'.'.join(map(str, path))}"


def test_without_configuration_there_is_one_on_this_machine() -> None:
    assert embedder() is embedder("default")
    assert embedder().dimensions == 256
    with pytest.raises(ConfigError, match=r"no embedder 'defualt'\. Did you mean default\?.*\[embeddings\.defualt\]"):
        embedder("defualt")


def test_what_is_configured() -> None:
    configure_embeddings({"default": {"provider": "minilm"}, "vendor": SERVED})
    assert (embedder().dimensions, embedder("vendor").dimensions) == (384, 8)
    assert embedder("vendor") is embedder("vendor")
    configure_embeddings({})
    assert embedder().dimensions == 256
    with pytest.raises(ConfigError, match="no embedder 'vendor'"):
        embedder("vendor")


def test_an_equal_configuration_keeps_what_is_known() -> None:
    configure_embeddings({"vendor": SERVED})
    first, default = embedder("vendor"), embedder()
    configure_embeddings({"vendor": dict(SERVED)})
    assert embedder("vendor") is first
    assert embedder() is default
    configure_embeddings({"vendor": {**SERVED, "model": "other"}})
    assert embedder("vendor") is not first


def test_a_source_is_asked_when_the_first_embedder_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registry", registry._Registry())
    asked: list[Any] = [{"default": {"provider": "nonsense"}}, {"default": {"provider": "minilm"}}]
    configure_embeddings_by_default(lambda: configure_embeddings(asked.pop(0), place=place))
    configure_embeddings_by_default(lambda: pytest.fail("was asked"))  # comes too late
    assert len(asked) == 2
    with pytest.raises(ConfigError, match=r"^runtime\.toml, line 7: embeddings\.default\.provider"):
        embedder()
    assert embedder().dimensions == 384  # asked again: nobody runs on with half a configuration
    assert embedder().dimensions == 384
    assert asked == []


def test_a_source_is_not_asked_by_those_who_were_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registry", registry._Registry())
    configure_embeddings_by_default(lambda: pytest.fail("was asked"))
    configure_embeddings({"default": {"provider": "minilm"}})
    configure_embeddings_by_default(lambda: pytest.fail("was asked"))
    assert embedder().dimensions == 384


def test_every_setting() -> None:
    given = {**SERVED, "api_key_env": "VENDOR_KEY", "batch_size": 5, "timeout": 2, "retries": 0}
    assert parse_embeddings({"a": given, "b": OPENAI}, place=place) == {
        "a": EmbeddingSettings(name="a", **{**given, "timeout": 2.0}),
        "b": EmbeddingSettings(name="b", **OPENAI, api_key_env="OPENAI_API_KEY"),
    }


WRONG: list[tuple[Any, str]] = [
    (5, "embeddings must be a table of embedders"),
    ({"a": 5}, r"embeddings\.a must be a table"),
    ({"a": {}}, r"embeddings\.a lacks the key provider"),
    ({"a": {"provider": "worldlama"}}, r"embeddings\.a\.provider must be one of .*Did you mean wordllama\?"),
    ({"a": {"provider": 5}}, r"embeddings\.a\.provider must be one of"),
    ({"a": {**SERVED, "modle": "m"}}, r"embeddings\.a\.modle is not a key.*Did you mean model\?"),
    ({"a": {**SERVED, "api_key": KEY}}, r"embeddings\.a\.api_key must not be in a file"),
    ({"a": {**SERVED, "api_key_env": KEY}}, r"embeddings\.a\.api_key_env must be the name of an environment variable"),
    ({"a": {**SERVED, "base_url": f"http://{KEY}@host/v1"}}, r"embeddings\.a\.base_url must not hold"),
    ({"a": {**SERVED, "base_url": "localhost"}}, r"embeddings\.a\.base_url must be an address"),
    ({"a": {"provider": "minilm", "model": "m"}}, r"embeddings\.a\.model means nothing to provider minilm"),
    *(
        (
            {"a": {key: value for key, value in SERVED.items() if key != missing}},
            rf"embeddings\.a lacks the key {missing}",
        )
        for missing in ("model", "dimensions", "base_url")
    ),
    *(
        ({"a": {**SERVED, key: value}}, rf"embeddings\.a\.{key} must be")
        for key, value in [
            ("dimensions", 0),
            ("dimensions", True),
            ("dimensions", 8.0),
            ("batch_size", 0),
            ("timeout", 0),
            ("timeout", float("nan")),
            ("retries", -1),
            ("model", ""),
        ]
    ),
]


@pytest.mark.parametrize(("tables", "complaint"), WRONG)
def test_a_wrong_configuration_is_named_with_its_place(tables: Any, complaint: str) -> None:
    configure_embeddings({"kept": SERVED})
    with pytest.raises(ConfigError, match=rf"^runtime\.toml, line 7: {complaint}") as caught:
        configure_embeddings(tables, place=place)
    assert KEY not in str(caught.value)
    assert embedder("kept").dimensions == 8
