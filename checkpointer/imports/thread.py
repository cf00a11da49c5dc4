"""Taking one thread over.

All of a thread is stored in one transaction, page by page, so it is there as a whole or not at all: an import that is
killed leaves no thread that ends in the middle, and the next one begins with the thread that this one was at. Which
interleavings could break it, and what stops them:

*Two imports at once.* The first statement makes the thread's row. Another transaction that makes the same one waits for
the first to end, and finds the thread there.

*A run begins the thread here meanwhile.* Its claim waits for that row too, and then runs on what was imported.

*The thread is there.* Its row is locked before it is looked at, so nothing commits to it until the import has (see
`threads.maintenance`). If the thread was touched here since it was imported, nothing of it is changed. It was not if it
has no checkpoint that is not there too, and its time is that of its head, as an import leaves it: a claim sets the
time to now. Then what has come there since is added, and the new token fences a run that has been idle since before.

*The program goes on there.* What is read is of one moment (`postgres`). What comes later is for the next import, or
lost to this database if the thread is run here first: then it is "changed", and both are left as they are.

*The connection is lost.* All of it is repeated. If the first COMMIT had landed, the thread is "there".
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from superstep.checkpointer.database import failpoints
from superstep.checkpointer.database.arrays import text_array
from superstep.checkpointer.imports import queries
from superstep.checkpointer.imports.rows import Checkpoint, Counts, Outcome, version_text
from superstep.checkpointer.imports.status import Task, status_of
from superstep.checkpointer.langgraph.codec import checkpoint_row, dump, write_at
from superstep.checkpointer.langgraph.differences import piece_at
from superstep.checkpointer.langgraph.encryption import Where, sealed_text
from superstep.checkpointer.langgraph.keys import JOIN, SENDS, by_namespace
from superstep.runtime.faults import DatabaseUnavailable, RuntimeFault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import asyncpg
    from langgraph.checkpoint.base import ChannelVersions

    from superstep.checkpointer.database.database import Database
    from superstep.checkpointer.database.errors import Connection
    from superstep.checkpointer.imports.postgres import ThreadThere
    from superstep.checkpointer.imports.rows import Value, Write
    from superstep.checkpointer.imports.values import Translator

__all__ = ["ThreadImport"]

_FORMAT_OF_SENDS = 4  # of checkpoints (`v`): since then what was sent is a channel; before, LangGraph makes it one


class ThreadImport:
    """The import of one thread. Use it once.

    Args:
        database: where to.
        translator: for its values.
        there: the thread in the other tables.
        graph: the name of its graph here, if that is known.
        key: of keyed digests, with encryption.
    """

    def __init__(
        self, database: Database, translator: Translator, there: ThreadThere, graph: str | None, key: bytes | None
    ) -> None:
        self._database = database
        self._translator = translator
        self._serde = translator.target
        self._there = there
        self._graph = graph
        self._key = key
        self._thread = there.thread_id
        self._conn: Connection | None = None  # none: nothing is stored
        self._known: set[tuple[str, str]] = set()
        self._named: set[tuple[str, str, str]] = set()  # versions of values that checkpoints name
        self._checkpoints = self._writes = self._strays = 0
        self._head: Checkpoint | None = None
        self._tasks: dict[str, Task] = {}  # of the super-step after it
        self._joins: dict[str, Value] = {}  # of it

    async def run(self) -> Outcome:
        """Store the thread, or what has come to it since, in one transaction; or say why not.

        Raises:
            DatabaseUnavailable: a database does not answer. Nothing of this thread was stored.
        """

        async def work(conn: Connection) -> Outcome:
            self._forget()
            # What is read there takes its time: a backend that waits for us meanwhile is no lost connection.
            self._database.connections.watch.begin(conn, pauses=True)
            async with conn.transaction(isolation="read_committed"):
                return await self._in_transaction(conn)

        return await self._or_refused(lambda: self._database.autocommit(work))

    async def rehearse(self) -> Outcome:
        """What `run` would do. Nothing is stored.

        Raises:
            DatabaseUnavailable: a database does not answer.
        """
        schema = self._database.schema

        async def work(conn: Connection) -> Outcome:
            self._forget()
            self._database.connections.watch.begin(conn, pauses=True)
            row = await queries.look(conn, schema, self._thread)
            here = await queries.ids(conn, schema, self._thread)
            if (found := await self._found(conn, row, here)) is not None:
                return found
            await self._take()
            counts = Counts(self._checkpoints, self._writes)
            return Outcome(self._thread, "continued" if here else "imported", counts, counts, self._strays)

        return await self._or_refused(lambda: self._database.autocommit(work))

    async def _or_refused(self, work: Callable[[], Awaitable[Outcome]]) -> Outcome:
        try:
            return await work()
        except DatabaseUnavailable:
            raise
        except (RuntimeFault, _Differs) as error:
            return Outcome(self._thread, "refused", why=str(error))

    async def _in_transaction(self, conn: Connection) -> Outcome:
        schema = self._database.schema
        is_new = await queries.begin(conn, schema, self._thread)
        row = None if is_new else await queries.lock(conn, schema, self._thread)
        here = set() if is_new else await queries.ids(conn, schema, self._thread)
        self._conn = conn
        if (found := await self._found(conn, row, here)) is not None:
            if found.kind == "there":
                await self._take_writes(special=True)
            return found
        await failpoints.hit("import.begun")
        await self._take()
        await self._finish(conn)
        await failpoints.hit("import.before_commit")
        read, stored = Counts(self._checkpoints, self._writes), await queries.counts(conn, schema, self._thread)
        missing = await queries.missing_values(conn, schema, self._thread)
        if missing or stored != read:
            raise _Differs(
                f"{read.checkpoints} checkpoints and {read.writes} writes were read, {stored.checkpoints} and "
                f"{stored.writes} would be stored; values of these channels are missing: {missing}."
            )
        return Outcome(self._thread, "continued" if here else "imported", read, stored, self._strays)

    def _forget(self) -> None:
        """What a try that failed has read."""
        self._conn, self._head = None, None
        self._known, self._named, self._tasks, self._joins = set(), set(), {}, {}
        self._checkpoints = self._writes = self._strays = 0

    async def _found(self, conn: Connection, row: asyncpg.Record | None, here: set[tuple[str, str]]) -> Outcome | None:
        """What is said of a thread that is here and stays as it is, or nearly so; `None` if there is more to store."""
        if row is None or not here:
            return None
        there = await self._there.ids()
        if here - there:
            return Outcome(self._thread, "changed", why="it has checkpoints here that it does not have there")
        if row["updated_at"] != row["made_at"]:
            return Outcome(self._thread, "changed", why="it has been run or changed here since")
        counts = await queries.counts(conn, self._database.schema, self._thread)
        if here != there or counts.writes != await self._there.how_many_writes():
            return None
        self._known = here
        return Outcome(self._thread, "there")

    # -- reading and storing ---------------------------------------------------------------------------------------

    async def _take(self) -> None:
        schema, conn = self._database.schema, self._conn
        async for checkpoints in self._there.checkpoints():
            rows, values = [], []
            for each in checkpoints:
                row, more = await self._checkpoint(each)
                rows.append(row)
                values.extend(more)
            self._checkpoints += len(rows)
            if conn is not None:
                await queries.put_checkpoints(conn, schema, rows)
                await queries.put_values(conn, schema, values)
        if not self._checkpoints:
            raise _Differs("there is no such thread there.")
        async for found in self._there.values():
            self._joins.update((each.channel, each) for each in found if self._is_join_of_head(each))
            values = [
                (self._thread, ns, channel, version_text(version), *self._value(ns, channel, version, kind, data))
                for ns, channel, version, kind, data in found
                if (ns, channel, version_text(version)) in self._named
            ]
            if conn is not None:
                await queries.put_values(conn, schema, values)
        await self._take_writes(special=False)

    async def _take_writes(self, *, special: bool) -> None:
        """All of them, or only those of special channels: LangGraph replaces those, and no others."""
        async for writes in self._there.writes(special=special):
            kept = [each for each in writes if (each.ns, each.checkpoint_id) in self._known]
            self._strays += len(writes) - len(kept)
            self._writes += len(kept)
            rows = [self._write(each) for each in kept]
            if self._conn is not None:
                await queries.put_writes(self._conn, self._database.schema, rows)

    async def _checkpoint(self, each: Checkpoint) -> tuple[tuple[Any, ...], list[tuple[Any, ...]]]:
        """The row of a checkpoint, and those of values that were inside of it there and are beside it here."""
        where = Where(self._thread, each.ns, each.checkpoint_id)
        body = dict(each.body)
        versions = {name: version_text(version) for name, version in (body.get("channel_versions") or {}).items()}
        body["channel_versions"] = versions
        body["versions_seen"] = {
            node: {name: version_text(version) for name, version in seen.items()}
            for node, seen in (body.get("versions_seen") or {}).items()
        }
        inline = {name: v for name, v in (body.get("channel_values") or {}).items() if name not in each.stored}
        body["channel_values"] = inline
        stored = {name: versions[name] for name in each.stored}
        more = []
        if body.get("v", _FORMAT_OF_SENDS) < _FORMAT_OF_SENDS and each.parent_id is not None:
            more = await self._sent(each, versions, stored)
        metadata = dict(each.metadata)
        if parents := metadata.get("parents"):
            metadata["parents"] = by_namespace(parents)
        new: ChannelVersions = {name: version for name, version in versions.items() if name not in stored}
        row, _ = checkpoint_row(self._serde, cast("Any", body), metadata, new, where, self._key, stored)
        self._known.add((each.ns, each.checkpoint_id))
        self._named.update((each.ns, name, version) for name, version in stored.items())
        if each.ns == "" and (self._head is None or each.checkpoint_id > self._head.checkpoint_id):
            self._head = each._replace(body=body, stored=[*stored])
        columns = row.kind, row.payload, text_array(row.channels), text_array(row.versions), row.metadata
        place = self._thread, each.ns
        beside = zip(row.new_channels, row.new_versions, row.new_kinds, row.new_values, strict=True)
        more.extend((*place, *value) for value in beside)
        return (*place, each.checkpoint_id, each.parent_id, *columns, _time(body)), more

    async def _sent(self, each: Checkpoint, versions: dict[str, str], stored: dict[str, str]) -> list[tuple[Any, ...]]:
        """What was sent to an old checkpoint, as the channel that it is today: as LangGraph does when it loads one."""
        found = await self._there.sends(each.parent_id or "")
        if not found:
            return []
        version = versions[SENDS] = stored[SENDS] = max(versions.values(), default=version_text(1))
        what = f"channel {SENDS!r}"
        sends = [self._translator.plain(kind, data, what) for kind, data in found]
        place = piece_at(self._serde, Where(self._thread, each.ns), SENDS, version, None)
        return [(self._thread, each.ns, SENDS, version, *dump(place, sends, what))]

    def _value(self, ns: str, channel: str, version: str, kind: str, data: bytes) -> tuple[str, bytes]:
        place = piece_at(self._serde, Where(self._thread, ns), channel, version_text(version), None)
        return self._translator.stored(place, kind, data, f"channel {channel!r}")

    def _write(self, each: Write) -> tuple[Any, ...]:
        where = Where(self._thread, each.ns, each.checkpoint_id)
        place = write_at(self._serde, where, each.task_id, each.idx, each.task_path, each.channel)
        what = f"the write of task {each.task_path or each.task_id} to channel {each.channel!r}"
        if self._head is not None and (each.ns, each.checkpoint_id) == ("", self._head.checkpoint_id):
            task = self._tasks.setdefault(each.task_id, Task())
            task.note(each.idx, each.channel, (each.kind, each.data))
        kind, data = self._translator.stored(place, each.kind, each.data, what)
        return (self._thread, *each[:6], kind, data)

    def _is_join_of_head(self, each: Value) -> bool:
        head = self._head
        if head is None or each.ns or not each.channel.startswith(JOIN):
            return False
        return bool(head.body["channel_versions"].get(each.channel) == version_text(each.version))

    async def _finish(self, conn: Connection) -> None:
        """Say where the thread is, and how its last run ended."""
        head, status, said = self._head, "unfinished", None
        if head is not None:
            joins = {n: self._translator.plain(v.kind, v.data, f"channel {n!r}") for n, v in self._joins.items()}
            status, failed = status_of(head.body, head.stored, joins, self._tasks.values())
            if failed is not None:
                error = str(self._translator.plain(*failed, "the error of a task"))
                said = sealed_text(self._serde, error.replace("\0", ""), "error", self._thread)
        ending = head.checkpoint_id if head is not None else None, self._graph, status, said
        await queries.finish(conn, self._database.schema, self._thread, *ending)


class _Differs(Exception):
    """What is stored is not what was read."""


def _time(body: Mapping[str, Any]) -> datetime | None:
    """When a checkpoint was made, if it says so."""
    try:
        found = datetime.fromisoformat(str(body.get("ts")))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.astimezone()
