"""What the spinner says, and when."""

import io

import pytest
from langchain_core.messages import AIMessageChunk
from rich.console import Console

from superstep.runtime.cli.run.progress import RunProgress


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=80, _environ={})


def test_the_time_moves_while_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = RunProgress(terminal())
    progress.began = 0.0
    for now, shown in ((3.9, "starting · 3 s"), (75.0, "starting · 1 min 15 s")):
        monkeypatch.setattr("time.monotonic", lambda now=now: now)
        assert progress.at_work() == shown
    progress.node_started(1, "b")
    progress.node_started(2, "b")
    progress.node_started(3, "a")
    assert progress.at_work() == "a, b x2 · 1 min 15 s"


@pytest.mark.parametrize("stream", [None, "updates", "messages"])
def test_it_is_shown_before_the_first_token_and_read_as_no_markup(stream: str | None) -> None:
    out = terminal()
    with RunProgress(out, stream=stream) as progress:
        progress.node_started(1, "[link=http://evil]x[/link]")
        assert progress._status is not None
        progress._status._live.refresh()
    assert isinstance(out.file, io.StringIO)
    assert "[link=http://evil]x[/link] · 0 s" in out.file.getvalue()


def test_tokens_are_not_torn_apart() -> None:
    out = terminal()
    with RunProgress(out, stream="messages") as progress:
        assert progress._status is not None
        for text, live in (("one ", False), ("two", False), ("\n", True), ("three", False)):
            progress.chunk("messages", (AIMessageChunk(text), {}))
            assert progress._status._live.is_started == live
        progress.end_line()
        assert progress._status._live.is_started
    assert isinstance(out.file, io.StringIO)
    assert "one two\n" in out.file.getvalue()
