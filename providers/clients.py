"""Clients of the vendors' SDKs: keys, retries, time limits. Nothing is decided here, see `routes`.

Base addresses come from the SDKs' own variables (`OPENAI_BASE_URL`, `ANTHROPIC_BASE_URL`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from providers.offline import OfflineChatModel
from runtime.faults import ProviderUnavailable

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from providers.offline import OfflineRules
    from providers.routes import Deployment

__all__ = ["build"]

# Retries belong in one place. An SDK that retries by itself hides failures from whoever routes around them, and
# multiplies with every retry above it. Two is the SDKs' own default; it becomes 0 once routes retry and fall back.
MAX_RETRIES = 2

# Seconds. The SDKs' default of ten minutes lets one hung connection hold a flow for longer than anyone waits.
TIMEOUT = 60.0


def build(deployment: Deployment, *, route: str, rules: OfflineRules | None) -> BaseChatModel:
    """Make the chat model of a deployment, without any network call.

    Raises:
        ProviderUnavailable: The vendor's package is not installed.
    """
    if deployment.provider == "openai":
        return _openai(deployment)
    if deployment.provider == "anthropic":
        return _anthropic(deployment)
    return OfflineChatModel(route=route, rules=rules)


def _openai(deployment: Deployment) -> BaseChatModel:
    try:
        from langchain_openai import ChatOpenAI
    except ImportError as error:
        raise _missing(deployment, "langchain-openai") from error
    return ChatOpenAI(model=deployment.model, max_retries=MAX_RETRIES, timeout=TIMEOUT)


def _anthropic(deployment: Deployment) -> BaseChatModel:
    try:
        from langchain_anthropic import ChatAnthropic
    except ImportError as error:
        raise _missing(deployment, "langchain-anthropic") from error
    return ChatAnthropic(model=deployment.model, max_retries=MAX_RETRIES, timeout=TIMEOUT)


def _missing(deployment: Deployment, package: str) -> ProviderUnavailable:
    return ProviderUnavailable(
        f"{deployment.api_key_env} is set, but the package {package} cannot be imported. "
        f"Install it with `pip install {package}`, or unset {deployment.api_key_env} to run offline."
    )
