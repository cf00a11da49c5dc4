"""What is kept of a super-step beside its checkpoint: who ran, how often, on how many reads. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, TypeAlias

from superstep.checkpointer.commit.step_looks import seen
from superstep.checkpointer.langgraph.codec import for_jsonb

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.checkpointer.step.costs import Costs
    from superstep.checkpointer.step.read_set import Effect

__all__ = ["CommitKind", "step_record"]

CommitKind: TypeAlias = Literal["direct", "replay"]

_ENCODER = json.JSONEncoder(ensure_ascii=False)


def step_record(
    nodes: Sequence[str],
    costs: Costs,
    effects: Sequence[Effect],
    *,
    commit: CommitKind,
    ms: float,
    key: bytes | None = None,
    resolved: int = 0,
) -> str:
    """The record as JSON for a jsonb column. `summaries.StepRecord` and `coherence.record` say what the fields mean.

    Args:
        nodes: names of the nodes that ran.
        costs: of all attempts.
        effects: what the commit rests on.
        commit: "direct" or "replay".
        ms: milliseconds of all attempts.
        key: of keyed digests; `None` without encryption.
        resolved: conflicts that reducers have resolved.
    """
    guards = [{"node": effect.node, "on": names, "held": held} for effect in effects for names, held in effect.guards]
    prompts = sorted({what for effect in effects for what in effect.uses})
    text = _ENCODER.encode(
        {
            "nodes": nodes,
            "attempts": costs.attempts,
            "repairs": costs.repairs,
            "drifts": costs.drifts,
            "escalated": costs.escalated,
            "commit": commit,
            "reads": sum(len(effect.reads) for effect in effects),
            "writes": sum(len(effect.staged) for effect in effects),
            "llm_reused": costs.llm_reused,
            "ms": round(ms, 3),
            **({"waited_ms": round(costs.waited_ms, 3)} if costs.escalated else {}),
            **({"prompts": prompts} if prompts else {}),
            **({"guards": guards} if guards else {}),
            **seen(effects, costs, key),
            **({"withheld": withheld} if (withheld := sum(effect.withheld for effect in effects)) else {}),
            **({"resolved": resolved} if resolved else {}),
        }
    )
    return for_jsonb(text)
