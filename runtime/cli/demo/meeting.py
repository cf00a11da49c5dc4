"""Flows meet: each has read before any of them goes on."""

from __future__ import annotations

import asyncio

__all__ = ["Meeting"]

PATIENCE = 5.0  # seconds; whoever is missing then is not waited for any longer


class Meeting:
    """Where flows wait for each other, once.

    It makes sure that the flows of a race do race, on a machine of any speed: without it a slow one could have them one
    after the other, and nothing to show. It holds nobody back once all have been there, so a node that runs again
    passes.

    Args:
        parties: How many flows take part.
    """

    def __init__(self, parties: int) -> None:
        self._missing = parties
        self._seen: set[str] = set()
        self._all_here = asyncio.Event()

    async def wait(self, flow: str) -> None:
        """Wait until every flow has been here, or for `PATIENCE`."""
        if flow not in self._seen:
            self._seen.add(flow)
            self._missing -= 1
        if self._missing <= 0:
            self._all_here.set()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._all_here.wait()
        except TimeoutError:
            self._all_here.set()
