"""Every setting of an embedder, and what is said of one that is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from superstep.providers.embeddings import configure_embeddings, embedder
from superstep.providers.embeddings.settings import EmbeddingSettings, parse_embeddings
from superstep.runtime.faults import ConfigError
from tests.providers.embeddings.tables import KEY, OPENAI, SERVED, place


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
