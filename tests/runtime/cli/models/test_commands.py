"""`runtime models`: what is configured, how it did, and whether it works; and which commands mind a wrong table."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from superstep.checkpointer import Tried
from superstep.providers.catalog.model import Breaker
from superstep.runtime.cli.models.circuits import circuit
from tests.support.commands import GRAPHS, Runtime
from tests.support.vendors import Vendor, hang_up, status

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-very-secret-0123456789"

TWO_ROUTES = """
[models.fast]
strategy = "lowest-cost"
fallbacks = ["strong"]
[[models.fast.deployments]]
provider = "openai"
model = "gpt-5.4-mini"
rpm = 500
tpm = 200000
[[models.fast.deployments]]
provider = "openai-compatible"
model = "local"
base_url = "http://localhost:8000/v1"
price = { input = 0, output = 0 }
[models.strong]
budget = { usd = 3, window = "1d" }
[[models.strong.rules]]
route = "fast"
tags = ["simple"]
max_input_tokens = 500
[[models.strong.deployments]]
provider = "anthropic"
model = "claude-sonnet-5"
[budgets]
run = { tokens = 1000 }
"""


def deployments(shown: Any) -> dict[str, Any]:
    return {each["deployment"]: each for route in shown["routes"] for each in route["deployments"]}


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_without_anything_there_is_the_offline_model_and_no_database_is_made(runtime: Runtime) -> None:
    done = runtime("models")
    assert (done.code, done.err) == (0, "")
    for words in ("any name", "offline:offline (no model is asked)", "none needed", "free", "no calls yet", "closed"):
        assert words in done.out
    shown = runtime("models", "--json").json
    assert [(route["route"], route["any_name"]) for route in shown["routes"]] == [("default", True)]
    assert (shown["routes"][0]["deployments"][0]["offline"], shown["note"]) == (True, None)
    assert not Path(".runtime").exists()


def test_keys_of_the_environment_are_named_and_never_shown(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    table, listing = runtime("models"), runtime("models", "--json")
    assert "OPENAI_API_KEY set" in table.out
    (route,) = listing.json["routes"]
    assert [each["provider"] for each in route["deployments"]] == ["openai", "anthropic"]
    assert KEY not in table.out + table.err + listing.out + listing.err


def test_routes_of_the_file(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    Path("runtime.toml").write_text(TWO_ROUTES)
    shown = runtime("models", "--json").json
    fast, strong = shown["routes"]
    assert (fast["strategy"], fast["fallbacks"], fast["where"]) == (
        "lowest-cost",
        ["strong"],
        "runtime.toml, line 2: models.fast",
    )
    assert strong["rules"] == [{"route": "fast", "tags": ["simple"], "max_input_tokens": 500}]
    assert strong["budget"] == {"usd": 3.0, "tokens": None, "window": 86400.0}
    assert shown["budgets"] == {"run": {"usd": None, "tokens": 1000, "window": None}}
    found = deployments(shown)
    openai, local, claude = (found[name] for name in found)
    assert (openai["key_set"], claude["key_set"], local["key_set"]) == (False, True, None)
    assert (openai["rpm"], openai["tpm"], local["host"]) == (500, 200000, "localhost:8000")
    assert openai["price"]["output"] > openai["price"]["input"] > 0
    assert (local["price"], local["health"], local["check"]) == ({"input": 0.0, "output": 0.0}, None, None)

    table = runtime("models").out
    for words in (
        "fast · lowest-cost · then: strong",
        "strong · order · to fast: simple, up to 500 tokens · budget: $3 in 1 d",
        "OPENAI_API_KEY NOT SET",
        "ANTHROPIC_API_KEY set",
        "500 rpm, 200000 tpm",
        "openai-compatible:local at localhost:8000",
        "budget of a run: 1000 tokens",
    ):
        assert words in table


def test_budgets_and_recording_hold_for_routes_of_the_environment_too(runtime: Runtime) -> None:
    Path("runtime.toml").write_text("[budgets]\nthread = { usd = 2 }\n[recording]\ncontent = true\nredact = ['a']\n")
    shown = runtime("models", "--json").json
    assert [route["any_name"] for route in shown["routes"]] == [True]
    assert shown["budgets"] == {"thread": {"usd": 2.0, "tokens": None, "window": None}}
    assert shown["recording"] == {"content": True, "redact": 1}
    assert "budget of a thread: $2" in runtime("models").out


@pytest.fixture
def broken_models() -> str:
    Path("runtime.toml").write_text(
        "[models.fast]\nfallbacks = ['slow']\n[[models.fast.deployments]]\nprovider='offline'\n"
    )
    return "runtime.toml, line 2: models.fast.fallbacks[0] names a route that does not exist"


def test_wrong_routes_stop_what_needs_models(on_db: Runtime, broken_models: str) -> None:
    for arguments in (["models"], ["run", f"{GRAPHS}.counting"], ["resume", "t"]):
        done = on_db(*arguments)
        assert done.code == 3
        assert broken_models in one_line(done.err)
    done = on_db("run", f"{GRAPHS}.counting", "--json")
    assert (done.code, done.json["error"]["type"]) == (3, "ConfigError")


def test_wrong_embedders_do_too(on_db: Runtime) -> None:
    Path("runtime.toml").write_text("[embeddings.default]\nprovider = 'wordlama'\n")
    for arguments in (["models"], ["run", f"{GRAPHS}.counting"]):
        done = on_db(*arguments)
        assert done.code == 3
        assert "runtime.toml, line 2: embeddings.default.provider must be one of" in one_line(done.err)
    assert on_db("threads").code == 0


@pytest.mark.usefixtures("broken_models")
def test_wrong_routes_do_not_stop_what_needs_no_models(on_db: Runtime) -> None:
    assert on_db("threads").code == 0
    assert on_db("db", "check").code == 0
    assert on_db("graph", f"{GRAPHS}.counting").code == 0


def test_a_price_that_is_relied_on_must_be_known(runtime: Runtime) -> None:
    Path("runtime.toml").write_text(TWO_ROUTES.replace("gpt-5.4-mini", "no-such-model"))
    done = runtime("models")
    assert done.code == 3
    assert "runtime.toml, line 5: models.fast.deployments[0]: the price of its model is unknown" in one_line(done.err)


# -- what the database knows ------------------------------------------------------------------------------------------


class Records:
    """Calls as the checkpointer records them."""

    def __init__(self, url: str) -> None:
        self._url = url

    def add(self, record: Any, *, ago: float = 0, outcome: str = "answered", route: str | None = "fast") -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO runtime.model_call (id, thread_id, ns, checkpoint_id, task_id, attempt, node, outcome,"
                " offline, route, record, created_at) VALUES (%s, 't', '', 'c', 'k', 1, 'n', %s, false, %s, %s,"
                " now() - make_interval(secs => %s))",
                (uuid.uuid4(), outcome, route, json.dumps(record), ago),
            )

    def answered(self, deployment: str, ms: float, *tried: Any, **given: Any) -> None:
        self.add({"deployment": deployment, "ms": ms, "tried": list(tried)}, **given)

    def failed(self, *tried: Any, **given: Any) -> None:
        spent = sum(each["ms"] for each in tried)
        self.add({"deployment": None, "ms": spent, "tried": list(tried)}, outcome="failed", **given)


def left(deployment: str, number: int | None = 503, ms: float = 10.0) -> dict[str, Any]:
    return {"deployment": deployment, "why": f"status {number}", "status": number, "ms": ms, "counts": True}


@pytest.fixture
def records(database_url: str) -> Records:
    return Records(database_url)


FAST, LOCAL, STRONG = "fast/openai:gpt-5.4-mini", "fast/openai-compatible:local", "strong/anthropic:claude-sonnet-5"


def test_health_is_what_the_records_of_the_last_hour_say(on_db: Runtime, records: Records) -> None:
    Path("runtime.toml").write_text(TWO_ROUTES)
    records.answered(FAST, 100.0)
    records.answered(FAST, 300.0)
    # 500 ms in all, of which the first deployment took 150, so the second one 350. Passing one over took no time.
    records.answered(LOCAL, 500.0, left(FAST, 429, 150.0), left(STRONG, None, 0.0))
    records.failed(left(LOCAL, None, 20.0), left(LOCAL, 500, 30.0), ago=60)
    records.answered(STRONG, 100.0, ago=3700)
    records.answered(STRONG, 100.0, route=None)
    records.answered("gone/openai:m", 100.0)
    shown = deployments(on_db("models", "--json").json)
    fast, local = shown[FAST]["health"], shown[LOCAL]["health"]
    assert (fast["calls"], fast["failed"], fast["p50_ms"], fast["last_failure"]) == (3, 1, 200.0, "status 429")
    assert (local["calls"], local["failed"], local["p50_ms"], local["last_failure"]) == (3, 2, 350.0, "status 500")
    assert (fast["circuit"], fast["circuit_until"]) == ("closed", None)
    ago = datetime.now(UTC) - datetime.fromisoformat(local["last_failure_at"])
    assert timedelta(seconds=59) < ago < timedelta(seconds=3600)
    assert shown[STRONG]["health"] is None
    table = on_db("models").out
    assert "3, 33 % failed" in table
    assert "status 429" in table


def test_a_circuit_that_failures_opened_is_open_until_its_cooldown_is_over(on_db: Runtime, records: Records) -> None:
    Path("runtime.toml").write_text(
        "[[models.fast.deployments]]\nprovider = 'offline'\n"
        "breaker = { failures = 3, cooldown = 3000, longest = 3000 }\n"
    )
    offline = "fast/offline:offline"
    records.answered(offline, 10.0, ago=5)
    records.failed(*[left(offline)] * 2, ago=4)
    assert deployments(on_db("models", "--json").json)[offline]["health"]["circuit"] == "closed"
    records.failed(left(offline), ago=3)
    health = deployments(on_db("models", "--json").json)[offline]["health"]
    assert health["circuit"] == "open"
    until = datetime.fromisoformat(health["circuit_until"])
    assert timedelta(seconds=2900) < until - datetime.now(UTC) < timedelta(seconds=3000)
    assert f"open until {until.astimezone():%H:%M:%S}" in on_db("models").out


def test_a_circuit_is_closed_by_an_answer_that_came_after_the_failures(on_db: Runtime, records: Records) -> None:
    Path("runtime.toml").write_text(
        "[[models.fast.deployments]]\nprovider = 'offline'\nbreaker = { failures = 1, cooldown = 1 }\n"
    )
    records.failed(left("fast/offline:offline"), ago=30)
    assert deployments(on_db("models", "--json").json)["fast/offline:offline"]["health"]["circuit"] == "half-open"
    records.answered("fast/offline:offline", 10.0, ago=20)
    assert deployments(on_db("models", "--json").json)["fast/offline:offline"]["health"]["circuit"] == "closed"


@pytest.mark.parametrize("record", [{}, {"tried": 3, "ms": "x"}, {"tried": [3, {"ms": "x"}, {"ms": 1}], "ms": -1}])
def test_records_of_other_shapes_are_passed_over(on_db: Runtime, records: Records, record: Any) -> None:
    records.add(record)
    records.answered("default/offline:offline", 5.0)
    assert deployments(on_db("models", "--json").json)["default/offline:offline"]["health"]["calls"] == 1


def test_a_run_leaves_records(on_db: Runtime) -> None:
    on_db("run", "graphs.underwriting", "--thread", "t")
    health = deployments(on_db("models", "--json").json)["default/offline:offline"]["health"]
    assert health["calls"] > 0
    assert (health["failed"], health["circuit"]) == (0, "closed")


def test_a_database_without_tables_has_no_calls_yet(runtime: Runtime, empty_database_url: str) -> None:
    done = runtime("models", "--db", empty_database_url)
    assert (done.code, done.err) == (0, "")
    assert "no calls yet" in done.out
    assert runtime("models", "--db", empty_database_url, "--json").json["note"] is None


def test_a_database_that_is_away_is_said_and_no_reason_to_fail(runtime: Runtime) -> None:
    url = "postgresql://u:hunter2@127.0.0.1:1/d"
    done = runtime("models", "--db", url, "--json")
    assert done.code == 0
    assert done.json["note"].startswith("How they did lately is not known: ")
    table = runtime("models", "--db", url)
    assert "How they did lately is not known" in table.out
    assert "hunter2" not in done.out + done.err + table.out + table.err


# -- circuits --------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
TWICE = Breaker(failures=2, cooldown=10, longest=15)


ANSWER, AGAINST, NEUTRAL = (True, False), (False, True), (False, False)


def attempts(*ended: tuple[float, tuple[bool, bool]]) -> list[Tried]:
    """By seconds before now, and how they ended."""
    return [Tried(NOW - timedelta(seconds=ago), *how) for ago, how in ended]


@pytest.mark.parametrize(
    ("ended", "state", "seconds"),
    [
        ([], "closed", None),
        ([(9, AGAINST)], "closed", None),
        ([(9, AGAINST), (8, AGAINST)], "open", 2),
        ([(9, AGAINST), (8, ANSWER), (7, AGAINST)], "closed", None),
        ([(9, NEUTRAL), (8, NEUTRAL), (7, NEUTRAL)], "closed", None),  # nothing against the deployment
        ([(9, AGAINST), (8, NEUTRAL), (7, AGAINST)], "closed", None),
        ([(20, AGAINST), (11, AGAINST)], "half-open", None),
        ([(20, AGAINST), (19, AGAINST), (5, AGAINST)], "open", 10),  # the probe failed: longer, and at most so long
        ([(20, AGAINST), (19, AGAINST), (5, ANSWER)], "closed", None),
        ([(5, AGAINST), (4, AGAINST), (3, ANSWER), (2, AGAINST)], "open", 6),  # by processes whose circuit was closed
    ],
)
def test_recorded_attempts_imply_the_state_of_a_circuit(ended: Any, state: str, seconds: float | None) -> None:
    until = None if seconds is None else NOW + timedelta(seconds=seconds)
    assert circuit(TWICE, attempts(*ended), NOW) == (state, until)


# -- asking ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with Vendor() as running:
        yield running


def served(vendor: Vendor, route: str, *lines: str, provider: str = "openai-compatible") -> str:
    url = vendor.url if provider == "anthropic" else vendor.openai_url
    where = [f'provider = "{provider}"', 'model = "m"', f'base_url = "{url}"', 'api_key_env = "A_KEY"']
    return "\n".join([f"[[models.{route}.deployments]]", *where, *lines, ""])


def test_check_asks_each_deployment_once(runtime: Runtime, vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    Path("runtime.toml").write_text(served(vendor, "a", "rpm = 1") + served(vendor, "b", provider="anthropic"))
    done = runtime("models", "--check", "--json")
    assert done.code == 0
    assert [route["healthy"] for route in done.json["routes"]] == [True, True]
    checks = [each["check"] for each in deployments(done.json).values()]
    assert [(each["ok"], each["why"]) for each in checks] == [(True, None)] * 2
    assert all(each["ms"] > 0 for each in checks)
    assert vendor.count == 2
    assert sorted(request.api for request in vendor.requests) == ["anthropic", "openai"]
    for request in vendor.requests:
        assert request.body["messages"] == [{"role": "user", "content": "Reply with OK."}]
        assert (request.body.get("max_tokens") or request.body["max_completion_tokens"]) <= 16
    assert "ok, " in runtime("models", "--check").out


@pytest.mark.parametrize(
    ("act", "why"),
    [(status(503), "status 503"), (status(401, message="bad key {key}"), "status 401"), (hang_up(), "connection")],
)
def test_a_route_without_a_healthy_deployment_is_exit_6(
    runtime: Runtime, vendor: Vendor, monkeypatch: pytest.MonkeyPatch, act: Any, why: str
) -> None:
    monkeypatch.setenv("A_KEY", KEY)
    vendor.always(act)
    Path("runtime.toml").write_text(served(vendor, "a") + "[[models.b.deployments]]\nprovider = 'offline'\n")
    done = runtime("models", "--check", "--json")
    assert done.code == 6
    assert [route["healthy"] for route in done.json["routes"]] == [False, True]
    check = deployments(done.json)["a/openai-compatible:m"]["check"]
    assert (check["ok"], why in check["why"], vendor.count) == (False, True, 1)
    table = runtime("models", "--check")
    assert table.code == 6
    assert "NO DEPLOYMENT ANSWERS" in table.out
    assert KEY not in done.out + done.err + table.out + table.err


def test_one_healthy_deployment_of_each_route_is_enough(runtime: Runtime, vendor: Vendor) -> None:
    Path("runtime.toml").write_text(served(vendor, "a") + "[[models.a.deployments]]\nprovider = 'offline'\n")
    done = runtime("models", "--check", "--json")
    first, second = deployments(done.json).values()
    assert done.code == 0
    assert (first["check"]["ok"], first["check"]["why"]) == (False, "A_KEY is not set")
    assert second["check"]["ok"]
    assert vendor.count == 0


def test_a_class_that_cannot_be_made_is_a_failed_check(runtime: Runtime) -> None:
    for path in ("no.such_module:Chat", "langchain_core.messages:NoSuchClass", "langchain_core.messages:AIMessage"):
        Path("runtime.toml").write_text(f"[[models.a.deployments]]\nprovider = 'langchain'\npath = '{path}'\n")
        done = runtime("models", "--check", "--json")
        assert (done.code, deployments(done.json)[f"a/langchain:{path.split(':')[1]}"]["check"]["ok"]) == (6, False)


def test_a_script_of_its_own_uses_the_file_of_its_folder(process_env: dict[str, str]) -> None:
    """Without any command: `chat_model` and `embedder` ask `runtime.toml`."""
    Path("runtime.toml").write_text(
        '[[models.fast.deployments]]\nprovider = "offline"\n'
        '[embeddings.far]\nprovider = "openai-compatible"\nmodel = "m"\ndimensions = 4\nbase_url = "http://127.0.0.1:9/v1"\n'
    )
    program = (
        "from superstep import chat_model, embedder\n"
        "from superstep.runtime.faults import ConfigError\n"
        "print(chat_model('fast').invoke('ping').text, embedder('far').dimensions)\n"
        "try: chat_model('slow')\n"
        "except ConfigError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=process_env, capture_output=True, text=True, check=True)
    said, refused = done.stdout.splitlines()
    assert said == "[offline] ping 4"
    assert refused.startswith("There is no model route 'slow'. Known routes: fast.")
