"""The routes of this process: made once from whatever source was named, and shared by all of its calls.

Every program that opens a saver names a source, and many never ask a model: what makes the routes is imported when the
first call wants them.
"""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from superstep.providers.catalog.model import Catalog
    from superstep.providers.chat.service import Service

__all__ = ["close_service", "configure", "configure_by_default", "current_catalog", "current_service"]


class _ServiceRegistry:
    """Attributes: `source`, asked once for the catalog; `service`, made from it; `named`, whether one was named."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.source: Callable[[], Catalog | None] | None = None
        self.service: Service | None = None
        self.named = False


_registry = _ServiceRegistry()


def configure(catalog: Catalog | None) -> None:
    """Have this process use these routes from now on; `None`: those that the environment's keys allow.

    What is known of the health of deployments starts anew.
    """
    with _registry.lock:
        _registry.named, _registry.source = True, None
        _registry.service = _service(catalog)


def configure_by_default(source: Callable[[], Catalog | None]) -> None:
    """Name a source of routes for processes that do not call `configure`.

    Args:
        source: Asked when the first model is wanted. `None` leaves it to the environment's keys.
    """
    with _registry.lock:
        if not _registry.named:
            _registry.named, _registry.source = True, source


def current_service() -> Service:
    """The routes of this process with their state.

    Raises:
        ConfigError: The configuration is wrong.
    """
    if _registry.source is not None:
        with _registry.lock:
            if _registry.source is not None:
                catalog = _registry.source()
                _registry.service = _service(catalog)
                _registry.source = None
    return _registry.service or _from_env(_keys())


def current_catalog() -> Catalog:
    """The routes of this process as they are configured. Nothing that asks models is loaded for it.

    Raises:
        ConfigError: The configuration is wrong.
    """
    if _registry.source is not None or _registry.service is not None:
        return current_service().catalog
    from superstep.providers.catalog.from_env import catalog_from_env

    return catalog_from_env()


async def close_service() -> None:
    """Close what calls of models have left open, if any were made."""
    if _registry.service is not None:
        await _registry.service.clients.aclose()
    elif _from_env.cache_info().currsize:
        await _from_env(_keys()).clients.aclose()


def _keys() -> tuple[str | None, ...]:
    """Without a configuration the environment is looked at each time: keys may be set while the process runs."""
    from superstep.providers.catalog.from_env import VARIABLES

    return tuple(os.environ.get(name) for name in VARIABLES)


def _service(catalog: Catalog | None) -> Service | None:
    if catalog is None:
        return None
    from superstep.providers.chat.service import Service

    return Service(catalog)


@lru_cache(maxsize=8)
def _from_env(values: tuple[str | None, ...]) -> Service:
    from superstep.providers.catalog.from_env import VARIABLES, catalog_from_env
    from superstep.providers.chat.service import Service

    return Service(catalog_from_env({name: value for name, value in zip(VARIABLES, values, strict=True) if value}))
