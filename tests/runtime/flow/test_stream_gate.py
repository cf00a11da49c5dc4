"""Properties of the stream gate."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from superstep.runtime.flow.stream_gate import Gate, Shape


@given(st.lists(st.sampled_from(["updates", "values", "messages", "commit"]), max_size=30))
def test_the_gate_shows_nothing_early_and_everything_once(events: list[str]) -> None:
    shape = Shape.of(["updates", "values", "messages"], subgraphs=False, version="v1")
    gate = Gate(shape)
    shown: list[Any] = []
    committed: list[Any] = []
    waiting: list[Any] = []
    for number, event in enumerate(events):
        if event == "commit":
            raw: Any = ("checkpoints", {"config": {"configurable": {"checkpoint_id": str(number)}}})
            committed += waiting
            waiting = []
        else:
            raw = (event, {"n": number})
            if event == "messages":
                committed.append(raw)
            else:
                waiting.append(raw)
        shown += list(gate.push(shape.read(raw)))
        assert sorted(shown, key=lambda c: c[1]["n"]) == sorted(committed, key=lambda c: c[1]["n"])
    assert list(gate.finish()) == waiting
