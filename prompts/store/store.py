"""Versions and labels in the database.

Every change is one transaction, tried again when it met another one. Moving a label is compare-and-set: it succeeds
only if the label still points at what the caller saw, however long ago that was. Both hold at any isolation level,
because labels are locked and unique keys do the rest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from superstep.prompts.model.labels import CANARY, PRODUCTION, check_label, not_found
from superstep.prompts.store import queries
from superstep.prompts.store.rows import Added, Label, Move, PromptSummary, Target, Version
from superstep.prompts.store.transactions import Begin, Connection, in_transaction
from superstep.runtime.faults import PromptConflict, PromptInvalid, PromptNotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.prompts.files.drafts import Draft

__all__ = ["PromptStore", "SEEN_NOW"]


class _SeenNow:
    """The default of `expected`. A class of its own, because `None` (no such label yet) is something to expect."""


SEEN_NOW: Final = _SeenNow()


class PromptStore:
    """Prompts of one schema.

    Args:
        begin: makes a transaction that commits when its block ends: `saver.transaction`.
        schema: where the tables are.
    """

    def __init__(self, begin: Begin, schema: str = "runtime") -> None:
        self._begin = begin
        self._schema = schema

    # -- looking -------------------------------------------------------------------------------------------------

    async def prompts(self) -> list[PromptSummary]:
        """All prompts, by name."""

        async def look(conn: Connection) -> list[PromptSummary]:
            found = await queries.prompts(conn, self._schema)
            labels = await queries.labels(conn, self._schema)
            return [replace(each, labels=tuple(label for name, label in labels if name == each.name)) for each in found]

        return await in_transaction(self._begin, look)

    async def versions(self, name: str) -> list[Version]:
        """All versions of a prompt, the first one first.

        Raises:
            PromptNotFound: There is no such prompt.
        """

        async def look(conn: Connection) -> list[Version]:
            rows = await queries.versions(conn, self._schema, name)
            if not rows:
                raise await self._missing(conn, name)
            labels = await self._labels(conn, name)
            return [Version.of_row(row, labels) for row in rows]

        return await in_transaction(self._begin, look)

    async def version(self, name: str, *, version: int | None = None, label: str | None = None) -> Version:
        """One version: the given one, or the one a label points at, or the latest.

        Raises:
            PromptNotFound: There is none. The message says what there is.
        """

        async def look(conn: Connection) -> Version:
            labels = await self._labels(conn, name)
            pointed = {each.label: each.target.version for each in labels}
            if label is not None and label not in pointed:
                raise await self._missing(conn, name, label=label)
            rows = await queries.versions(conn, self._schema, name, version if label is None else pointed[label])
            if not rows:
                raise await self._missing(conn, name, version=version)
            return Version.of_row(rows[-1], labels)

        return await in_transaction(self._begin, look)

    async def target(self, name: str, label: str) -> Target | None:
        """What a label points at right now, if there is such a label: for `expected` of `promote` and `rollback`."""
        labels = await in_transaction(self._begin, lambda conn: self._labels(conn, name))
        return next((each.target for each in labels if each.label == label), None)

    # -- changing ------------------------------------------------------------------------------------------------

    async def add(self, drafts: Sequence[Draft], *, label: str | None = None) -> list[Added]:
        """Make versions of drafts, all of them or none.

        A draft whose content some version has already makes no new one; its description and golden cases replace that
        version's. Any number of processes may add at the same time.

        Args:
            drafts: what to add.
            label: a label to point at each draft's version, where it does not already.

        Raises:
            PromptInvalid: The label is not one.
            PromptConflict: Others kept changing the same prompts. Nothing was added.
        """
        if label is not None:
            check_label(label)

        async def change(conn: Connection) -> list[Added]:
            # In the order of names: two that add the same prompts then wait for, and not on, each other.
            return [await self._add(conn, each, label) for each in sorted(drafts, key=lambda each: each.name)]

        return await in_transaction(self._begin, change)

    async def promote(
        self,
        name: str,
        version: int,
        *,
        label: str = PRODUCTION,
        weight: float | None = None,
        expected: Target | _SeenNow | None = SEEN_NOW,
    ) -> Move:
        """Point a label at a version. Running flows see it from their next super-step on.

        Args:
            name: of the prompt.
            version: to point at.
            label: made if it does not exist.
            weight: for the label `canary`: share of threads, from 0 to 1, that get it when they ask for `production`.
                `None` leaves the share as it is.
            expected: what the label pointed at when the caller decided to move it (`None`: there was no such label).
                By default, what it points at when this is called.

        Returns:
            The move; it has `changed` nothing if the label was there already, perhaps moved by another caller.

        Raises:
            PromptNotFound: There is no such prompt or version.
            PromptInvalid: The label is not one, or is not the canary and has a weight, or the weight is not a share.
            PromptConflict: The label was moved meanwhile. Nothing was changed.
        """
        _check_weight(check_label(label), weight)
        seen = await self.target(name, label) if isinstance(expected, _SeenNow) else expected
        wanted = Target(version, weight)
        return await in_transaction(self._begin, lambda conn: self._promote(conn, name, label, wanted, seen))

    async def rollback(
        self, name: str, *, label: str = PRODUCTION, expected: Target | _SeenNow | None = SEEN_NOW
    ) -> Move:
        """Point a label at what it pointed at before. Repeated, it goes further back.

        Args:
            name: of the prompt.
            label: to move.
            expected: see `promote`.

        Raises:
            PromptNotFound: There is no such label, or it has pointed at nothing else before.
            PromptConflict: The label was moved meanwhile. Nothing was changed.
        """
        seen = await self.target(name, label) if isinstance(expected, _SeenNow) else expected
        return await in_transaction(self._begin, lambda conn: self._rollback(conn, name, label, seen))

    # -- inside a transaction ------------------------------------------------------------------------------------

    async def _add(self, conn: Connection, draft: Draft, label: str | None) -> Added:
        found = await queries.same_content(conn, self._schema, draft)
        if found is None:
            version, replaced = await queries.insert_version(conn, self._schema, draft), False
        else:
            version, replaced = found[0], not found[1]
            if replaced:
                await queries.replace_notes(conn, self._schema, version, draft)
        move = None
        if label is not None:
            before = await queries.lock_label(conn, self._schema, draft.name, label)
            after = Target(version, before.weight if before is not None else None)
            move = await self._move(conn, Move(draft.name, label, before, after))
        return Added(draft.name, version, found is None, replaced, move)

    async def _promote(self, conn: Connection, name: str, label: str, wanted: Target, seen: Target | None) -> Move:
        if not await queries.versions(conn, self._schema, name, wanted.version):
            raise await self._missing(conn, name, version=wanted.version)
        before = await queries.lock_label(conn, self._schema, name, label)
        after = replace(wanted, weight=before.weight) if before is not None and wanted.weight is None else wanted
        if before not in (seen, after):
            raise _moved(name, label, before)
        return await self._move(conn, Move(name, label, before, after))

    async def _rollback(self, conn: Connection, name: str, label: str, seen: Target | None) -> Move:
        before = await queries.lock_label(conn, self._schema, name, label)
        if before is None:
            raise await self._missing(conn, name, label=label)
        if before != seen:
            raise _moved(name, label, before)
        last = await queries.last_move(conn, self._schema, name, label)
        if last is None:
            raise PromptNotFound(
                f"Label {label!r} of {name!r} points at version {before.version} and has pointed at nothing before "
                f"that it could go back to. Choose a version with `runtime prompts promote {name} VERSION`."
            )
        number, after = last
        return await self._move(conn, Move(name, label, before, after), undoes=number)

    async def _move(self, conn: Connection, move: Move, undoes: int | None = None) -> Move:
        """Write a label whose row is locked, unless it is there already."""
        if move.changed or undoes is not None:
            await queries.write_label(conn, self._schema, move)
            await queries.log_move(conn, self._schema, move, undoes)
        return move

    async def _labels(self, conn: Connection, name: str) -> tuple[Label, ...]:
        return tuple(label for _, label in await queries.labels(conn, self._schema, name))

    async def _missing(
        self, conn: Connection, name: str, *, version: int | None = None, label: str | None = None
    ) -> PromptNotFound:
        return not_found(name, version=version, label=label, **await queries.known(conn, self._schema, name))


def _moved(name: str, label: str, now: Target | None) -> PromptConflict:
    points = "does not exist any more" if now is None else f"points at version {now.version} now"
    return PromptConflict(
        f"A rival transaction moved label {label!r} of {name!r} meanwhile: it {points}. Nothing was changed. Look "
        f"at it with `runtime prompts list {name}`, and repeat the command if you still want to."
    )


def _check_weight(label: str, weight: float | None) -> None:
    if weight is None:
        return
    if label != CANARY:
        raise PromptInvalid(
            f"Only the label {CANARY!r} takes a share of threads; {label!r} is for every thread that asks for it."
        )
    if not 0 <= weight <= 1:
        raise PromptInvalid("A canary's share must be from 0 to 1, or from 0% to 100%.")
