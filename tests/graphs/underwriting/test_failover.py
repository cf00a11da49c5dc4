"""A provider is killed in the middle of a run of the command: the flow completes on the other one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.vendors import vendor_process

if TYPE_CHECKING:
    from tests.support.vendors import VendorProcess

ROOT = Path(__file__).parents[3]
KEYS = {"FIRST_KEY": "sk-first-0123456789", "SECOND_KEY": "sk-second-0123456789"}

ROUTE = """
[[models.{route}.deployments]]
provider = "openai-compatible"
model = "m-1"
base_url = "{first}"
api_key_env = "FIRST_KEY"
retries = 0

[[models.{route}.deployments]]
provider = "anthropic"
model = "m-2"
base_url = "{second}"
api_key_env = "SECOND_KEY"
price = {{ input = 3.0, output = 15.0 }}
"""


@pytest.fixture
def environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    ours = ("OPENAI_", "ANTHROPIC_", "RUNTIME_", "BUREAU_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, **KEYS, "DATABASE_URL": database_url, "PYTHONPATH": str(ROOT)}


def runtime(*arguments: str, folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "superstep.runtime", *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=100)
    for key in KEYS.values():
        assert key not in out + err
    return process.returncode, out, err


def settings(first: VendorProcess, second: VendorProcess, folder: Path) -> None:
    routes = [ROUTE.format(route=route, first=first.openai_url, second=second.url) for route in ("fast", "strong")]
    (folder / "runtime.toml").write_text("\n".join(routes))


def run_with_a_death(vendor: VendorProcess, *, folder: Path, environment: dict[str, str]) -> tuple[int, str, str]:
    """Run the flow to its end, and kill a vendor that has answered the plan and holds the decision back."""
    run = runtime("run", "graphs.underwriting", "--thread", "t", "--json", folder=folder, environment=environment)
    assert vendor.next_request()["schema"] == "PlanDraft"
    assert vendor.next_request()["schema"] == "Proposal"
    vendor.kill()
    return ended(run)


def history(thread: str, *more: str, folder: Path, environment: dict[str, str]) -> Any:
    code, out, err = ended(runtime("history", thread, *more, folder=folder, environment=environment))
    assert code == 0, err
    return json.loads(out) if "--json" in more else out


def test_the_flow_completes_on_the_second_provider_and_history_shows_why(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with (
        vendor_process("--reply", "underwriting", "--hold-after", "1") as first,
        vendor_process("--reply", "underwriting") as second,
    ):
        settings(first, second, tmp_path)
        code, out, err = run_with_a_death(first, folder=tmp_path, environment=environment)
    assert code == 0, err
    report = json.loads(out)
    assert report["status"] == "completed"
    assert report["values"]["decision"]["outcome"] == "approve"
    assert report["values"]["decision"]["recorded"]
    assert report["usage"]["llm_paid"] == 2

    steps = history("t", "--json", folder=tmp_path, environment=environment)
    calls = {call["node"]: call for step in steps for call in step["calls"]}
    assert calls["plan"]["deployment"] == "fast/openai-compatible:m-1"
    assert calls["plan"]["tried"] == []
    assert calls["decide"]["deployment"] == "strong/anthropic:m-2"
    (left,) = calls["decide"]["tried"]
    assert (left["deployment"], left["why"]) == ("strong/openai-compatible:m-1", "connection failed")
    assert calls["decide"]["usd"] == pytest.approx((7 * 3.0 + 3 * 15.0) / 1e6)
    shown = history("t", folder=tmp_path, environment=environment)
    assert "strong/openai-compatible:m-1" in shown
    assert "connection failed" in shown


def test_without_a_second_provider_the_run_fails_and_resume_completes_it(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """The plan is paid for once: the resumed run starts where the failed one stood."""
    with (
        vendor_process("--reply", "underwriting", "--hold-after", "1") as first,
        vendor_process("--reply", "underwriting") as second,
    ):
        settings(first, first, tmp_path)
        code, out, _ = run_with_a_death(first, folder=tmp_path, environment=environment)
        assert code == 6
        report = json.loads(out)
        assert (report["status"], report["error"]["type"]) == ("failed", "ProviderExhausted")

        settings(second, second, tmp_path)
        code, out, err = ended(runtime("resume", "t", "--json", folder=tmp_path, environment=environment))
        assert code == 0, err
        assert json.loads(out)["values"]["decision"]["recorded"]
        assert second.next_request()["schema"] == "Proposal"
    failed = [
        call
        for step in history("t", "--json", folder=tmp_path, environment=environment)
        for call in step["calls"]
        if call["outcome"] == "failed"
    ]
    assert [call["node"] for call in failed] == ["decide"]
