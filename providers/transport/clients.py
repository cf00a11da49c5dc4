"""The LangChain chat model of each deployment: keys, addresses, connections. Nothing is decided here.

The SDKs neither retry nor time out by themselves (`max_retries=0`): both belong to the policy above, and an SDK that
retries hides failures from the router. Connections belong to an event loop, so every loop has models of
its own (`loop_local`).
"""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

from superstep.providers.catalog.keys import checked_key, key_in
from superstep.providers.offline import OfflineChatModel
from superstep.providers.transport import proxies
from superstep.providers.transport.loop_local import LoopLocal
from superstep.providers.transport.response_hook import HOOKS
from superstep.runtime.faults import ConfigError, ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.language_models import BaseChatModel

    from superstep.providers.catalog.model import Deployment
    from superstep.providers.offline import OfflineRules

__all__ = ["Clients", "missing_key", "secret_of"]

# Seconds. A host that does not accept connections is known to be away long before a slow answer is known to be slow.
CONNECT_TIMEOUT = 5.0

_PACKAGES = {"openai": "langchain-openai", "openai-compatible": "langchain-openai", "anthropic": "langchain-anthropic"}


def missing_key(deployment: Deployment) -> str | None:
    """Why the deployment cannot be asked at all: its key variable is not set. A blank one counts as not set."""
    if deployment.api_key_env and key_in(deployment.api_key_env) is None:
        return f"{deployment.api_key_env} is not set"
    return None


def secret_of(deployment: Deployment) -> str | None:
    """The deployment's key, for taking it out of texts that come from elsewhere."""
    return key_in(deployment.api_key_env)


class Clients:
    """Models by event loop and deployment, made when first asked for. Safe to share by threads."""

    def __init__(self) -> None:
        self._models: LoopLocal[BaseChatModel] = LoopLocal(_close)

    def model(self, deployment: Deployment, route: str, rules: OfflineRules | None) -> BaseChatModel:
        """The model of a deployment for the running loop; `route` and `rules` are for the offline one.

        Raises:
            ProviderUnavailable: the package that speaks to the provider is not installed.
            ConfigError: its class cannot be imported, or does not take the parameters; or its key cannot be one.
        """
        if deployment.provider == "offline":
            return OfflineChatModel(route=route, rules=rules)
        key = checked_key(deployment.api_key_env, deployment.where or deployment.name)  # if changed, from this call on
        return self._models.get(deployment.name, key, lambda: _build(deployment, key))

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        await self._models.aclose()


async def _close(model: BaseChatModel) -> None:
    client = getattr(model, "http_async_client", None) or getattr(model, "superstep_http", None)
    if client is not None:
        await client.aclose()


def _build(deployment: Deployment, key: str | None) -> BaseChatModel:
    try:
        make = _MAKERS[deployment.provider]
        return make(deployment, key)
    except ImportError as error:
        package = _PACKAGES.get(deployment.provider, "the package of its class")
        raise ProviderUnavailable(
            f"{deployment.name} ({deployment.where}) needs {package}, which cannot be imported: {error.name}. "
            f"Install it, or take the deployment out."
        ) from error
    except (TypeError, ValueError) as error:
        # Not the error's own text: pydantic shows the values it was given, and one of them is the key.
        raise ConfigError(
            f"{deployment.where or deployment.name}: {deployment.provider} does not accept these parameters "
            f"({', '.join(sorted(deployment.parameters)) or 'none'}; {type(error).__name__}). Correct `parameters`."
        ) from None


def _openai(deployment: Deployment, key: str | None) -> BaseChatModel:
    import httpx2
    import openai

    importlib.import_module("langchain_openai")  # named in the error if it is not there
    from superstep.providers.transport.openai_chat import LenientChatOpenAI

    timeout = httpx2.Timeout(deployment.timeout, connect=min(CONNECT_TIMEOUT, deployment.timeout))
    place, at = deployment.where or deployment.name, deployment.base_url
    make: Any = partial(openai.DefaultAsyncHttpxClient, timeout=timeout, event_hooks=dict(HOOKS))
    client = proxies.client(
        make, partial(make, transport=httpx2.AsyncHTTPTransport(), trust_env=False), url=at, place=place
    )
    options: dict[str, Any] = {"stream_usage": True, "stream_chunk_timeout": None}  # time limits are ours
    if deployment.provider == "openai-compatible":
        # Servers that imitate OpenAI imitate chat completions; a server without a key still gets the header.
        options["use_responses_api"] = False
    if deployment.base_url:
        options["base_url"] = deployment.base_url
    if not client.trust_env:  # nor may the synchronous client, which is made as well and never used
        options["http_socket_options"] = ()  # both clients are ours
        options["http_client"] = openai.DefaultHttpxClient(transport=httpx2.HTTPTransport(), trust_env=False)
    return LenientChatOpenAI(
        model=deployment.model,
        api_key=_hidden(key or "none"),
        max_retries=0,
        timeout=timeout,
        http_async_client=client,
        **{**options, **deployment.parameters},
    )


def _anthropic(deployment: Deployment, key: str | None) -> BaseChatModel:
    import anthropic
    import httpx2
    from langchain_anthropic import ChatAnthropic

    timeout = httpx2.Timeout(deployment.timeout, connect=min(CONNECT_TIMEOUT, deployment.timeout))
    options = {"base_url": deployment.base_url} if deployment.base_url else {}
    model = ChatAnthropic(
        model=deployment.model,
        api_key=_hidden(key or "none"),
        max_retries=0,
        timeout=deployment.timeout,
        **{**options, **deployment.parameters},
    )
    # The class takes no HTTP client; its own default one is shared by all event loops, which connections cannot be.
    make: Any = partial(anthropic.DefaultAsyncHttpxClient, timeout=timeout, event_hooks=dict(HOOKS))
    direct = partial(make, transport=httpx2.AsyncHTTPTransport(), trust_env=False)
    http = proxies.client(make, direct, url=deployment.base_url, place=deployment.where or deployment.name)
    client = anthropic.AsyncAnthropic(
        api_key=key or "none", base_url=deployment.base_url, max_retries=0, timeout=timeout, http_client=http
    )
    model.__dict__["_async_client"] = client
    model.__dict__["superstep_http"] = http
    return model


def _imported(deployment: Deployment, key: str | None) -> BaseChatModel:
    module, _, name = (deployment.path or "").partition(":")
    try:
        kind: Callable[..., BaseChatModel] = getattr(importlib.import_module(module), name)
    except AttributeError as error:
        raise ConfigError(
            f"{deployment.where or deployment.name}: there is no {name!r} in {module}. Correct `path`."
        ) from error
    options: dict[str, Any] = dict(deployment.parameters)
    if deployment.model:
        options.setdefault("model", deployment.model)
    if key:
        options.setdefault("api_key", _hidden(key))
    if deployment.base_url:
        options.setdefault("base_url", deployment.base_url)
    return kind(**options)


def _hidden(key: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(key)


_MAKERS: dict[str, Callable[[Deployment, str | None], BaseChatModel]] = {
    "openai": _openai,
    "openai-compatible": _openai,
    "anthropic": _anthropic,
    "langchain": _imported,
}
