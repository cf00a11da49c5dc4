"""The routes of this process: made once from whatever source was named, and shared by all of its calls."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from typing import TYPE_CHECKING

from superstep.providers.catalog.from_env import VARIABLES, catalog_from_env
from superstep.providers.chat.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from superstep.providers.catalog.model import Catalog

__all__ = ["configure", "configure_by_default", "current_service"]


class _Process:
    """Attributes: `source`, asked once for the catalog; `service`, made from it; `named`, whether anybody named one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.source: Callable[[], Catalog | None] | None = None
        self.service: Service | None = None
        self.named = False


_process = _Process()


def configure(catalog: Catalog | None) -> None:
    """Have this process use these routes from now on; `None`: those that the environment's keys allow.

    What is known of the health of deployments starts anew.
    """
    with _process.lock:
        _process.named, _process.source = True, None
        _process.service = None if catalog is None else Service(catalog)


def configure_by_default(source: Callable[[], Catalog | None]) -> None:
    """Name a source of routes for processes in which nobody calls `configure`.

    Args:
        source: Asked when the first model is wanted. `None` leaves it to the environment's keys.
    """
    with _process.lock:
        if not _process.named:
            _process.named, _process.source = True, source


def current_service() -> Service:
    """The routes of this process with their state.

    Raises:
        ConfigError: The configuration is wrong.
    """
    if _process.source is not None:
        with _process.lock:
            if _process.source is not None:
                catalog = _process.source()
                _process.service = None if catalog is None else Service(catalog)
                _process.source = None
    # Without a configuration the environment is looked at each time: keys may be set while the process runs.
    return _process.service or _from_env(tuple(os.environ.get(name) for name in VARIABLES))


@lru_cache(maxsize=8)
def _from_env(values: tuple[str | None, ...]) -> Service:
    return Service(catalog_from_env({name: value for name, value in zip(VARIABLES, values, strict=True) if value}))
