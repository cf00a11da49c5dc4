"""Very many checkpoints in a moment: a thread that a graph has made, multiplied by the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.graph import END, START, StateGraph

from superstep import transactional
from tests.support.graphs import State, config_of

if TYPE_CHECKING:
    from superstep.checkpointer import TransactionalSaver

__all__ = ["fill"]

_PATTERN = "the pattern"
_STEPS = 18  # with the input and the step that distributes it: 20 checkpoints
_TEXT = 400  # bytes that each super-step writes: more than a checkpoint keeps inline

# Ids stay ordered by time: before what they have been stand the number of the copy, and of the checkpoint in it.
_PREPARE = f"""
CREATE TEMPORARY TABLE pattern AS
    SELECT checkpoint_id AS id, row_number() OVER (ORDER BY checkpoint_id) - 1 AS nth, count(*) OVER () AS many
    FROM runtime.checkpoint WHERE thread_id = '{_PATTERN}';
CREATE FUNCTION pg_temp.id_of(copy bigint, old text) RETURNS text STABLE LANGUAGE sql
    AS $$ SELECT lpad(to_hex(copy * many + nth), 8, '0') || substr(id, 9) FROM pattern WHERE id = old $$;
CREATE TEMPORARY TABLE made AS SELECT g AS copy, ''::text AS thread_id, p.id AS old, '' AS id
    FROM generate_series(0, -1) g, pattern p;
"""

# $1 the first copy's number $2 the last one's $3 their thread's name, to which the number is appended if $4
_MAKE = (
    "TRUNCATE made",
    "INSERT INTO made SELECT g, $3 || CASE WHEN $4 THEN lpad(g::text, 7, '0') ELSE '' END, p.id,"
    " lpad(to_hex(g * p.many + p.nth), 8, '0') || substr(p.id, 9)"
    " FROM generate_series($1::bigint, $2::bigint) g, pattern p",
)
_COPY = (
    "INSERT INTO runtime.checkpoint (thread_id, ns, checkpoint_id, parent_id, kind, payload, channels, versions,"
    " metadata, stats, created_at)"
    " SELECT m.thread_id, c.ns, m.id, pg_temp.id_of(m.copy, c.parent_id), c.kind, c.payload, c.channels,"
    " ARRAY(SELECT v || m.copy FROM unnest(c.versions) v), c.metadata || jsonb_build_object('tenant', m.copy % 10000),"
    " c.stats, c.created_at"
    f" FROM made m JOIN runtime.checkpoint c ON c.thread_id = '{_PATTERN}' AND c.checkpoint_id = m.old",
    "INSERT INTO runtime.channel_value"
    " SELECT m.thread_id, v.ns, v.channel, v.version || m.copy, v.kind, v.value"
    " FROM (SELECT DISTINCT thread_id, copy FROM made) m"
    f" JOIN runtime.channel_value v ON v.thread_id = '{_PATTERN}'",
    "INSERT INTO runtime.task_write"
    " SELECT m.thread_id, w.ns, m.id, w.task_id, w.idx, w.task_path, w.channel, w.kind, w.value"
    f" FROM made m JOIN runtime.task_write w ON w.thread_id = '{_PATTERN}' AND w.checkpoint_id = m.old",
    "INSERT INTO runtime.model_call (id, thread_id, ns, checkpoint_id, task_id, attempt, node, outcome, offline)"
    " SELECT gen_random_uuid(), thread_id, '', id, 'task', 1, 'node', 'answered', true FROM made",
    "INSERT INTO runtime.thread (thread_id, head, graph, status, created_at, updated_at)"
    " SELECT thread_id, max(id), 'graph ' || max(copy) % 10,"
    " CASE WHEN max(copy) % 100 = 0 THEN 'interrupted' ELSE 'completed' END,"
    " now() - interval '1 year', now() - make_interval(mins => max(copy)::int) FROM made GROUP BY thread_id",
)
_AT_ONCE = 2_000


async def fill(saver: TransactionalSaver, threads: int, steps_of_one: int = 0) -> int:
    """Make so many threads of 20 checkpoints, and one called "long" with at least so many.

    The threads are called "thread-0000001" and on; each has not changed for a minute longer than the one before, every
    hundredth waits for an answer, ten graphs have made them.

    Returns:
        How many checkpoints there are.
    """

    async def node(state: Any) -> Any:
        return {"n": state["n"] + 1, "bag": {"text": "x" * _TEXT, "n": state["n"]}}

    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    builder.add_conditional_edges("node", lambda state: "node" if state["n"] < _STEPS else END, ["node", END])
    flow = transactional(builder.compile(checkpointer=saver))
    await flow.ainvoke({"n": 0}, {**config_of(_PATTERN), "recursion_limit": 2 * _STEPS})
    many = _STEPS + 2
    parts = [(at, min(at + _AT_ONCE, threads + 1) - 1, "thread-", True) for at in range(1, threads + 1, _AT_ONCE)]
    last = threads + steps_of_one // many
    parts += [(at, min(at + _AT_ONCE, last + 1) - 1, "long", False) for at in range(threads + 1, last + 1, _AT_ONCE)]
    pool = saver.database.connections
    async with pool.borrow() as conn:
        await conn.execute("SET synchronous_commit = off;" + _PREPARE)
        for part in parts:
            await conn.execute(_MAKE[0])
            await conn.execute(_MAKE[1], *part)
            await conn.execute("ANALYZE made")
            for sql in _COPY:
                await conn.execute(sql + (" ON CONFLICT DO NOTHING" if "runtime.thread " in sql else ""))
        await conn.execute("DROP TABLE made, pattern; RESET synchronous_commit")
    await saver.adelete_thread(_PATTERN)
    return last * many
