"""A handler that posts effects to a web address, signed as Standard Webhooks says (https://www.standardwebhooks.com).

Where the request goes may have been said by somebody who should not reach what this machine can reach. So the host's
name is looked up once, every address that it has is checked, and the connection is made to a checked address: a name
that changes its address meanwhile (DNS rebinding) gains nothing. Certificates are still checked against the name. A
redirect is a failure, and proxies of the environment are not asked, which would look the name up themselves.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from superstep.checkpointer.effects.handlers import Effect, GiveUp, handler
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    import httpx

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

__all__ = ["verify_webhook", "webhook"]

_PREFIX = "whsec_"
_LEAST_SECRET = 16  # bytes
_GONE = 410
_IPV4_AT_THE_END = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")))
_NOT_PUBLIC = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "fec0::/10")))  # not in every Python's list
_LONGEST_TIME = 12  # digits


def webhook(
    topic: str,
    url: str,
    *,
    secret: str | None = None,
    secret_env: str | None = None,
    allow_private: bool = False,
    allow_http: bool = False,
    verify: ssl.SSLContext | bool = True,
    timeout: float = 10.0,
    **settings: Any,
) -> None:
    """Declare that effects of a topic are posted to a web address.

    The body is `{"type": topic, "id": …, "key": …, "thread_id": …, "data": payload}`; the headers `webhook-id` (the
    effect's identity), `webhook-timestamp` and `webhook-signature` are those of Standard Webhooks. An answer of 2xx is
    a delivery; 410 makes the effect a dead letter at once, and anything else, a redirect too, is a failure.

    Args:
        topic: see `Step.emit`.
        url: where to.
        secret: what the body is signed with: base64 of at least 16 bytes, with or without the prefix `whsec_`.
        secret_env: or the name of a variable that has it when an effect is delivered.
        allow_private: also addresses that are not public: of this machine, of private networks, link-local ones.
        allow_http: also without TLS.
        verify: see httpx.
        timeout: seconds that one attempt may take.
        **settings: see `handler`.

    Raises:
        ConfigError: the address is none that may be posted to, or there is no usable secret.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("https", *(["http"] if allow_http else [])) or not parts.hostname:
        raise ConfigError(f"The webhook of effects {topic!r} needs an https address (or http with allow_http=True).")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"The webhook of effects {topic!r} has a user or a password in its address. Use its secret.")
    if (secret is None) == (secret_env is None):
        raise ConfigError(f"The webhook of effects {topic!r} needs a secret, or else the variable that has it.")
    if secret is not None:
        _key(secret, topic)
    poster = _Poster(topic, url, secret, secret_env, allow_private, verify, timeout)
    handler(topic, timeout=timeout + 1, **settings)(poster)


def verify_webhook(secret: str, headers: Mapping[str, str], body: bytes, *, tolerance: float = 300.0) -> bool:
    """Whether a request was signed with this secret, at most `tolerance` seconds ago. For receivers.

    Args:
        secret: as the sender has it.
        headers: of the request; their names in lower case.
        body: of the request, as it came.
        tolerance: seconds by which its time may differ from now.
    """
    sent, signatures = headers.get("webhook-timestamp", ""), headers.get("webhook-signature", "")
    if not sent.isdecimal() or len(sent) > _LONGEST_TIME or abs(time.time() - int(sent)) > tolerance:
        return False
    expected = _signature(_key(secret, ""), headers.get("webhook-id", ""), sent, body).encode()
    return any(hmac.compare_digest(each.encode(), expected) for each in signatures.split(" "))


@dataclass(frozen=True, slots=True)
class _Poster:
    topic: str
    url: str
    secret: str | None = field(repr=False)
    secret_env: str | None
    allow_private: bool
    verify: ssl.SSLContext | bool = field(repr=False)
    timeout: float

    async def __call__(self, effect: Effect) -> None:
        import httpx

        key, url = self._secret(), httpx.URL(self.url)
        host = url.raw_host.decode("ascii")
        body, now = _body(effect), str(int(time.time()))
        headers = {
            "host": url.netloc.decode("ascii"),
            "content-type": "application/json",
            "webhook-id": effect.id,
            "webhook-timestamp": now,
            "webhook-signature": _signature(key, effect.id, now, body),
        }
        how: dict[str, Any] = {"content": body, "headers": headers, "extensions": {"sni_hostname": host}}
        addresses = await self._addresses(host, url.port or (443 if url.scheme == "https" else 80))
        client = httpx.AsyncClient(verify=self.verify, timeout=self.timeout, follow_redirects=False, trust_env=False)
        async with client:
            *others, last = (url.copy_with(host=str(address)) for address in addresses)
            for each in others:
                with suppress(httpx.ConnectError):
                    return _judge(await _post(client, each, how), host)
            return _judge(await _post(client, last, how), host)

    def _secret(self) -> bytes:
        secret = self.secret if self.secret_env is None else os.environ.get(self.secret_env)
        if secret is None:
            raise ConfigError(f"The variable {self.secret_env}, for the webhook of effects {self.topic!r}, is not set.")
        return _key(secret, self.topic)

    async def _addresses(self, host: str, port: int) -> list[Address]:
        """Look the name up, and check all that comes out."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(each[4][0]) for each in found]
        if not self.allow_private and not all(map(_is_public, addresses)):
            raise GiveUp(
                f"{host} is at an address that is not public, where the webhook of effects {self.topic!r} may not go "
                f"(allow_private=True lets it)"
            )
        return list(dict.fromkeys(addresses))


class _NotTaken(Exception):
    """The receiver has not taken it."""


async def _post(client: httpx.AsyncClient, url: httpx.URL, how: Mapping[str, Any]) -> int:
    """The status of the answer, whose body is not read."""
    async with client.stream("POST", url, **how) as answer:
        return answer.status_code


def _body(effect: Effect) -> bytes:
    said = {
        "type": effect.topic,
        "id": effect.id,
        "key": effect.key,
        "thread_id": effect.thread_id,
        "data": effect.payload,
    }
    return json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()


def _judge(status: int, host: str) -> None:
    if status == _GONE:
        raise GiveUp(f"the receiver at {host} wants no more of these ({_GONE})")
    if not 200 <= status < 300:
        raise _NotTaken(f"the receiver at {host} answered {status}")


def _is_public(address: Address) -> bool:
    """Whether it is, and every address that it stands for."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and any(address in each for each in _IPV4_AT_THE_END):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
        if any(address in each for each in _NOT_PUBLIC):
            return False
    return address.is_global and not address.is_multicast


def _key(secret: str, topic: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < _LEAST_SECRET:
        raise ConfigError(
            f"The secret of the webhook of effects {topic!r} must be base64 of {_LEAST_SECRET} or more bytes."
        )
    return key


def _signature(key: bytes, effect_id: str, timestamp: str, body: bytes) -> str:
    signed = b".".join([effect_id.encode(), timestamp.encode(), body])
    return f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"
