"""The time that all of routing goes by."""

from __future__ import annotations

import asyncio

__all__ = ["now"]


def now() -> float:
    """Seconds of the running event loop's clock: monotonic, and virtual where the loop's is."""
    return asyncio.get_running_loop().time()
