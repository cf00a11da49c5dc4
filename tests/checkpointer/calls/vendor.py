"""A route served by a vendor on this machine, and the calls that were recorded of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.providers.catalog.model import Catalog, Deployment, Price, Route
from superstep.providers.chat.registry import configure
from tests.support.graphs import steps_of

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from superstep.checkpointer import TransactionalSaver
    from tests.support.vendors import Vendor


KEY = "sk-very-secret-0123456789"


def use(vendor: Vendor, *, route: dict[str, Any] | None = None, **catalog: Any) -> None:
    """Serve route "r" with the vendor: a dollar for each token, to make sums easy."""
    deployment = Deployment(
        name="r/vendor",
        provider="openai-compatible",
        model="m-1",
        api_key_env="VENDOR_KEY",
        base_url=vendor.openai_url,
        retries=0,
        price=Price(1e6, 1e6),
    )
    configure(Catalog(routes={"r": Route(name="r", deployments=(deployment,), **(route or {}))}, **catalog))


async def calls(saver: TransactionalSaver, thread: RunnableConfig) -> list[dict[str, Any]]:
    return [call for step in await steps_of(saver, thread) for call in step.calls]
