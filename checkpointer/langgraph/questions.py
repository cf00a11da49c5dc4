"""Names of questions to a human, so that an answer belongs to one of them. Pure.

LangGraph names a question by the task that asks it. Asked again, on other facts, it has the same name, and an answer to
the first one would count for the second. So a question that was withdrawn `n` times comes under another name: its own
with a mask of `n` over it, 128 bits like every name of LangGraph's. Taking the mask off again gives LangGraph the name
that it knows; with all masks there are to try, exactly one of the results is a name at all.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from langgraph.types import Command, Interrupt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["answers_unnamed", "asked_in", "masked", "names_questions", "unmasked"]

_HEX = frozenset("0123456789abcdef")


def names_questions(resume: object) -> bool:
    """Whether the value of `Command(resume=...)` is a map from names of questions to their answers."""
    return isinstance(resume, dict) and all(isinstance(key, str) and _is_name(key) for key in resume)


def answers_unnamed(given: object) -> bool:
    """Whether an input is an answer that does not say to which question."""
    return isinstance(given, Command) and given.resume is not None and not names_questions(given.resume)


def masked(name: str, withdrawn: int) -> str:
    """The name of a question that was withdrawn so many times. Its own inverse."""
    if not withdrawn or not _is_name(name):
        return name
    mask = blake2b(b"superstep question %d" % withdrawn, digest_size=16).digest()
    return f"{int(name, 16) ^ int.from_bytes(mask):032x}"


def unmasked(name: str, most: int) -> list[str]:
    """What LangGraph may call the question of this name, if none was withdrawn more than so many times."""
    return [masked(name, withdrawn) for withdrawn in range(most + 1)]


def asked_in(writes: Iterable[tuple[str, Any]], channel: str) -> list[Interrupt[Any]]:
    """The questions among a task's writes."""
    found: list[Interrupt[Any]] = []
    for written, value in writes:
        if written == channel:
            several: Sequence[Any] = value if isinstance(value, list | tuple) else (value,)
            found.extend(each for each in several if isinstance(each, Interrupt))
    return found


def _is_name(text: str) -> bool:
    return len(text) == 32 and _HEX.issuperset(text)
