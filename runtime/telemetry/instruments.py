"""What is measured, as OpenTelemetry's instruments."""

from __future__ import annotations

import threading
import time
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from opentelemetry.context import Context

from superstep.runtime.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.metrics import Histogram, Meter

__all__ = ["Batch", "Instruments"]

# As the conventions for generative AI want them.
_CALL_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_STEP_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


_MANY: Final = 32
_LONG: Final = 1.0
_NOWHERE: Final = Context()  # in which no span is the current one


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


class Batch:
    """Durations of one run's super-steps and commits, noted some at a time: one by one each costs three times as much.

    The slowest of them is an exemplar, with the run's span. Those that were added last wait for the next, if that comes
    within a second or so, or for the end of the run.

    Args:
        instruments: where they are noted.
        labels: of all of them.
        context: in which the run's span is the current one, for exemplars.
    """

    def __init__(self, instruments: Instruments, labels: Mapping[str, str], context: Context) -> None:
        self._instruments = instruments
        self._labels = labels
        self._context = context
        self._waiting: list[tuple[str, float]] = []
        self._noted = 0.0
        self._lock = threading.Lock()  # super-steps of parallel subgraphs may run in threads

    def add(self, what: str, seconds: float) -> None:
        """One more, of the instrument of that name."""
        with self._lock:
            self._waiting.append((what, seconds))
        if len(self._waiting) >= _MANY or time.monotonic() - self._noted >= _LONG:
            self.note()

    def note(self) -> None:
        """Note all that wait."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        self._noted = time.monotonic()
        slowest = max(waiting, key=itemgetter(1), default=None)
        for each in waiting:
            what, seconds = each
            around = self._context if each is slowest else _NOWHERE
            getattr(self._instruments, what).record(seconds, self._labels, around)

    def run(self, seconds: float, status: str) -> None:
        """The run itself is over."""
        self._instruments.runs.record(seconds, {**self._labels, names.STATUS: status}, self._context)
