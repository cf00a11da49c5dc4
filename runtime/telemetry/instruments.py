"""What is measured, as OpenTelemetry's instruments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from superstep.runtime.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.metrics import Histogram, Meter

__all__ = ["Instruments"]

# As the conventions for generative AI want them.
_CALL_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_STEP_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class Instruments:
    """One of each. Attributes of measures have few values: graph, outcome, provider, model; never a thread.

    Attributes:
        runs: seconds of runs, by graph and status.
        steps: seconds of committed super-steps, all attempts, by graph.
        commits: seconds of commits that had reads or staged writes, by graph and outcome.
        repairs: commits that were repeated although no fact had changed, by graph.
        drifts: tasks that ran again because their facts had changed, by graph.
        conflicts: super-steps that were tried again, by graph.
        calls: seconds of calls of models.
        first_chunks: seconds until a stream's first chunk.
        tokens: tokens of calls, by type.
    """

    def __init__(self, meter: Meter) -> None:
        def seconds(name: str, what: str, bounds: tuple[float, ...] = _STEP_SECONDS) -> Histogram:
            return meter.create_histogram(name, "s", what, explicit_bucket_boundaries_advisory=bounds)

        self.runs = seconds(names.RUN_DURATION, "Duration of runs.")
        self.steps = seconds(names.STEP_DURATION, "Duration of committed super-steps, over all attempts.")
        self.commits = seconds(names.COMMIT_DURATION, "Duration of commits with reads or staged writes.")
        self.repairs = meter.create_counter(names.STEP_REPAIRS, "{repair}", "Commits repeated with the same facts.")
        self.drifts = meter.create_counter(names.STEP_DRIFTS, "{task}", "Tasks whose facts had changed.")
        self.conflicts = meter.create_counter(names.CONFLICTS, "{conflict}", "Super-steps that were tried again.")
        self.calls = seconds(names.CALL_DURATION, "Duration of calls of models.", _CALL_SECONDS)
        self.first_chunks = seconds(names.FIRST_CHUNK, "Time to the first chunk of a stream.", _CALL_SECONDS)
        self.tokens = meter.create_histogram(
            names.TOKEN_USAGE, "{token}", "Tokens of calls.", explicit_bucket_boundaries_advisory=_TOKENS
        )

    def count_tokens(self, read: int, written: int, labels: Mapping[str, str]) -> None:
        """Note the tokens of a call, as far as they were counted."""
        for kind, count in (("input", read), ("output", written)):
            if count:
                self.tokens.record(count, {**labels, names.TOKEN_TYPE: kind})
