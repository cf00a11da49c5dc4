"""Proxies, which come from the environment: which one a connection takes, and why one cannot be made through it.

HTTP clients read `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` when they are made, and fail then with
whatever they stumble over. A proxy's address may hold a password, so nothing of it but its scheme is ever shown.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from superstep.runtime.faults import ConfigError, ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["client", "proxy_variable"]

T = TypeVar("T")

_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_SPOKEN = frozenset({"http", "https", "socks5", "socks5h"})


def client(make: Callable[[], T], direct: Callable[[], T], *, url: str | None, place: str) -> T:
    """An HTTP client, made by `make` with the proxies of the environment; by `direct` if `url` needs none of them.

    Raises:
        ProviderUnavailable: the proxy speaks SOCKS, and the package for that is not installed.
        ConfigError: the address of a proxy is no such address.
    """
    try:
        return make()
    except Exception as error:
        named = _named()
        if not named:
            raise
        if url is not None and _needs_none(url):
            return direct()
        reason = _unusable(error, named, place)
    raise reason


def proxy_variable(url: str | None) -> str | None:
    """Name of the variable whose proxy a connection to this address takes; `None` if it takes none."""
    address = urlsplit(url or "https://")
    found = getproxies()
    if _needs_none(url or "https://"):
        return None
    kind = next((each for each in (address.scheme, "all") if found.get(each)), None)
    variable = f"{kind}_PROXY".upper() if kind else None
    return variable.lower() if variable and variable not in os.environ and variable.lower() in os.environ else variable


def _needs_none(url: str) -> bool:
    host = urlsplit(url).hostname
    return host is not None and bool(proxy_bypass(host))


def _named() -> dict[str, str]:
    """The variables that name proxies, with the scheme of each."""
    given = {name: os.environ.get(name) or os.environ.get(name.lower()) for name in _VARIABLES}
    return {name: value.partition("://")[0] if "://" in value else "http" for name, value in given.items() if value}


def _unusable(error: Exception, named: dict[str, str], place: str) -> ConfigError | ProviderUnavailable:
    which = ", ".join(f"{name} ({scheme}://…)" for name, scheme in named.items())
    else_ = "or unset it, or name the hosts that need no proxy in NO_PROXY"
    if isinstance(error, ImportError):
        return ProviderUnavailable(
            f"{place}: connections go through the proxy of {which}, and speaking SOCKS needs the package socksio, "
            f"which is not installed. Install it with `pip install 'httpx2[socks]'`, {else_}."
        )
    unknown = sorted(scheme for scheme in named.values() if scheme.lower() not in _SPOKEN)
    why = f"{unknown[0]}:// is no kind of proxy that is known" if unknown else "an address is malformed"
    return ConfigError(
        f"{place}: no connection can be made through the proxy of {which}: {why}. Name one as http://HOST:PORT, "
        f"https://HOST:PORT or socks5://HOST:PORT, {else_}."
    )
