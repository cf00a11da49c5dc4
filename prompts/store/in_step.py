"""What a running super-step reads of prompts: statement and arguments, for a reader that keeps them as facts.

The rows that `by_label` and `by_version` find are made prompts by `load_prompt`; if there are none, the row of `known`
says what there is, for `not_found`.
"""

from __future__ import annotations

from superstep.prompts.model.labels import point_of
from superstep.prompts.store.queries import sql

__all__ = ["by_label", "by_version", "known"]


def by_label(schema: str, name: str, label: str, thread_id: str) -> tuple[str, str, str, float]:
    """Finds the version that a label points at for one thread, which may be the canary's."""
    return sql(schema)["in_step_by_label"], name, label, point_of(thread_id, name)


def by_version(schema: str, name: str, version: int) -> tuple[str, str, int]:
    """Finds a version by its number."""
    return sql(schema)["in_step_by_version"], name, version


def known(schema: str, name: str) -> tuple[str, str]:
    """Finds the versions and labels of a prompt, and the names of all."""
    return sql(schema)["known"], name
