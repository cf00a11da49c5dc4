"""The catalog of a process that has no routes configured: what the environment's keys allow. Pure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from superstep.providers.catalog.model import Catalog, Deployment, Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from superstep.providers.catalog.model import Provider

__all__ = ["VARIABLES", "catalog_from_env"]

# In the order in which they are asked.
_VENDORS: tuple[tuple[Provider, str, str], ...] = (
    ("openai", "OPENAI", "gpt-5.4-mini"),
    ("anthropic", "ANTHROPIC", "claude-sonnet-5"),
)

# What the catalog depends on.
VARIABLES = tuple(f"{prefix}_{what}" for _, prefix, _ in _VENDORS for what in ("API_KEY", "MODEL"))


def catalog_from_env(env: Mapping[str, str] | None = None) -> Catalog:
    """Make the catalog that serves every name alike, from the keys that are set.

    Base addresses are left to the SDKs, which read `OPENAI_BASE_URL` and `ANTHROPIC_BASE_URL` by themselves.

    Args:
        env: Variables to read instead of the process's own. An empty variable counts as not set.

    Returns:
        One route for every name: OpenAI if `OPENAI_API_KEY` is set, and Anthropic after it if `ANTHROPIC_API_KEY` is,
        so that two keys give failover; the offline model without any. `OPENAI_MODEL` and `ANTHROPIC_MODEL` override
        the names of the models.
    """
    env = os.environ if env is None else env
    found = [
        Deployment(
            name=f"default/{provider}:{model}",
            provider=provider,
            model=model,
            api_key_env=f"{prefix}_API_KEY",
            where=f"the variables {prefix}_API_KEY and {prefix}_MODEL",
        )
        for provider, prefix, usual in _VENDORS
        if env.get(f"{prefix}_API_KEY")
        for model in [env.get(f"{prefix}_MODEL") or usual]
    ]
    if not found:
        nowhere = "no OPENAI_API_KEY or ANTHROPIC_API_KEY is set"
        found = [Deployment(name="default/offline:offline", provider="offline", model="offline", where=nowhere)]
    return Catalog(routes={}, catch_all=Route(name="default", deployments=tuple(found), where="environment variables"))
