"""Telemetry of commands that run flows, as the settings say."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["observed"]


@contextmanager
def observed(settings: CommandSettings, *, trace: bool) -> Iterator[None]:
    """Turn on what the settings want, and send the last of it out at the end.

    Args:
        settings: their section `telemetry` says what.
        trace: spans are wanted whatever they say.

    Raises:
        ConfigError: OpenTelemetry, or an exporter, is not installed.
    """
    wanted = settings.telemetry
    if wanted.log_level is not None or wanted.log_format == "json":
        from superstep.runtime.telemetry.logs import log_to

        log_to(sys.stderr, as_json=wanted.log_format == "json", level=wanted.log_level or "info")
    trace = trace or wanted.trace
    if not (trace or wanted.metrics):
        yield
        return
    from superstep.runtime.telemetry.switch import missing, telemetry

    telemetry(traces=trace, metrics=wanted.metrics, content=wanted.trace_content)
    try:
        from superstep.runtime.telemetry.sdk import configure_sdk
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise missing("opentelemetry-sdk") from None
    end = configure_sdk(traces=trace, metered=wanted.metrics)
    try:
        yield
    finally:
        telemetry(traces=False, metrics=False)
        end()
