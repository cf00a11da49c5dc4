import signal

import pytest

from superstep.runtime import faults
from superstep.runtime.cli.exits import Stopped, error_object, exit_code
from superstep.runtime.flow.jsonable import as_json_text, jsonable
from tests.support.commands import Runtime


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("x"), 1),
        (faults.ReadFailed("x", sql="", sqlstate=None), 1),
        (faults.StagedWriteFailed("x", task="", sql="", sqlstate=None), 1),
        (faults.ConfigError("x"), 3),
        (faults.GraphNotFound("x"), 3),
        (faults.GraphInvalid("x"), 3),
        (faults.InputInvalid("x"), 3),
        (faults.ThreadNotFound("x"), 3),
        (faults.ThreadMismatch("x"), 3),
        (faults.ThreadFinished("x"), 3),
        (faults.DatabaseUnavailable("x"), 4),
        (faults.PromptNotFound("x"), 3),
        (faults.PromptInvalid("x"), 3),
        (faults.UpdateInvalid("x", place="", reducer=""), 3),
        (faults.SwapRefused("x", place="", reducer=""), 3),
        (faults.SharedUnknown("x"), 3),
        (faults.SharedOutdated("x", name="", key=""), 3),
        (faults.SchemaMissing("x"), 4),
        (faults.ConflictExhausted("x"), 5),
        (faults.PromptConflict("x"), 5),
        (faults.MemoryContended("x"), 5),
        (faults.MemoryInvalid("x"), 3),
        (faults.ProviderUnavailable("x"), 6),
        (faults.ProviderExhausted("x", [RuntimeError("y")]), 6),
        (faults.ProviderRejected("x", [RuntimeError("y")]), 6),
        (faults.BudgetExceeded("x", scope="run"), 6),
        (faults.StaleRun("x"), 7),
        (faults.ThreadBusy("x"), 7),
        (Stopped(signal.SIGINT), 130),
        (Stopped(signal.SIGTERM), 143),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (faults.BudgetExceeded("x", scope="run"), "Raise the budget in runtime.toml, then: runtime resume t"),
        (faults.ProviderExhausted("x", [RuntimeError("y")]), "runtime models --check. Then: runtime resume t"),
        (faults.ProviderRejected("x", [RuntimeError("y")]), "Correct the request or the key, then: runtime resume t"),
        (faults.ProviderUnavailable("x"), "Correct the cause, then: runtime resume t"),
    ],
)
def test_what_to_do_when_models_fail(error: Exception, words: str) -> None:
    assert words in error_object(error, "t")["what_to_do"]
    assert "what_to_do" not in error_object(error)


def test_an_error_object_has_no_password_and_is_never_empty() -> None:
    shown = error_object(OSError("cannot reach postgresql://u:hunter2@h/d"), "t")
    assert shown["message"] == "cannot reach postgresql://u:***@h/d"
    assert error_object(KeyError())["message"] == "KeyError"


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["run"], ["run", "g", "--no-such"], ["threads", "--limit", "0"]]
)
def test_wrong_usage_is_exit_2(runtime: Runtime, arguments: list[str]) -> None:
    done = runtime(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Usage:" in done.err


def test_help_names_what_there_is_and_nothing_else(runtime: Runtime) -> None:
    done = runtime("--help")
    assert done.code == 0
    there = ("run", "resume", "threads", "history", "show", "graph", "models", "prompts", "memory", "db")
    for command in (*there, "submit", "worker", "cron", "effects", "import", "top"):
        assert f"\n  {command} " in done.out
    assert "dashboard" not in done.out
    assert "--isolation [step|flow]" in runtime("run", "--help").out
    assert "prune" in runtime("db", "--help").out


def test_values_json_has_no_form_for() -> None:
    from langchain_core.messages import AIMessage

    call = {"name": "f", "args": {"x": 1}, "id": "c", "type": "tool_call"}
    message = AIMessage("hi", tool_calls=[call])
    found = jsonable({"m": message, 1: {2}, "n": float("nan"), "b": b"x", "o": int})
    assert found["m"]["tool_calls"][0]["args"] == {"x": 1}
    assert (found["1"], found["n"], found["b"], found["o"]) == ([2], "nan", "eA==", "<class 'int'>")
    assert as_json_text("é\ud800", indent=None) == '"\\u00e9\\ud800"'
