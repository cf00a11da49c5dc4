"""Made `database.sql`, the rows that 0.1.0 leaves behind. Kept to show what is in there; it is not run again.

It ran on the code of 0.1.0 (the last commit before all imports became `superstep.…`) with that commit's environment, in
the root of its checkout:

    PYTHONPATH=. .venv/bin/python …/tests/written_by_0_1_0/generate.py

Threads of `graphs.underwriting`, as `runtime run` makes them: `completed`; `interrupted`, which asks a human;
`killed_thinking`, killed between a model's answer and the node that asked; `killed_saved`, killed when results of
parallel tasks were saved and their super-step not committed. Threads of `claims_flow`, as a program makes them:
`conversation`, which completed twice; `failed`, where one of two parallel tasks failed and the other's result is saved.

Of the example data, three accounts and a few passages are kept, which is all these threads need.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import asyncpg
import claims_flow

from checkpointer import TransactionalSaver  # noqa: TID251 - the names of 0.1.0
from checkpointer.embedded import EmbeddedServer  # noqa: TID251
from graphs import underwriting  # noqa: TID251
from runtime import current_step, transactional  # noqa: TID251

HERE = Path(__file__).parent
# In an order that satisfies foreign keys.
TABLES = (
    "runtime.thread",
    "runtime.checkpoint",
    "runtime.channel_value",
    "runtime.task_write",
    "runtime.task_effect",
    "runtime.llm_call",
    "runtime.step_attempt",
    "runtime.model_call",
    "runtime.prompt_version",
    "runtime.prompt_label",
    "runtime.prompt_move",
    "underwriting.applicant",
    "underwriting.account",
    "underwriting.credit_line",
    "underwriting.decision",
    "underwriting.exposure",
    "underwriting.policy",
    "public.ledger",
)
IDENTITIES = (("runtime.thread", "token"), ("runtime.prompt_move", "id"), ("underwriting.exposure", "id"))
PRUNE = """
CREATE TEMPORARY TABLE kept AS SELECT id FROM underwriting.account ORDER BY id LIMIT 3;
DELETE FROM underwriting.exposure WHERE account_id NOT IN (SELECT id FROM kept);
DELETE FROM underwriting.credit_line WHERE account_id NOT IN (SELECT id FROM kept);
DELETE FROM underwriting.account WHERE id NOT IN (SELECT id FROM kept);
DELETE FROM underwriting.applicant p WHERE NOT EXISTS (SELECT FROM underwriting.account WHERE applicant_id = p.id);
DELETE FROM underwriting.policy WHERE id NOT LIKE 'business_line.%.1';
"""


def run_underwriting(url: str, thread: str, amount: int, *, failpoint: str = "", code: int) -> None:
    """`runtime run graphs.underwriting`; `code` is how it must end."""
    application = {"account_id": "A-0001", "product": "business_line", "amount": amount, "application_id": thread}
    command = [sys.executable, "-m", "runtime", "run", "graphs.underwriting", "--thread", thread, "--json"]
    keys = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "BUREAU_URL", "DATABASE_URL")
    env = {name: value for name, value in os.environ.items() if name not in keys}
    done = subprocess.run(
        [*command, "--input", json.dumps(application), "--db", url],
        env={**env, "SUPERSTEP_FAILPOINT": failpoint} if failpoint else env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, (done.returncode, done.stderr)


async def run_claims(saver: TransactionalSaver) -> None:
    """The threads of `claims_flow`."""

    def flow(**how: Any) -> Any:
        return transactional(claims_flow.build(current_step, **how).compile(checkpointer=saver))

    for claim in (claims_flow.Claim("C-1", 50), claims_flow.Claim("C-2", 150)):
        await flow().ainvoke({"claim": claim}, {"configurable": {"thread_id": "conversation"}})

    async def fail() -> None:
        saved = "SELECT EXISTS (SELECT FROM runtime.task_effect WHERE thread_id = 'failed')"
        while True:
            await asyncio.sleep(0.01)
            async with saver.transaction() as tx:
                if await tx.fetchval(saved):
                    raise ValueError("no second opinion today")

    try:
        await flow(second_does=fail).ainvoke(
            {"claim": claims_flow.Claim("C-3", 200)}, {"configurable": {"thread_id": "failed"}}
        )
    except ValueError:
        return
    raise AssertionError("the thread `failed` did not fail")


async def dump(connection: asyncpg.Connection) -> str:
    """All rows as INSERT statements, after the tables that no migration makes."""
    await connection.execute("SET TimeZone = 'UTC'")
    schema = Path(underwriting.__file__).with_name("schema.sql").read_text(encoding="utf-8")
    parts = ["-- Written by generate.py.\n", schema, f"{claims_flow.TABLE};\n"]
    for table in TABLES:
        columns = [
            row["attname"]
            for row in await connection.fetch(
                "SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 "
                "AND NOT attisdropped ORDER BY attnum",
                table,
            )
        ]
        values = " || ', ' || ".join(f"quote_nullable({column}::text)" for column in columns)
        rows = await connection.fetch(f'SELECT {values} AS row FROM {table} ORDER BY ({values}) COLLATE "C"')
        if rows:
            lines = ",\n".join(f"({row['row']})" for row in rows)
            parts.append(f"INSERT INTO {table} ({', '.join(columns)}) OVERRIDING SYSTEM VALUE VALUES\n{lines};\n")
    for table, column in IDENTITIES:
        parts.append(
            f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), "
            f"(SELECT coalesce(max({column}), 0) + 1 FROM {table}));\n"
        )
    return "\n".join(parts)


async def database(url: str) -> str:
    """Make all threads in an empty database, and dump it."""
    async with TransactionalSaver.from_conn_string(url, serde=claims_flow.serde()) as saver:
        await saver.setup()
        await underwriting.setup(saver)
        async with saver.transaction() as tx:
            for statement in PRUNE.strip().splitlines():
                await tx.execute(statement)
            await tx.execute("DROP TABLE kept")
            await tx.execute(claims_flow.TABLE)
            await tx.execute(claims_flow.ROW)
        await run_claims(saver)
    run_underwriting(url, "completed", 12_000_00, code=0)
    run_underwriting(url, "interrupted", 60_000_00, code=10)
    run_underwriting(url, "killed_thinking", 13_000_00, failpoint="memo.stored:2", code=-signal.SIGKILL)
    run_underwriting(url, "killed_saved", 14_000_00, failpoint="writes.flushed:1", code=-signal.SIGKILL)
    connection = await asyncpg.connect(url)
    try:
        return await dump(connection)
    finally:
        await connection.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer.acquire(Path(folder)) as server:
        Path(folder).chmod(0o755)  # run by root, the server is another user
        (HERE / "database.sql").write_text(asyncio.run(database(server.url)), encoding="utf-8")
