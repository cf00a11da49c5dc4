"""Embeddings over HTTP: OpenAI, and servers that speak its `/embeddings` (vLLM, Ollama, llama.cpp, gateways).

See platform.openai.com/docs/api-reference/embeddings. The SDK neither retries nor times out by itself: both are done
here, by the same rules as for chat models (`providers.policy`).
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING, Any

from superstep.providers.catalog.keys import checked_key
from superstep.providers.clock import now
from superstep.providers.policy.backoff import pause
from superstep.providers.policy.failures import Action, Failure, MalformedAnswer, TooSlow, classify
from superstep.providers.records.call_record import counted, left
from superstep.providers.records.redaction import without_secret
from superstep.providers.transport import proxies
from superstep.providers.transport.clients import CONNECT_TIMEOUT
from superstep.providers.transport.loop_local import LoopLocal
from superstep.providers.transport.response_hook import HOOKS, noted_response
from superstep.providers.transport.retrying import AttemptFailed, retrying
from superstep.runtime.faults import ConfigError, ProviderExhausted, ProviderRejected, ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.providers.embeddings.settings import EmbeddingSettings
    from superstep.providers.records.call_record import Tried

__all__ = ["RemoteEmbedder"]


class RemoteEmbedder:
    """Safe to share by threads and event loops; each loop has connections of its own, which end with it."""

    def __init__(self, settings: EmbeddingSettings) -> None:
        self.dimensions = settings.dimensions
        self._settings = settings
        self._rng = random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._clients: LoopLocal[Any] = LoopLocal(_close)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return one unit vector for each text, in order. One request, however many texts there are.

        Raises:
            ProviderUnavailable: The key variable is not set, or the package `openai` is missing.
            ProviderExhausted: The provider did not answer, or not with vectors, as often as `retries` allows.
            ProviderRejected: The provider refuses the request or the key.
            ConfigError: The vectors have other dimensions than configured, or the key cannot be one.
        """
        key = self._key()
        tried: list[Tried] = []
        errors: list[Exception] = []
        try:
            return await retrying()(self._once, list(texts), key, tried, errors)
        except AttemptFailed as error:
            failure = error.failure
        # Raised out here, where it has no context: that would be the attempt's own error, which may quote the key.
        raise self._given_up(failure, tried, errors)

    async def _once(
        self, texts: list[str], key: str | None, tried: list[Tried], errors: list[Exception]
    ) -> list[list[float]]:
        began = now()
        try:
            with noted_response() as response:
                return self._read(await self._requested(texts, key), len(texts))
        except (ConfigError, ProviderUnavailable):
            raise
        except Exception as error:
            failure = classify(error, status=response.status, headers=response.headers)
            seconds = now() - began
            tried.append(left(self._name, failure.why, status=failure.status, seconds=seconds, counts=failure.counts))
            errors.append(without_secret(error, key))
            again = failure.action is Action.RETRY and len(tried) <= self._settings.retries
            raise AttemptFailed(failure, pause(len(tried), failure, self._rng) if again else None) from error

    async def _requested(self, texts: list[str], key: str | None) -> Any:
        settings = self._settings
        # Only OpenAI's own models are known to shorten vectors and to write them compactly.
        options: dict[str, Any] = {"encoding_format": "float"}
        if settings.provider == "openai":
            options = {"dimensions": settings.dimensions}
        client = self._client(key)
        try:
            async with asyncio.timeout(settings.timeout):
                return await client.embeddings.create(model=settings.model, input=texts, **options)
        except TimeoutError as error:
            raise TooSlow("no answer", settings.timeout) from error

    def _read(self, answer: Any, wanted: int) -> list[list[float]]:
        found = sorted(answer.data or (), key=lambda each: each.index)
        if [each.index for each in found] != list(range(wanted)):
            raise MalformedAnswer(f"{len(found)} vectors for {wanted} texts")
        for each in found:
            if len(each.embedding) != self.dimensions:
                raise ConfigError(
                    f"{self._settings.where or self._name} says dimensions = {self.dimensions}, but "
                    f"{self._name} sends vectors of {len(each.embedding)}. Correct dimensions or model; columns and "
                    f"stored vectors must have the same."
                )
        return _units([each.embedding for each in found])

    @property
    def _name(self) -> str:
        return f"embeddings.{self._settings.name}/{self._settings.provider}:{self._settings.model}"

    def _key(self) -> str | None:
        variable = self._settings.api_key_env
        key = checked_key(variable, self._settings.where or self._name)
        if variable and key is None:
            raise ProviderUnavailable(
                f"{self._settings.where or self._name}: {variable} is not set. Set it to the key of "
                f"{self._settings.provider}, or choose another provider."
            )
        return key

    def _client(self, key: str | None) -> Any:
        return self._clients.get(self._name, key, lambda: self._connect(key))

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        await self._clients.aclose()

    def _connect(self, key: str | None) -> Any:
        try:
            import httpx2
            import openai
        except ImportError as error:
            raise ProviderUnavailable(
                f"{self._settings.where or self._name} needs the package openai, which cannot be imported. "
                f"Install it with `pip install openai`."
            ) from error
        seconds = self._settings.timeout
        timeout = httpx2.Timeout(seconds, connect=min(CONNECT_TIMEOUT, seconds))
        make: Any = partial(openai.DefaultAsyncHttpxClient, timeout=timeout, event_hooks=dict(HOOKS))
        direct = partial(make, transport=httpx2.AsyncHTTPTransport(), trust_env=False)
        place = self._settings.where or self._name
        http = proxies.client(make, direct, url=self._settings.base_url, place=place)
        return openai.AsyncOpenAI(
            api_key=key or "none",  # a server without a key still gets the header
            base_url=self._settings.base_url,
            max_retries=0,
            timeout=timeout,
            http_client=http,
        )

    def _given_up(self, failure: Failure, tried: list[Tried], errors: list[Exception]) -> ProviderExhausted:
        whys = counted(each["why"] for each in tried)
        route = f"embeddings.{self._settings.name}"
        where = f" ({self._settings.where})" if self._settings.where else ""
        if failure.action is Action.STOP:
            return ProviderRejected(
                f"{self._name} refused to embed: {whys}. Correct the key, the model or the text{where}.",
                errors,
                route=route,
                tried=tried,
            )
        return ProviderExhausted(
            f"{self._name} gave no embeddings: {whys}. Nothing of the step was committed: `runtime resume` goes on "
            f"when it is back. Its address is configured in [{route}] of runtime.toml{where}.",
            errors,
            route=route,
            tried=tried,
        )


async def _close(client: Any) -> None:
    await client.close()


def _units(vectors: list[list[float]]) -> list[list[float]]:
    import numpy  # in Python, a full batch would hold up the event loop for tens of milliseconds

    matrix = numpy.asarray(vectors, dtype=numpy.float64)
    lengths = numpy.linalg.norm(matrix, axis=1, keepdims=True)
    if not (numpy.isfinite(lengths).all() and lengths.all()):
        raise MalformedAnswer("a vector that is zero or not finite")
    found: list[list[float]] = (matrix / lengths).tolist()
    return found
