"""Names of prompts and labels, and which threads a canary gets. Pure."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING

from superstep.prompts.model.variables import did_you_mean
from superstep.runtime.faults import PromptInvalid, PromptNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CANARY", "PRODUCTION", "check_label", "check_name", "not_found", "point_of"]

PRODUCTION = "production"
CANARY = "canary"

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*", re.ASCII)
_LABEL = re.compile(r"[a-z][a-z0-9_.-]*")


def check_name(name: str, where: str = "") -> str:
    """Return the name of a prompt.

    Raises:
        PromptInvalid: It is not one.
    """
    if not _NAME.fullmatch(name):
        raise PromptInvalid(
            f"{where}{name!r} is no name for a prompt. Use letters, digits, '_', '-' and '.', with '/' between parts."
        )
    return name


def check_label(label: str) -> str:
    """Return a label.

    Raises:
        PromptInvalid: It is not one: it could be taken for a version's number, or holds odd characters.
    """
    if not _LABEL.fullmatch(label):
        raise PromptInvalid(f"{label!r} is no label. Use lower-case letters, digits, '_', '-' and '.', a letter first.")
    return label


def point_of(thread_id: str, name: str) -> float:
    """Where a thread stands on the line from 0 to 1 (1 excluded) for a prompt.

    A canary of weight w gets the threads whose point is below w: always the same ones, more of them as w grows, and
    other ones for other prompts.
    """
    digest = blake2b(f"{name}\0{thread_id}".encode(errors="surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53  # as many bits as a double holds exactly


def not_found(
    name: str,
    *,
    version: int | None,
    label: str | None,
    versions: Sequence[int],
    labels: Sequence[str],
    names: Sequence[str],
) -> PromptNotFound:
    """The error for a version or label that is not there, which says what is there and what to run.

    Args:
        name: Of the prompt.
        version: That was asked for; `None` if a label was.
        label: That was asked for; not looked at if a version was.
        versions: Those the prompt has, ascending. Without any there is no such prompt.
        labels: Those the prompt has.
        names: Of all prompts, to suggest one.
    """
    if not versions:
        return PromptNotFound(
            f"There is no prompt {name!r}{did_you_mean(name, names)}. Bring the files of prompts/ into the database "
            f"with `runtime prompts add`, and see what is there with `runtime prompts list`."
        )
    if version is not None:
        return PromptNotFound(f"Prompt {name!r} has no version {version}. It has {_ranges(versions)}.")
    have = f"Its labels are {', '.join(labels)}" if labels else "It has no labels yet"
    return PromptNotFound(
        f"Prompt {name!r} has no label {label!r}. {have}. Point it at one of its versions ({_ranges(versions)}) with "
        f"`runtime prompts promote {name} VERSION --label {label}`."
    )


def _ranges(versions: Sequence[int]) -> str:
    """Versions have no gaps, so the first and the last say it all."""
    return str(versions[0]) if len(versions) == 1 else f"{versions[0]} to {versions[-1]}"
