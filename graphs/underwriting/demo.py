"""What `make demo` shows: one application, two that race for one credit line, six that two workers share.

Everything runs as a user would run it: the `runtime` command, in processes of its own. Exits 1 if a line is exceeded,
or something is lost when one of the workers is killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

from superstep import TransactionalSaver
from superstep.graphs.underwriting import setup
from superstep.graphs.underwriting.demo_workers import share_a_queue

__all__ = ["main"]

GRAPH = "graphs.underwriting"
ACCOUNT = "A-0004"
LINE = f"L-{ACCOUNT}-business_line"
RIVAL = {"account_id": ACCOUNT, "product": "business_line", "amount": 12_000_00, "purpose": "new oven"}
OPEN = 18_000_00  # enough for one of the two
_RUNTIME = (sys.executable, "-m", "superstep.runtime")


def main() -> int:
    """Run the demonstration; 0 if every command succeeded and the line holds."""
    _say("$ runtime run graphs.underwriting")
    first = subprocess.run([*_RUNTIME, "run", GRAPH], check=False)  # noqa: S603 - our own command
    if first.returncode:
        return first.returncode
    return asyncio.run(_more())


async def _more() -> int:
    async with TransactionalSaver.from_conn_string(os.environ.get("DATABASE_URL"), pool_max=2) as saver:
        await setup(saver)
        holds = await _race(saver)
        return 0 if await share_a_queue(saver, _say) and holds else 1


async def _race(saver: TransactionalSaver) -> bool:
    async with saver.transaction() as tx:
        # As if earlier demonstrations had been paid back: this account's new obligations go, its line has room.
        gone = "DELETE FROM underwriting.exposure WHERE account_id = $1 AND application_id IS NOT NULL"
        await tx.execute(gone, ACCOUNT)
        sql = "UPDATE underwriting.credit_line SET drawn = credit_limit - $2 WHERE id = $1 RETURNING credit_limit"
        limit = await tx.fetchval(sql, LINE, OPEN)
    _say(f"\nTwo applications race for one credit line that has {_money(OPEN)} open:")
    _say(f"$ runtime run {GRAPH} --input '{json.dumps(RIVAL)}' --json   # twice, at the same time")
    reports = await asyncio.gather(_apply(), _apply())
    async with saver.transaction() as tx:
        drawn = await tx.fetchval("SELECT drawn FROM underwriting.credit_line WHERE id = $1", LINE)
    for report in reports:
        _say(_line(report))
    granted = sum(report["values"]["decision"]["amount"] for report in reports)
    holds = bool(limit - OPEN + granted == drawn <= limit)
    _say(f"  line: {_money(drawn)} of {_money(limit)} drawn, {'never exceeded' if holds else 'WRONG'}")
    longest = max(reports, key=lambda report: len(report["steps"]))["thread_id"]
    _say(f"\n$ runtime history {longest}")
    await asyncio.to_thread(subprocess.run, [*_RUNTIME, "history", longest], check=False)
    return holds


async def _apply() -> dict[str, Any]:
    command = (*_RUNTIME, "run", GRAPH, "--input", json.dumps(RIVAL), "--json")
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    report: dict[str, Any] = json.loads(out)
    return report


def _line(report: dict[str, Any]) -> str:
    decision = report["values"]["decision"]
    tried = sum(step["attempts"] for step in report["steps"]) - len(report["steps"])
    return (
        f"  {decision['application_id']}: {decision['outcome']} {_money(decision['amount'])}"
        f"  ({len(report['steps'])} super-steps, {tried} tried again, {report['values']['reassessments']} reassessed)"
    )


def _money(cents: int) -> str:
    return f"{cents / 100:,.2f}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
