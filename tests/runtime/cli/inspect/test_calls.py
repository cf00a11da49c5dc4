"""`runtime history` says which models answered, why others did not, and with which prompts."""

from __future__ import annotations

from typing import Any

from superstep.runtime.cli.inspect.calls import used_lines
from tests.support.commands import GRAPHS, Runtime


def test_history_shows_models_and_prompts(on_db: Runtime) -> None:
    run = on_db("run", f"{GRAPHS}.paying", "--thread", "t", "--json").json
    assert run["usage"]["usd"] == 0.00213
    decide = next(step for step in run["steps"] if step["nodes"] == ["decide"])
    assert (decide["prompts"], decide["usd"]) == (["plan@2", "verify@3"], 0.00213)
    listed = on_db("history", "t", "--json").json
    assert next(step for step in listed if step["nodes"] == ["decide"])["calls"] == decide["calls"]
    lines = [line.strip() for line in on_db("history", "t").out.splitlines()]
    at = lines.index("step   nodes    models and prompts")
    assert lines[at + 2 : at + 5] == [
        "1   decide   decide: strong failed: strong/openai:gpt (status 503)",
        "decide: strong/anthropic:claude answered after strong/openai:gpt (status 503) x2 · $0.0021",
        "prompts: plan@2, verify@3",
    ]
    assert not any(lines[at + 5 :]), "steps without models and prompts are not listed"
    assert max(map(len, lines)) <= 160


def test_history_without_models_is_only_a_table(on_db: Runtime) -> None:
    on_db("run", f"{GRAPHS}.counting", "--thread", "t")
    assert "models and prompts" not in on_db("history", "t").out


def call(**known: Any) -> dict[str, Any]:
    return {"node": "decide", "outcome": "answered", "model": "gpt", "usd": None, **known}


def test_calls_in_words() -> None:
    calls = [
        call(),
        call(model=None),
        call(usd=0.0),
        call(outcome="failed", model=None, route="strong", error="BudgetExceeded: used up"),
        call(outcome="failed", model=None),
        call(tried=[{"deployment": "a", "why": "status 503"}, {"deployment": "b", "why": "circuit open"}]),
    ]
    assert used_lines({"calls": calls, "prompts": []}) == [
        "decide: gpt answered x2",
        "decide: a model answered",
        "decide: strong failed: BudgetExceeded: used up",
        "decide: a model failed: no reason recorded",
        "decide: gpt answered after a (status 503), b (circuit open)",
    ]
    assert used_lines({"calls": [], "prompts": []}) == []
