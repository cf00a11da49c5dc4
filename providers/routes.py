"""Policy: which deployment serves a route.

Pure: reads a mapping of environment variables and decides, without importing a driver or an SDK.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Deployment", "deployment_for"]

Provider = Literal["openai", "anthropic", "offline"]

OPENAI_DEFAULT_MODEL = "gpt-5.4-mini"
ANTHROPIC_DEFAULT_MODEL = "claude-sonnet-5"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model at one vendor.

    Attributes:
        provider: who serves it.
        model: the vendor's name of the model.
        api_key_env: name of the variable that holds the key. The key itself is never kept here, so that printing or
            logging a deployment cannot leak it.
    """

    provider: Provider
    model: str
    api_key_env: str | None = None


def deployment_for(route: str, env: Mapping[str, str] | None = None) -> Deployment:
    """Choose the deployment of a route from the keys that are set.

    Args:
        route: Name of the route. Every route has the same deployment until routes can be configured.
        env: Variables to read instead of the process's own.

    Returns:
        OpenAI if `OPENAI_API_KEY` is set, else Anthropic if `ANTHROPIC_API_KEY` is, else the offline model.
        `OPENAI_MODEL` and `ANTHROPIC_MODEL` override the model names. An empty variable counts as not set.
    """
    del route
    env = os.environ if env is None else env
    if env.get("OPENAI_API_KEY"):
        return Deployment("openai", env.get("OPENAI_MODEL") or OPENAI_DEFAULT_MODEL, "OPENAI_API_KEY")
    if env.get("ANTHROPIC_API_KEY"):
        return Deployment("anthropic", env.get("ANTHROPIC_MODEL") or ANTHROPIC_DEFAULT_MODEL, "ANTHROPIC_API_KEY")
    return Deployment("offline", "offline")
