"""docs/deployment.md: its roles may do what it says and no more, its dump is restored, a thread goes on there."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psycopg
import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from superstep import TransactionalSaver, current_step, shared, transactional
from superstep.checkpointer.embedded import bin_dir
from superstep.reducers import append
from superstep.runtime.faults import DatabaseUnavailable
from tests.docs.pages import blocks, commands, page, perform
from tests.support.databases import fresh_database
from tests.support.graphs import config_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.docs.pages import Shell
    from tests.support.commands import Runtime
    from tests.support.databases import Admin

PAGE = page("deployment.md")
ROLES, REVOKES = blocks(PAGE, "sql")
OWNER, FLOWS, VIEWER = "runtime_owner", "runtime_flows", "runtime_viewer"


def as_role(url: str, role: str) -> str:
    """The same database, as a role whose password is its name."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}:{role}@{host}"))


class Roles:
    """The roles of the page, under names of this test's own: roles belong to the whole server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.suffix = uuid.uuid4().hex[:8]

    def named(self, text: str) -> str:
        return re.sub(r"\b(runtime_(?:owner|flows|viewer|prompts))\b", rf"\1_{self.suffix}", text)

    def of(self, role: str) -> str:
        return as_role(self.url, self.named(role))

    def run(self, text: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(self.named(text).encode())
            for role in re.findall(r"CREATE ROLE (\w+)", self.named(text)):
                conn.execute(f"ALTER ROLE {role} PASSWORD '{role}'".encode())

    def drop(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as conn:
            for (role,) in conn.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE %s", [f"%{self.suffix}"]):
                conn.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}".encode())


@pytest.fixture
def roles(empty_database_url: str, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Roles]:
    """A database that was set up as the page says."""
    made = Roles(empty_database_url)
    try:
        made.run(ROLES)
        monkeypatch.setenv("DATABASE_URL", made.of(OWNER))
        migrate, check = commands(PAGE)[:2]
        perform([migrate, check], lambda words: runtime(*words))
        made.run(REVOKES)
        yield made
    finally:
        made.drop()


shared("deployment.notes", reducer=append(), default=[])


async def pay(state: Any) -> Any:
    step = current_step()
    balance = await step.fetchval("SELECT balance FROM account WHERE id = 1")
    answer = interrupt(balance)
    step.stage("UPDATE account SET balance = balance - 1 WHERE id = 1")
    step.reduce("deployment.notes", "all", answer)
    return {"n": balance}


class State(TypedDict):
    n: int


def graph(saver: Any) -> Any:
    return transactional(StateGraph(State).add_node(pay).add_edge(START, "pay").compile(checkpointer=saver))


async def test_a_role_runs_flows_and_can_do_no_more(roles: Roles) -> None:
    with psycopg.connect(roles.url, autocommit=True) as conn:
        conn.execute("CREATE TABLE account (id int PRIMARY KEY, balance int); INSERT INTO account VALUES (1, 10)")
        conn.execute(roles.named("GRANT SELECT, UPDATE (balance) ON account TO runtime_flows").encode())
    async with TransactionalSaver.from_conn_string(roles.of(FLOWS)) as saver:
        assert await saver.setup() == []
        flow = graph(saver)
        await flow.ainvoke({"n": 0}, config_of("t"))
        await flow.ainvoke(Command(resume="yes"), config_of("t"))
        async with saver.transaction() as tx:
            assert await tx.fetchval("SELECT balance FROM account") == 9
        await saver.store.aput(("a",), "k", {"v": 1})
        assert (await saver.store.aget(("a",), "k")).value == {"v": 1}  # type: ignore[union-attr]
        await saver.acopy_thread("t", "copy")
        await saver.aprune(["copy"])
        await saver.adelete_thread("copy")
        for refused in (
            "CREATE TABLE runtime.mine (id int)",
            "INSERT INTO account VALUES (2, 1)",
            "UPDATE runtime.migration SET name = 'x'",
            "UPDATE runtime.prompt_label SET version = 1",
            "DROP TABLE runtime.checkpoint",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with saver.transaction() as tx:
                    await tx.execute(refused)


def test_a_viewer_looks_and_changes_nothing(roles: Roles, runtime: Runtime) -> None:
    url = roles.of(VIEWER)
    for words in (["threads"], ["metrics"], ["prompts", "list"], ["db", "check"]):
        done = runtime(*words, "--db", url)
        assert done.code == 0, (words, done.err)
    with psycopg.connect(url) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("DELETE FROM runtime.thread")


def test_who_may_move_labels(roles: Roles, runtime: Runtime, tmp_path: Path) -> None:
    """docs/prompts.md: the role there adds versions and moves labels, flows only read them."""
    (grants,) = blocks(page("prompts.md"), "sql")
    roles.run(grants)
    editor, flows = roles.of("runtime_prompts"), roles.of(FLOWS)
    for text in ("Be polite.", "Be brief."):
        (tmp_path / "verify.toml").write_text(f'[[messages]]\nrole = "user"\ncontent = "{text}"\n')
        assert runtime("prompts", "add", "verify.toml", "--label", "production", "--db", flows).code != 0
        done = runtime("prompts", "add", "verify.toml", "--label", "production", "--db", editor)
        assert done.code == 0, done.err
    assert runtime("prompts", "promote", "verify", "1", "--db", flows).code != 0
    assert runtime("prompts", "show", "verify", "--db", flows).code == 0
    assert runtime("prompts", "promote", "verify", "1", "--db", editor).code == 0
    assert runtime("prompts", "rollback", "verify", "--label", "production", "--db", editor).code == 0
    with psycopg.connect(roles.url) as conn:
        moved = conn.execute("SELECT to_version FROM runtime.prompt_move ORDER BY id").fetchall()
    assert [version for (version,) in moved] == [1, 2, 1, 2]
    for refused in ("UPDATE runtime.prompt_version SET content = '{}'", "DELETE FROM runtime.prompt_version"):
        with psycopg.connect(editor) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(refused.encode())


async def test_a_role_that_may_not_migrate_is_told_so(empty_database_url: str) -> None:
    roles = Roles(empty_database_url)
    try:
        roles.run(ROLES)
        async with TransactionalSaver.from_conn_string(roles.of(FLOWS)) as saver:
            with pytest.raises(DatabaseUnavailable, match="may not create"):
                await saver.setup()
    finally:
        roles.drop()


def test_a_dump_is_restored_and_a_thread_goes_on(
    shell: Shell, database_url: str, admin: Admin, server_url: str, tmp_path: Path
) -> None:
    flows = blocks(page("flows.md"), "python")[0]
    (tmp_path / "desk.py").write_text(flows)
    first, second = commands(page("flows.md"))[:2]
    perform([first, second], shell, {second: 10})
    with fresh_database(admin, server_url, "template0") as restored:
        path = f"{bin_dir()}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {**os.environ, "DATABASE_URL": database_url, "RESTORED_URL": restored, "PATH": path}
        shown = [
            subprocess.run(line, shell=True, env=env, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
            for line in commands(PAGE)[2:]
        ]
    assert "party" in shown[-2]
    assert "granted" in shown[-1]


def test_the_unit_is_sound(tmp_path: Path, runtime: Runtime) -> None:
    (text,) = blocks(PAGE, "ini")
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    assert {"Unit", "Service", "Install"} == set(unit.sections())
    program, *words = unit["Service"]["ExecStartPre"].split()
    assert program.endswith("/bin/runtime")
    assert runtime(*words, "--db", "postgresql://x@127.0.0.1:1/x").code == 4


def test_the_container_checks_its_health(runtime: Runtime, database_url: str) -> None:
    (text,) = blocks(PAGE, "dockerfile")
    checks = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", text, re.MULTILINE)
    program, *words = json.loads(checks[0])
    assert program == "runtime"
    assert runtime(*words, "--db", database_url).code == 0
