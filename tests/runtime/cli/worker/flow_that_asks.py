"""A graph that asks."""

from __future__ import annotations

from tests.runtime.cli.worker.flow_with_child import ask
from tests.support.graphs import chain

flow = chain(None, ask)
