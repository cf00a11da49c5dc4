"""What can be configured about embeddings: the tables `[embeddings.<name>]` of `runtime.toml`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from superstep.providers.catalog.values import Spot, choice, http_address, number, table, text, variable_name, whole

if TYPE_CHECKING:
    from superstep.providers.catalog.values import Locator, Reader

__all__ = ["EmbeddingProvider", "EmbeddingSettings", "parse_embeddings"]

EmbeddingProvider: TypeAlias = Literal["wordllama", "minilm", "openai", "openai-compatible"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSettings:
    """One embedder.

    Attributes:
        name: what it is asked for by.
        provider: what computes the vectors; "wordllama" and "minilm" do so on this machine, without further settings.
        model: the provider's name of the model.
        dimensions: length of its vectors. OpenAI's newer models are asked for that length; other servers must have it.
        base_url: where it is served, if not at the provider's own address.
        api_key_env: name of the variable that holds the key; the key itself is never kept here.
        batch_size: texts in one request at most.
        timeout: seconds for one attempt.
        retries: further attempts after a failure that may pass.
        where: where it was configured, for error messages.
    """

    name: str
    provider: EmbeddingProvider
    model: str = ""
    dimensions: int = 0
    base_url: str | None = None
    api_key_env: str | None = None
    batch_size: int = 128
    timeout: float = 30.0
    retries: int = 3
    where: str = field(default="", compare=False)


_KEYS: dict[str, Reader] = {
    "provider": choice(*get_args(EmbeddingProvider)),
    "model": text,
    "dimensions": whole(1),
    "base_url": http_address,
    "api_key_env": variable_name,
    "batch_size": whole(1),
    "timeout": number(unit="seconds"),
    "retries": whole(0),
}
_NEEDED = {"openai": ("model", "dimensions"), "openai-compatible": ("model", "dimensions", "base_url")}


def parse_embeddings(tables: Any, *, place: Locator) -> dict[str, EmbeddingSettings]:
    """Make the settings of the tables under `[embeddings]`.

    Args:
        tables: Embedders by name.
        place: Names the place of a value, given the keys that lead to it; errors begin with it.

    Raises:
        ConfigError: Anything is wrong. No message holds a value.
    """
    spot = Spot(("embeddings",), place)
    if not isinstance(tables, Mapping):
        raise spot.wrong("must be a table of embedders: write [embeddings.default].")
    return {name: _settings(name, value, spot / name) for name, value in tables.items()}


def _settings(name: str, value: Any, spot: Spot) -> EmbeddingSettings:
    found = table(value, spot, _KEYS, "provider")
    provider = found["provider"]
    if provider not in _NEEDED:
        useless = next((key for key in found if key != "provider"), None)
        if useless is not None:
            raise (spot / useless).wrong(f"means nothing to provider {provider}, which has one model. Take it out.")
    for key in _NEEDED.get(provider, ()):
        if key not in found:
            raise spot.wrong(f"lacks the key {key}, which provider {provider} needs. Add it.")
    if provider == "openai":
        found.setdefault("api_key_env", "OPENAI_API_KEY")
    return EmbeddingSettings(name=name, where=str(spot), **found)
