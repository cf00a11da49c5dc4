"""Explore one scenario, perhaps with the protocol broken, and tell what was found."""

from __future__ import annotations

import sys

from tests.model.explore import explore
from tests.model.invariants import broken
from tests.model.protocol import Model
from tests.model.scenarios import ALL

if len(sys.argv) < 2 or sys.argv[1] not in ALL:
    sys.exit("python -m tests.model SCENARIO [SWITCH …]\n  " + "\n  ".join(ALL))
try:
    explored = explore(Model(ALL[sys.argv[1]], sys.argv[2:]), broken, most=1_000_000)
except AssertionError as e:
    sys.exit(str(e))
print(f"{explored.states} states, {explored.ends} ends: nothing is wrong")
