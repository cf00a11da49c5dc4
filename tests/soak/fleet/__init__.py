"""Queued runs whose workers are killed all the time: `python -m tests.soak.fleet`."""
