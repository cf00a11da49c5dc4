"""The command line on a PostgreSQL without pgvector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.commands import GRAPHS
from tests.support.stock import stock_admin, stock_url

if TYPE_CHECKING:
    from tests.support.commands import Runtime

__all__ = ["stock_admin", "stock_url"]


def test_set_up_run_resume_and_list(runtime: Runtime, stock_url: str) -> None:
    at = ("--db", stock_url)
    assert runtime("db", "migrate", *at).code == 0
    checked = runtime("db", "check", *at)
    assert checked.code == 0
    assert "no pgvector" in checked.out
    assert runtime("db", "check", "--json", *at).json["pgvector"] is None
    given = ("--input", '{"amount": 5}', "--thread", "t")
    assert runtime("run", f"{GRAPHS}.asking", *given, *at).code == 10
    assert runtime("resume", "t", "--value", "true", *at).code == 0
    (thread,) = runtime("threads", "--json", *at).json
    assert (thread["thread_id"], thread["status"]) == ("t", "completed")
    assert runtime("history", "t", *at).code == runtime("show", "t", *at).code == 0
    assert runtime("prompts", "list", *at).code == 0


def test_a_flow_that_needs_vectors_says_so(runtime: Runtime, stock_url: str) -> None:
    done = runtime("run", "superstep.graphs.underwriting", "--json", "--db", stock_url)
    assert (done.code, done.json["error"]["type"]) == (4, "ExtensionMissing")
    assert "no pgvector" in done.json["error"]["message"]
