"""`runtime models`: routes, the deployments behind them, and whether they work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from superstep.runtime.cli.options import Common, common_options, json_option, pass_common

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from superstep.checkpointer import DeploymentHealth
    from superstep.providers.catalog.model import Catalog, Deployment
    from superstep.providers.chat.probe import CheckResult
    from superstep.runtime.cli.session import Stop
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["models"]

LOOK_BACK = 3600.0  # seconds of records that health is judged by
NO_DEPLOYMENT = 6  # exit code: providers exhausted


@click.command()
@click.option("--check", "wanted", is_flag=True, help="Send one small call to each deployment. Costs a few tokens.")
@json_option
@common_options
@pass_common
def models(common: Common, wanted: bool, as_json: bool) -> int:
    """Show model routes and how they did lately.

    Their deployments, limits and prices, and what the records of the last hour say.
    """
    from superstep.providers.chat.probe import check
    from superstep.runtime.cli.models.status import described
    from superstep.runtime.cli.models.tables import print_models
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.cli.session import run_async
    from superstep.runtime.loading.project import read_project
    from superstep.runtime.settings.models import catalog, use_models

    settings = common.settings(imports=True)
    use_models(settings)  # refuses what a run would refuse
    found = catalog(settings)
    if wanted:
        read_project().make_importable()  # a deployment may name a class of the project

    async def main(_: Stop) -> dict[str, Any]:
        health, note = await _recorded(settings)
        results = await _checked(found, check) if wanted else None
        return {**described(found, health, results), "note": note}

    shown = run_async(main)
    if as_json:
        print_json(shown)
    else:
        print_models(shown, console())
    return 0 if not wanted or all(route["healthy"] for route in shown["routes"]) else NO_DEPLOYMENT


async def _recorded(settings: CommandSettings) -> tuple[Mapping[str, DeploymentHealth], str | None]:
    """What the database knows of deployments, by name; and why it is not known, if it should be.

    Routes are worth showing without a database: one without records is no mistake, and the embedded one is not created
    for this.
    """
    from superstep.checkpointer import embedded_status
    from superstep.runtime.cli.session import open_saver
    from superstep.runtime.faults import DatabaseUnavailable, SchemaMissing

    try:
        if settings.database.url is None and embedded_status().home is None:
            return {}, None
        async with open_saver(settings, prepare=False) as saver:
            rows = await saver.adeployment_health(seconds=LOOK_BACK)
    except SchemaMissing:
        return {}, None
    except DatabaseUnavailable as error:
        return {}, f"How they did lately is not known: {error}"
    return {row.deployment: row for row in rows}, None


async def _checked(found: Catalog, check: Callable[[Deployment], Awaitable[CheckResult]]) -> Mapping[str, CheckResult]:
    """Check all deployments at once. Results by name."""
    import asyncio

    from superstep.runtime.cli.models.status import routes_of

    deployments = [deployment for route in routes_of(found) for deployment in route.deployments]
    results = await asyncio.gather(*(check(deployment) for deployment in deployments))
    return {deployment.name: result for deployment, result in zip(deployments, results, strict=True)}
