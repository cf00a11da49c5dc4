"""Tests run in a process of their own."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from superstep.graphs.workspace import seed, testing
from superstep.graphs.workspace.merging import digest

if TYPE_CHECKING:
    import pytest

HEAD = "import os, subprocess, sys, time, unittest\nclass T(unittest.TestCase):\n    def test(self):\n        "


async def test_the_example_files_pass_and_a_broken_one_does_not() -> None:
    passed = await testing.run_tests(seed.FILES)
    assert (passed.passed, passed.digest) == (True, digest(seed.FILES))
    broken = {**seed.FILES, "prices.py": seed.FILES["prices.py"].replace("+ 50", "+ 500")}
    failed = await testing.run_tests(broken)
    assert (failed.passed, failed.digest) == (False, digest(broken))
    assert "FAILED" in failed.output


async def test_they_see_the_given_files_and_nothing_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.chdir(tmp_path)
    code = HEAD + "self.assertEqual((os.listdir('.'), os.environ.get('OPENAI_API_KEY')), (['test_a.py'], None))\n"
    assert (await testing.run_tests({"test_a.py": code})).passed
    assert not any(tmp_path.iterdir())  # noqa: ASYNC240 - a folder of this test


async def test_they_end_after_a_while_with_all_they_have_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(testing, "SECONDS", 1.0)
    file = tmp_path / "pid"
    start = "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n        "
    code = HEAD + start + f"open({str(file)!r}, 'w').write(str(child.pid))\n        time.sleep(60)\n"
    ended = await testing.run_tests({"test_a.py": code})
    assert not ended.passed
    assert "longer than 1 s" in ended.output
    pid = int(file.read_text())
    until = time.monotonic() + 10
    while _runs(pid):
        assert time.monotonic() < until
        await asyncio.sleep(0.01)


async def test_they_end_by_themselves_if_nobody_ends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testing, "SECONDS", 0.0)  # the alarm comes a second later
    monkeypatch.setattr(testing.subprocess.Popen, "communicate", lambda process, **_: (b"", process.wait(30)))
    assert not (await testing.run_tests({"test_a.py": HEAD + "time.sleep(60)\n"})).passed


def _runs(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody waits for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
