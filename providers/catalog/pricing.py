"""What calls cost: prices from the configuration, else those published in `genai-prices`.

The table of prices is part of the installed package; nothing is fetched. A model is looked up in it once, not for each
call. Amounts are estimates in US dollars: a provider's bill may know of discounts, taxes and service tiers that nothing
here does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from superstep.providers.catalog.model import Price

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_prices.types import PriceCalculation

    from superstep.providers.catalog.model import Deployment, Provider

__all__ = ["cost", "price_of"]

_MILLION = 1_000_000
_FREE = Price(input=0.0, output=0.0)

# Providers whose prices are published. The same model at another address has other prices.
_PUBLISHED: frozenset[Provider] = frozenset({"openai", "anthropic"})


class _Published(NamedTuple):
    """A model's entry in the table: its price, whether that is all there is to know, and what calculates it exactly."""

    price: Price
    flat: bool
    entry: PriceCalculation


def price_of(deployment: Deployment) -> Price | None:
    """The price of a deployment's model, in US dollars per million tokens.

    Where a provider charges more above some length of the input, this is the price below it; `cost` knows the tiers.

    Returns:
        The configured price, else the published one; 0 for the offline model; `None` if no price is known.
    """
    if deployment.price is not None:
        return deployment.price
    if deployment.provider == "offline":
        return _FREE
    found = _published(deployment.provider, deployment.model)
    return found.price if found else None


def cost(
    deployment: Deployment, input_tokens: int, output_tokens: int, details: Mapping[str, Any] | None = None
) -> float | None:
    """The price of one call in US dollars.

    Args:
        deployment: The one that answered.
        input_tokens: All of them, those read from a cache or written to it included.
        output_tokens: All of them, reasoning included.
        details: `input_token_details` of LangChain's usage metadata, for the published prices of cached tokens. Without
            them, or with a configured price, all input tokens cost the same.

    Returns:
        The cost, or `None` if no price is known.
    """
    price = price_of(deployment)
    if price is None:
        return None
    found = _published(deployment.provider, deployment.model) if deployment.price is None else None
    if found is not None and (details or not found.flat):
        try:
            return _exact(found.entry, input_tokens, output_tokens, details or {})
        except ValueError:
            pass  # the provider's counts do not add up; an answer is not refused for that
    return (input_tokens * price.input + output_tokens * price.output) / _MILLION


def _exact(entry: PriceCalculation, input_tokens: int, output_tokens: int, details: Mapping[str, Any]) -> float:
    from genai_prices import Usage

    long_lived = details.get("ephemeral_1h_input_tokens") or 0
    written = (details.get("cache_creation") or 0) + (details.get("ephemeral_5m_input_tokens") or 0) + long_lived
    read = details.get("cache_read") or 0
    cached = {"cache_read_tokens": read, "cache_write_tokens": written, "cache_write_1h_tokens": long_lived}
    used = Usage(input_tokens=input_tokens, output_tokens=output_tokens, **(cached if read or written else {}))
    return float(entry.model.calc_price(used, entry.provider).total_price)


@lru_cache(maxsize=1024)
def _published(provider: Provider, model: str) -> _Published | None:
    """A model's entry in the table, found by pricing a call without tokens."""
    if provider not in _PUBLISHED:
        return None
    from genai_prices import Usage, calc_price
    from genai_prices.types import ModelPrice, TieredPrices

    try:
        entry = calc_price(Usage(input_tokens=0, output_tokens=0), model, provider_id=provider)
    except LookupError:
        return None
    into, out = entry.model_price.input_mtok, entry.model_price.output_mtok
    if into is None or out is None:  # no chat model
        return None
    bases = [each.base if isinstance(each, TieredPrices) else each for each in (into, out)]
    flat = bases == [into, out] and isinstance(entry.model.prices, ModelPrice)  # else they change with length, or date
    return _Published(Price(input=float(bases[0]), output=float(bases[1])), flat, entry)
