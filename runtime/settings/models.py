"""The models of a command: routes and embedders from `runtime.toml`, routes else from the environment's keys."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from superstep.providers.catalog.model import Catalog
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["catalog", "configured", "use_models"]


def catalog(settings: CommandSettings) -> Catalog:
    """Return what is configured about models.

    Budgets and recording come from the file also where the routes do not.

    Args:
        settings: The settings, whose sections about models have not been checked yet.

    Raises:
        ConfigError: They are wrong, or a price that they rely on is unknown.
    """
    from superstep.providers.catalog.checks import check_prices
    from superstep.providers.catalog.from_env import catalog_from_env
    from superstep.providers.catalog.parse import parse_models
    from superstep.providers.catalog.pricing import price_of

    found = parse_models(settings.models, settings.budgets, settings.recording, place=settings.place)
    if not found.routes:
        found = replace(found, catch_all=catalog_from_env().catch_all)
    check_prices(found, price_of)
    return found


def use_models(settings: CommandSettings) -> None:
    """Let the models and embedders of this process be those of the settings. Call it before a graph is imported.

    A file that says nothing about models leaves them to the environment, which a graph may still change.

    Raises:
        ConfigError: What the file says is wrong.
    """
    from superstep.providers import configure
    from superstep.providers.embeddings import configure_embeddings

    configure(configured(settings))
    configure_embeddings(settings.embeddings, place=settings.place)


def configured(settings: CommandSettings) -> Catalog | None:
    """Return what the file says about models; `None` if it says nothing, which leaves them to the environment.

    Raises:
        ConfigError: What the file says is wrong.
    """
    return catalog(settings) if settings.models or settings.budgets or settings.recording else None
