"""What other tests of a process have declared, kept away from those that look at what is sent."""

from __future__ import annotations

import pytest

from superstep.checkpointer.threads import provenance

__all__ = ["no_guards"]


@pytest.fixture
def no_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process that has declared a guard, what results rest on is stored with the checkpoint, and nothing else."""
    monkeypatch.setattr(provenance, "_guarded", set())
