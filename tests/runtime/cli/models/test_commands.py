"""`runtime models`: what is configured and whether it works; and which commands mind a wrong table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.runtime.cli.models.routes import TWO_ROUTES, deployments
from tests.support.commands import GRAPHS, Runtime
from tests.support.vendors import Vendor, hang_up, status

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-very-secret-0123456789"


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


# -- checks: each deployment gets a request ----------------------------------------------------------------------


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
