import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from superstep.checkpointer import ThreadSummary
from superstep.runtime.cli.inspect.views import print_history, print_threads
from tests.support.commands import GRAPHS, Runtime


def test_threads_history_and_show(on_db: Runtime) -> None:
    assert "No threads yet" in on_db("threads").out
    on_db("run", f"{GRAPHS}.counting", "--thread", "done")
    on_db("run", f"{GRAPHS}.asking", "--input", '{"amount": 5}', "--thread", "asks")

    listed = on_db("threads", "--json").json
    assert [(one["thread_id"], one["status"]) for one in listed] == [("asks", "interrupted"), ("done", "completed")]
    assert len(on_db("threads", "--limit", "1", "--json").json) == 1
    assert [one["thread_id"] for one in on_db("threads", "--after", "asks", "--json").json] == ["done"]
    assert on_db("threads", "--after", "done", "--json").json == []
    assert on_db("threads", "--after", "nobody").code == 3
    table = on_db("threads").out
    assert "asks" in table
    assert "interrupted" in table

    steps = on_db("history", "done", "--json").json
    assert [step["nodes"] for step in steps if step["nodes"]] == [["first"], ["second"]]
    assert on_db("history", "done", "--limit", "1", "--json").json == steps[-1:]
    table = on_db("history", "done").out
    short = table.split()[-1]
    assert steps[-1]["checkpoint_id"].startswith(short)
    assert on_db("show", "done", "--checkpoint", short, "--json").json["checkpoint_id"] == steps[-1]["checkpoint_id"]
    assert "direct" in table or "replay" in table

    head = on_db("show", "asks", "--json").json
    assert (head["values"]["amount"], head["next"], head["interrupts"][0]["value"]) == (5, ["ask"], {"approve": 5})
    shown = on_db("show", "asks").out
    assert "next: ask" in shown
    assert "runtime resume asks" in shown
    first = next(step["checkpoint_id"] for step in steps if step["nodes"] == ["first"])
    earlier = on_db("show", "done", "--checkpoint", first, "--json").json
    assert (earlier["values"]["number"], earlier["next"]) == (41, ["second"])


def test_history_fits_a_terminal(on_db: Runtime) -> None:
    for name in ("counting", "paying", "asking_models"):
        on_db("run", f"{GRAPHS}.{name}", "--thread", name)
        steps = on_db("history", name, "--json").json
        out = Console(file=io.StringIO(), width=80)
        print_history(steps, out)
        lines = [line for line in out.file.getvalue().splitlines() if line.strip()]  # type: ignore[attr-defined]
        assert max(map(len, lines)) <= 80
        shown = [line.split() for line in lines[2 : 2 + len(steps)]]
        assert [words[0] for words in shown] == [str(step["step"]) for step in steps], "one line a super-step"
        for words, step in zip(shown, steps, strict=True):
            assert step["checkpoint_id"].startswith(words[-1])


def test_the_beginning_of_an_id_is_enough(on_db: Runtime) -> None:
    for thread in ("thread-one", "thread-two"):
        on_db("run", f"{GRAPHS}.asking", "--input", '{"amount": 5}', "--thread", thread)
    assert on_db("show", "thread-o", "--json").json["thread_id"] == "thread-one"
    several = on_db("show", "thread-")
    assert (several.code, "2 threads begin with thread-" in several.err) == (3, True)
    assert on_db("show", "thr").code == 3, "too short to be meant"
    answered = on_db("resume", "thread-o", "--value", "1", "--json").json
    assert (answered["thread_id"], answered["status"]) == ("thread-one", "completed")
    on_db("run", f"{GRAPHS}.counting", "--thread", "thread-on")
    beginning = on_db("history", "thread-on", "--json").json[0]["checkpoint_id"][:4]
    for command in ("resume", "show"):
        vague = on_db(command, "thread-on", "--checkpoint", beginning)
        assert (vague.code, "checkpoints of thread-on begin" in vague.err) == (3, True)
    assert on_db("show", "thread-on", "--json").json["thread_id"] == "thread-on", "a whole id comes first"


@pytest.mark.parametrize("command", [["history", "nope"], ["show", "nope"], ["resume", "nope"]])
def test_an_unknown_thread(on_db: Runtime, command: list[str]) -> None:
    done = on_db(*command)
    assert (done.code, done.out.replace("\n", "")) == (3, "")
    assert "There is no thread nope" in done.err


def test_an_unknown_checkpoint(on_db: Runtime) -> None:
    on_db("run", f"{GRAPHS}.counting", "--thread", "t")
    done = on_db("show", "t", "--checkpoint", "nope")
    assert done.code == 3
    assert "no checkpoint nope" in done.err


def test_control_characters_do_not_reach_the_terminal(on_db: Runtime) -> None:
    done = on_db("run", f"{GRAPHS}.various:greet", "--input", '"\\u001b[31mred"', "--thread", "t")
    assert "\x1b" not in done.out
    assert "\x1b" not in on_db("show", "t").out


def test_a_graph_is_drawn_without_a_database(runtime: Runtime, tmp_path: Path) -> None:
    drawn = runtime("graph", f"{GRAPHS}.counting")
    assert drawn.code == 0
    assert "first --> second" in drawn.out
    assert "first" in runtime("graph", f"{GRAPHS}.counting", "--format", "ascii").out
    assert runtime("graph", f"{GRAPHS}.counting", "-o", "graph.mmd").out == ""
    assert "first --> second" in (tmp_path / "graph.mmd").read_text()
    assert runtime("graph", f"{GRAPHS}.nope").code == 3
    assert not (tmp_path / ".runtime").exists()


def test_a_png_needs_a_drawer(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_core.runnables.graph import Graph

    def offline(*_: object, **__: object) -> bytes:
        raise ConnectionError("no network")

    monkeypatch.setattr(Graph, "draw_mermaid_png", offline)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = runtime("graph", f"{GRAPHS}.counting", "--format", "png", "-o", "x.png")
    assert done.code == 3
    assert "pygraphviz" in done.err


def test_the_list_of_threads_fits_a_terminal_and_its_ids_will_do(on_db: Runtime) -> None:
    for _ in range(3):
        on_db("run", f"{GRAPHS}.counting")
    on_db("run", f"{GRAPHS}.counting", "--thread", "a-name-that-somebody-has-chosen")
    listed = on_db("threads", "--json").json
    long = "superstep.graphs.underwriting"
    now = datetime.now(UTC)
    about = {"status": "interrupted", "error": None, "steps": 12345, "created_at": now, "updated_at": now}
    threads = [ThreadSummary(thread_id=each["thread_id"], graph=long, **about) for each in listed]
    out = Console(file=io.StringIO(), width=80)
    print_threads(threads, out)
    lines = [line for line in out.file.getvalue().splitlines() if line.strip()]  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80
    shown = [line.split()[0] for line in lines[2:] if "12345" in line]
    assert len(shown) == 4, "one line a thread begins with its id"
    for short, each in zip(shown, listed, strict=True):
        assert on_db("history", short, "--json").code == 0
        assert each["thread_id"].startswith(short)
    assert [len(short) for short in shown[1:]] == [8, 8, 8]
