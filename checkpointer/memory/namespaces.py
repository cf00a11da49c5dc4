"""Namespaces of items: what may be one, and which match. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from superstep.runtime.faults import MemoryInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Condition", "bounds", "checked_key", "checked_namespace", "matches", "namespace_conditions"]

_LONGEST = 2000  # bytes of a namespace with its key: what a row of an index holds is 2704
_RESERVED = "langgraph"

Condition = tuple[str, "Sequence[str]"]
"""How a namespace is to match, "prefix" or "suffix", and a path in which "*" is any one label."""


def checked_namespace(namespace: Sequence[Any], *, writes: bool = False) -> list[str]:
    """The labels of a namespace, or of the beginning of one.

    Raises:
        MemoryInvalid: a label is no text that can be one; or the namespace cannot be written to.
    """
    labels = [namespace] if isinstance(namespace, str) else list(namespace)
    for label in labels:
        if not isinstance(label, str):
            raise MemoryInvalid(f"A namespace consists of texts, and {labels!r} has a {type(label).__name__} in it.")
        if not label or "." in label or not _storable(label):
            raise MemoryInvalid(
                f"{label!r} cannot be a label of a namespace: it must not be empty, nor have a period, a NUL or half a "
                f"surrogate pair in it."
            )
    if writes and not labels:
        raise MemoryInvalid("An item needs a namespace of at least one label.")
    if writes and labels[0] == _RESERVED:
        raise MemoryInvalid(f"Namespaces below {_RESERVED!r} are LangGraph's own: choose another first label.")
    return labels


def checked_key(labels: Sequence[str], key: object) -> str:
    """The key of an item.

    Raises:
        MemoryInvalid: it cannot be stored, or is too long with its namespace.
    """
    text = str(key)
    if not _storable(text):
        raise MemoryInvalid(f"{text!r} cannot be the key of an item: it has a NUL or half a surrogate pair in it.")
    size = sum(len(each.encode()) for each in (*labels, text))
    if size > _LONGEST:
        raise MemoryInvalid(f"A namespace and a key of {size} bytes are too long: they may have {_LONGEST}.")
    return text


def _storable(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def bounds(labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """The namespaces that begin with these labels: from the first of these two, up to but not including the second.

    In the order of bytes, the next text after a label is the label with the smallest character behind it. At least one
    label is needed.
    """
    return list(labels), [*labels[:-1], labels[-1] + "\x01"]


def namespace_conditions(conditions: Sequence[Condition], first: int) -> tuple[list[str], list[Any]]:
    """SQL for these conditions, with arguments from number `first` on.

    Raises:
        MemoryInvalid: there is no such way to match.
    """
    sql: list[str] = []
    args: list[Any] = []
    for kind, path in conditions:
        _known(kind)
        labels = list(path)
        sql.append(f"cardinality(namespace) >= {len(labels)}")
        for n, label in enumerate(labels):
            if label != "*":
                place = f"{n + 1}" if kind == "prefix" else f"cardinality(namespace) - {len(labels) - n - 1}"
                sql.append(f"namespace[{place}] = ${first + len(args)}")
                args.append(label)
    return sql, args


def matches(conditions: Sequence[Condition], labels: Sequence[str]) -> bool:
    """The same of one namespace."""
    for kind, path in conditions:
        _known(kind)
        if len(path) > len(labels):
            return False
        part = labels[: len(path)] if kind == "prefix" else labels[len(labels) - len(path) :]
        if not all(wanted in ("*", label) for wanted, label in zip(path, part, strict=True)):
            return False
    return True


def _known(kind: str) -> None:
    if kind not in ("prefix", "suffix"):
        raise MemoryInvalid(f"A namespace is matched by its prefix or its suffix, not by {kind!r}.")
