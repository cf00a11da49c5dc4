"""The embedders of a process by name."""

from __future__ import annotations

from typing import Any

import pytest

from superstep.providers.embeddings import configure_embeddings, configure_embeddings_by_default, embedder, registry
from superstep.runtime.faults import ConfigError
from tests.providers.embeddings.tables import SERVED, place


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
    monkeypatch.setattr(registry, "_registry", registry._EmbedderRegistry())
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
    monkeypatch.setattr(registry, "_registry", registry._EmbedderRegistry())
    configure_embeddings_by_default(lambda: pytest.fail("was asked"))
    configure_embeddings({"default": {"provider": "minilm"}})
    configure_embeddings_by_default(lambda: pytest.fail("was asked"))
    assert embedder().dimensions == 384
