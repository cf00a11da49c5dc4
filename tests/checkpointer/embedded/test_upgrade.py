"""Clusters that 0.1.0 made: run by root as `nobody`, used by flows as the superuser."""

from __future__ import annotations

import os
import pwd
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest

from superstep.checkpointer.embedded import EmbeddedServer, stop
from superstep.checkpointer.embedded import upgrade as upgrade_module
from superstep.checkpointer.embedded.locks import exclusive
from superstep.checkpointer.embedded.place import find
from superstep.runtime.faults import DatabaseUnavailable
from tests.checkpointer.embedded.processes import AS_ROOT, ask, execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OF_SUPERUSER = """
CREATE SCHEMA runtime;
CREATE TABLE runtime.thread (id bigint GENERATED ALWAYS AS IDENTITY, seen serial, kind text);
CREATE TABLE account (id int PRIMARY KEY, embedding vector(2)) PARTITION BY RANGE (id);
CREATE TABLE account_low PARTITION OF account FOR VALUES FROM (0) TO (100);
CREATE VIEW "Odd name" AS SELECT id FROM account;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM account;
CREATE SEQUENCE free;
CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql AS 'SELECT 2 * n';
CREATE FUNCTION as_owner() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user';
CREATE PROCEDURE nothing() LANGUAGE sql AS '';
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
CREATE TYPE colour AS ENUM ('red');
CREATE TYPE pair AS (a int, b int);
CREATE TYPE span AS RANGE (SUBTYPE = int);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE STATISTICS both_of ON id, kind FROM runtime.thread;
SELECT lo_create(4711);
"""
NOT_OURS = """
SELECT string_agg(what, ', ') FROM (
    SELECT 'schema ' || nspname AS what, nspowner AS owner, oid FROM pg_namespace
    UNION ALL SELECT relkind::text || ' ' || relname, relowner, oid FROM pg_class
    UNION ALL SELECT 'routine ' || proname, proowner, oid FROM pg_proc
    UNION ALL SELECT 'type ' || typname, typowner, oid FROM pg_type
    UNION ALL SELECT 'statistics ' || stxname, stxowner, oid FROM pg_statistic_ext
    UNION ALL SELECT 'object', lomowner, oid FROM pg_largeobject_metadata
) o WHERE owner <> 'superstep'::regrole AND oid > 16384
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = o.oid AND d.deptype = 'e')
  AND what NOT LIKE '%vector%' AND what NOT LIKE '%pg_toast%'
  AND NOT EXISTS (SELECT FROM pg_depend d JOIN pg_type t ON d.objid = t.oid AND d.refobjid = t.typelem
                  WHERE t.oid = o.oid)
"""


@pytest.fixture
def old(root: Path) -> Iterator[Path]:
    """The root of a server as 0.1.0 left it, with tables."""
    with EmbeddedServer.acquire(root) as server:
        execute(server.admin_url, "ALTER DATABASE superstep OWNER TO postgres; DROP ROLE superstep")
        execute(server.admin_url, OF_SUPERUSER)
    stop(root)
    yield root
    stop(root)


