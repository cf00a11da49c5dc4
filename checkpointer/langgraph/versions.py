"""Versions of channels: a count, and chance. Pure but for the chance."""

from __future__ import annotations

import random

__all__ = ["next_version"]

_CHANCE = random.SystemRandom()  # not the generator that programs seed


def next_version(current: str | None) -> str:
    """A version greater than `current`, and different from what a fork of the same checkpoint would get.

    That holds in a program that seeds `random` too: forks with one version share the value that is stored by it.
    """
    count = int(current[:8], 16) if current else 0
    return f"{count + 1:08x}{_CHANCE.getrandbits(32):08x}"
