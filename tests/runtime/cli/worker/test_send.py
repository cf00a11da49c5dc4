"""`runtime send`, and parents that `runtime run` and `resume` leave waiting."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.runtime.cli.worker import flow_that_asks, flow_with_child

if TYPE_CHECKING:
    from tests.support.commands import Runtime

GRAPH = flow_with_child.__name__
INPUT = ("--input", '{"n": 1}')


def test_a_parent_waits_and_goes_on_by_whoever_resumes_it(on_db: Runtime) -> None:
    done = on_db("run", GRAPH, "--thread", "p", *INPUT, "--json")
    assert done.code == 10, done.err
    (asked,) = done.json["interrupts"]
    child = asked["value"]["superstep:child"]
    assert [run["thread_id"] for run in on_db("runs", "--json").json] == [child]
    assert on_db("resume", "p", "--json").code == 10  # the child has not run
    refused = on_db("resume", "p", "--value", "1")
    assert (refused.code, "waits for a child run" in refused.err) == (3, True)
    refused = on_db("send", "p", "--value", "1")
    assert (refused.code, "waits for a child run" in refused.err) == (3, True)


def test_an_answer_is_sent_and_listed(on_db: Runtime) -> None:
    assert on_db("run", flow_that_asks.__name__, "--thread", "asked", *INPUT).code == 10
    done = on_db("send", "aske", "--value", json.dumps({"ok": True}), "--json")
    assert done.code == 0, done.err
    (run,) = on_db("runs", "--json").json
    assert done.json == {"thread_id": "asked", "run_id": run["run_id"], "state": "queued"}
    assert (run["answer"], run["state"]) == ("sent", "queued")
    assert on_db("send", "nobody", "--value", "1").code == 3
    assert on_db("send", "asked", "--value", "{").code == 3
    assert on_db("send", "asked").code == 2
    refused = on_db("send", "asked", "--value", "1", "--interrupt", "0123456789")
    assert (refused.code, "asks no question" in refused.err) == (3, True)