def test_what_the_superuser_made_belongs_to_the_role_of_flows(old: Path) -> None:
    with EmbeddedServer.acquire(old) as server:
        assert ask(server.url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
        assert ask(server.url, NOT_OURS) is None
        assert ask(server.url, "SELECT as_owner()") == "superstep"
        execute(server.url, "ALTER TABLE runtime.thread ADD COLUMN more int; INSERT INTO runtime.thread DEFAULT VALUES")
        execute(server.url, "INSERT INTO account VALUES (1, '[1,2]'); DROP TABLE account CASCADE")
        assert ask(server.url, "SELECT '[3,4]'::vector <-> '[0,0]'") == 5
    with EmbeddedServer.acquire(old) as server:
        assert ask(server.url, "SELECT 1") == 1


def test_an_upgrade_that_fails_changes_nothing_and_is_told(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.sql"
    broken.write_text(f"{upgrade_module._SQL.read_text()}\nSELECT 1/0;\n")
    with monkeypatch.context() as patched:
        patched.setattr(upgrade_module, "_SQL", broken)
        with pytest.raises(DatabaseUnavailable, match=r"(?s)cannot be upgraded.*division by zero"):
            EmbeddedServer.acquire(old)
    with EmbeddedServer.acquire(old) as server:
        assert ask(server.url, NOT_OURS) is None


def test_the_role_of_flows_can_do_what_graphs_need_and_nothing_to_the_machine(root: Path) -> None:
    with EmbeddedServer.acquire(root) as server:
        execute(server.url, "CREATE SCHEMA mine; CREATE TABLE mine.t (v vector(2)); CREATE TABLE t (n int)")
        execute(server.url, "CREATE EXTENSION IF NOT EXISTS vector")  # as migrations say it: there already
        for refused in (
            "SELECT pg_read_file('/etc/passwd')",
            "SELECT pg_ls_dir('/')",
            "SELECT lo_import('/etc/passwd')",
            "COPY t FROM '/etc/passwd'",
            "COPY t TO PROGRAM 'cat'",
            "ALTER SYSTEM SET work_mem = '1GB'",
            "SET ROLE postgres",
            "SET SESSION AUTHORIZATION postgres",
            "GRANT pg_execute_server_program TO superstep",
            "ALTER ROLE superstep SUPERUSER",
            "CREATE ROLE other SUPERUSER LOGIN",
            "CREATE FUNCTION system(cstring) RETURNS int LANGUAGE c AS '/lib/libc.so.6', 'system'",
            "UPDATE pg_catalog.pg_authid SET rolsuper = true",
            "SET session_preload_libraries = 'evil'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                execute(server.url, refused)


@AS_ROOT
class TestTakingOver:
    """The data of a server that ran as an account which others share."""

    @pytest.fixture
    def of_nobody(self, root: Path) -> Path:
        """As 0.1.0 left it."""
        place = find(root)
        assert place is not None
        self.nobody = pwd.getpwnam("nobody")
        for folder in (place.data, place.sockets):
            subprocess.run(["chown", "-hR", f"{self.nobody.pw_uid}:{self.nobody.pw_gid}", str(folder)], check=True)
        return root

    def test_it_is_given_to_an_account_of_its_own(self, of_nobody: Path) -> None:
        with EmbeddedServer.acquire(of_nobody) as server:
            assert ask(server.url, "SELECT 1") == 1
            place = find(of_nobody)
            assert place is not None
            assert not place.is_of_0_1_0
            paths = (place.data, place.sockets, *place.data.rglob("*"))
            assert {each.lstat().st_uid for each in paths} == {place.account.uid}

    def test_what_was_interrupted_is_done_again(self, of_nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(upgrade_module, "_give", fail)
            with pytest.raises(KeyboardInterrupt):
                EmbeddedServer.acquire(of_nobody)
        with EmbeddedServer.acquire(of_nobody) as server:
            assert ask(server.url, "SELECT 1") == 1

    def test_a_hard_link_to_a_file_of_a_third_account_gives_nothing_away(self, of_nobody: Path) -> None:
        place = find(of_nobody)
        assert place is not None
        secret = of_nobody / "secret"
        secret.write_text("mine")
        os.link(secret, place.data / "global" / "planted")
        with pytest.raises(DatabaseUnavailable, match="third account"):
            EmbeddedServer.acquire(of_nobody)
        assert secret.stat().st_uid == os.geteuid()

    def test_a_link_is_not_followed(self, of_nobody: Path) -> None:
        place = find(of_nobody)
        assert place is not None
        secret = of_nobody / "secret"
        secret.mkdir()
        planted = place.data / "global" / "planted"
        planted.symlink_to(secret)
        os.chown(planted, self.nobody.pw_uid, self.nobody.pw_gid, follow_symlinks=False)
        with EmbeddedServer.acquire(of_nobody):
            assert secret.stat().st_uid == os.geteuid()

    def test_a_server_that_still_runs_is_to_be_stopped_first(self, of_nobody: Path) -> None:
        place = find(of_nobody)
        assert place is not None
        with (
            exclusive(place.lock("server")),
            pytest.raises(DatabaseUnavailable, match="runtime db stop"),
        ):
            EmbeddedServer.acquire(of_nobody)
