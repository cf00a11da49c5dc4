"""Every command and example of the README, run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph

from superstep import Aggregate, Record, seed_prompts, shared, transactional
from superstep.checkpointer import TransactionalSaver
from superstep.checkpointer.shared import declared
from superstep.reducers import append, merge
from tests.docs.pages import perform

if TYPE_CHECKING:
    from tests.docs.pages import Shell

ROOT = Path(__file__).parents[2]
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")
README = (ROOT / "README.md").read_text(encoding="utf-8")


class Case(TypedDict, total=False):
    card: str
    case: str
    question: str
    plan: str
    done: bool


class Verdict(TypedDict, total=False):
    """State of the example with a prompt."""

    account_id: str
    verdict: str


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


COMMANDS = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    keys = (*KEYS, "BUREAU_URL")
    scripts = str(Path(sys.executable).parent)
    return {
        **{key: value for key, value in os.environ.items() if key not in keys},
        "DATABASE_URL": database_url,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{scripts}:{os.environ['PATH']}",
    }


def run(command: list[str], environment: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_is_short_and_prints_what_it_says(environment: dict[str, str], tmp_path: Path) -> None:
    example, *_ = blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 25
    (tmp_path / "example.py").write_text(
        example.replace("from_conn_string()", "from_conn_string(__import__('os').environ['DATABASE_URL'])")
    )
    for _ in range(2):  # and again, on what the first time has left
        assert run([sys.executable, "example.py"], environment, tmp_path) == "[30, 70]\n"


def test_every_command_is_known() -> None:
    assert [command for command in COMMANDS if not command.startswith("runtime ")] == ["make demo", "make test"]
    assert len(COMMANDS) == 21


def test_runtime_commands_in_their_order(shell: Shell, tmp_path: Path) -> None:
    """With the prompt of the README in its folder, and its routes, whose keys need not be set for any of this."""
    (prompt,) = blocks("markdown")
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "verify.md").write_text(prompt)
    commands = [command for command in COMMANDS if command.startswith("runtime ")]
    asks = ("--thread van", "--thread pay", 'approved": true', "--thread large", "--thread odd")
    ends = ("E-bo", "S-eli")
    waits = {each: 10 for each in commands if any(ask in each for ask in asks) and not any(end in each for end in ends)}
    shown = perform(commands, shell, waits)
    assert re.search(r"^ +5 +review ", shown["runtime history van"], re.MULTILINE)
    assert '"reviewed": true' in shown["runtime resume van --value true"]
    assert "paid to" in next(text for command, text in shown.items() if "E-bo" in command)
    assert "production → 1" in shown["runtime prompts list"]
    assert "offline" in shown["runtime models"]


async def test_the_node_with_a_prompt_and_a_model(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)
    (text,) = blocks("markdown")
    (tmp_path / "verify.md").write_text(text)
    _, _, node = blocks("python")
    there: dict[str, Any] = {}
    exec(compile(node, "README.md", "exec"), there)
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        async with saver.transaction() as tx:
            await tx.execute("CREATE TABLE account AS SELECT 'A-1' AS id, 100 AS balance")
        assert await seed_prompts(saver, tmp_path) == ["verify"]
        builder = StateGraph(Verdict).add_node("verify", there["verify"]).add_edge(START, "verify")
        flow = transactional(builder.compile(checkpointer=saver))
        out = await flow.ainvoke({"account_id": "A-1"}, {"configurable": {"thread_id": "t"}})
        assert '"balance": 100' in out["verdict"]
        (step,) = (await flow.areport({"configurable": {"thread_id": "t"}})).steps
        assert step.prompts == ["verify@1"]
        assert step.calls[0]["prompt"] == "verify@1"


async def test_the_four_shapes_are_read_and_written_in_one_step(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declared, "_declared", dict(declared._declared))
    shared("case", reducer=merge(notes=append()), default={"notes": []})
    _, source, _ = blocks("python")
    there: dict[str, Any] = {}
    exec(compile(source, "README.md", "exec"), there)
    payment = {"type": "payment", "at": "2026-01-01T10:00:00Z", "card": "C-1"}
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        await saver.ingestion.declare(Aggregate.of("velocity", events="payment", key="card", compute=["count"]))
        await saver.ingestion.ingest("tests", [Record("0", 0, json.dumps(payment).encode())])
        async with saver.transaction() as tx:
            await tx.execute("CREATE TABLE article (id text, content text, metadata jsonb, embedding vector(3))")
            await tx.execute("INSERT INTO article VALUES ('a', 'how to', '{}', '[1,0,0]')")
            await tx.execute("CREATE TABLE action (plan text)")

        async def embed(texts: list[str]) -> list[list[float]]:
            return [[1.0, 0.0, 0.0] for _ in texts]

        saver.embedder.own = embed
        builder = StateGraph(Case).add_node("planner", there["planner"]).add_node("executor", there["execute"])
        builder.add_edge(START, "planner").add_edge("planner", "executor")
        flow = transactional(builder.compile(checkpointer=saver, store=saver.store))
        given = {"card": "C-1", "case": "K-1", "question": "a refund?"}
        for before in range(2):
            out = await flow.ainvoke(given, {"configurable": {"thread_id": str(before)}})
            assert (out["plan"], out["done"]) == (f"1 payments, 1 articles, {before} notes before", True)


@pytest.mark.timeout(400)  # nine commands, each in processes of its own
def test_make_demo_runs_the_demonstration(environment: dict[str, str], tmp_path: Path) -> None:
    """The target itself only adds the virtual environment, which is the one that runs this test."""
    recipe = re.search(r"^demo:.*\n\t@?(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert recipe.group(1) == "$(BIN)/python -m superstep.graphs.underwriting.demo"
    shown = run([sys.executable, "-m", "superstep.graphs.underwriting.demo"], environment, tmp_path)
    assert '"outcome": "approve"' in shown
    assert "never exceeded" in shown
    _, _, queue = shown.partition("\nSix applications")
    (documented,) = [text for text in blocks("text") if "Six applications" in text]
    _, _, documented = documented.partition("\nSix applications")
    lines = [line for line in queue.splitlines() if not line.startswith("$")]
    assert [_without_workers(line) for line in lines] == [_without_workers(line) for line in documented.splitlines()]
    (killed,) = re.findall(r"^  (worker \d) killed", queue, re.MULTILINE)
    assert f"approve 3,000.00  ({killed} then worker {3 - int(killed[-1])})" in queue
    assert re.search(r"^ +5 +commit +(direct|replay)", shown, re.MULTILINE)


def _without_workers(line: str) -> str:
    """Which of the two comes first is nobody's choice."""
    return re.sub(r"\(worker.*\)$|worker \d", "a worker", line)


def test_commands_of_the_table_exist(environment: dict[str, str], tmp_path: Path) -> None:
    helped = run([sys.executable, "-m", "superstep.runtime", "--help"], environment, tmp_path)
    for name in re.findall(r"`runtime (\w+)", README):
        assert re.search(rf"^ +{name}\b", helped, re.MULTILINE), name


def test_the_settings_shown_are_accepted(environment: dict[str, str], tmp_path: Path) -> None:
    settings = "\n".join(blocks("toml"))
    tomllib.loads(settings)
    (tmp_path / "runtime.toml").write_text(settings)
    run([sys.executable, "-m", "superstep.runtime", "threads"], environment, tmp_path)
    assert "gpt-5.4-mini" in run([sys.executable, "-m", "superstep.runtime", "models"], environment, tmp_path)
