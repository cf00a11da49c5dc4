"""The flow as commands run it: each answer from a process of its own, and processes that are killed."""

from __future__ import annotations

import json
import queue
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from superstep.graphs.approvals import sanctions
from tests.graphs.approvals.conftest import NEW_ACCOUNT, TWO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.commands import Runtime

GRAPH = "superstep.graphs.approvals"
REQUEST = json.dumps(TWO)


class Holding(sanctions.Service):
    """A service that answers nothing until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: queue.Queue[str] = queue.Queue()
        self.may_answer = threading.Event()

    def screen(self, identity: str, name: str) -> bool:
        self.asked.put(identity)
        assert self.may_answer.wait(60)
        return super().screen(identity, name)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, process_env: dict[str, str]) -> Iterator[Holding]:
    monkeypatch.setattr(sanctions, "Service", Holding)
    with sanctions.serve() as service:
        assert isinstance(service, Holding)
        monkeypatch.setenv("SANCTIONS_URL", service.url)
        process_env["SANCTIONS_URL"] = service.url
        yield service
        service.may_answer.set()


def answer(on_db: Runtime, by: str) -> tuple[int, Any]:
    done = on_db("resume", "t", "--value", json.dumps({"by": by, "approved": True}), "--json")
    return done.code, done.json


def test_killed_during_the_external_call_it_asks_under_the_same_identity(
    start: Any, on_db: Runtime, database_url: str, service: Holding
) -> None:
    process = start("run", GRAPH, "--thread", "t", "--input", REQUEST, "--db", database_url)
    first = service.asked.get(timeout=60)
    process.kill()
    process.wait()
    service.may_answer.set()
    assert on_db("resume", "t", "--json").code == 10
    assert service.asked.get(timeout=60) == first
    assert len(service.screenings) == 1

    assert answer(on_db, "E-ana")[0] == 10
    code, report = answer(on_db, "E-bo")
    assert (code, report["values"]["outcome"]["status"]) == (0, "paid")
    assert report["usage"]["llm_paid"] == 1
    with psycopg.connect(database_url) as connection:
        paid = "SELECT count(*), sum(amount) FROM approvals.payment WHERE invoice = 'INV-1'"
        assert connection.execute(paid).fetchone() == (1, TWO["amount"])


def test_killed_wherever_it_is_after_an_answer(start: Any, on_db: Runtime, database_url: str, service: Holding) -> None:
    """The second answer is given, and the process killed as soon as the super-step that takes it is shown."""
    service.may_answer.set()
    assert on_db("run", GRAPH, "--thread", "t", "--input", REQUEST).code == 10
    assert answer(on_db, "E-ana")[0] == 10
    said = json.dumps({"by": "E-bo", "approved": True})
    process = start("resume", "t", "--value", said, "--db", database_url)
    for line in process.stdout:
        if "approve" in line:
            break
    process.kill()
    process.wait()
    shown = on_db("resume", "t", "--json")
    if shown.code == 3:  # it had got to the end
        shown = on_db("show", "t", "--json")
    assert shown.code == 0
    assert shown.json["values"]["outcome"]["approved_by"] == ["E-ana", "E-bo"]
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM approvals.payment WHERE invoice = 'INV-1'").fetchone() == (1,)


def test_an_account_that_changed_overnight_is_asked_about_again(
    on_db: Runtime, database_url: str, service: Holding
) -> None:
    service.may_answer.set()
    assert on_db("run", GRAPH, "--thread", "t", "--input", REQUEST).code == 10
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE approvals.vendor SET bank_account = %s WHERE id = 'V-001'", [NEW_ACCOUNT])
    code, report = answer(on_db, "E-ana")
    assert code == 10
    (asked,) = report["interrupts"]
    assert asked["value"]["facts_changed"]
    assert NEW_ACCOUNT in asked["value"]["question"]
    assert report["usage"]["llm_paid"] == 2
