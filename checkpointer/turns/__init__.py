"""Turns: super-steps that keep moving each other's facts take them one after the other, across processes."""

from superstep.checkpointer.turns.turns import Holder, SuperStepKey, Turn, Turns

__all__ = ["Holder", "SuperStepKey", "Turn", "Turns"]
