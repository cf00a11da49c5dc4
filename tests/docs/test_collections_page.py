"""docs/collections.md: its examples and its commands run, its tables name what there is."""

from __future__ import annotations

import ast
import inspect
import re
from typing import TYPE_CHECKING, Any

from superstep import CollectionVectorStore, TransactionalSaver, current_step, transactional
from superstep.checkpointer.collections.catalog import Collections
from superstep.checkpointer.collections.collection import Collection
from superstep.checkpointer.collections.filters import OPERATORS
from tests.docs.pages import blocks, commands, page, perform
from tests.support.graphs import chain, config_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.docs.pages import Shell

PAGE = page("collections.md")


async def test_the_examples_run(database_url: str) -> None:
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        names: dict[str, Any] = {
            "saver": saver,
            "current_step": current_step,
            "CollectionVectorStore": CollectionVectorStore,
        }
        first, *others = blocks(PAGE, "python")
        await run(first, names)
        policy: Collection = names["policy"]
        await policy.add([{"content": "limits are 50", "metadata": {"tenant": "a", "year": 2025}}, "cats sleep"])
        found: list[Any] = []

        async def node(state: Any) -> Any:
            found.append(await names["answer"]({"question": "what are the limits?"}))
            return {"n": 1}

        await transactional(chain(saver, node)).ainvoke({"n": 0}, config_of("t"))
        assert found[0]["found"][0] == "limits are 50"
        assert await policy.count() == 3
        for each in others:
            await run(each, names)
        assert [row["content"] for row in names["rows"]] == ["limits are 50"]
        assert names["passage"].page_content == "Refunds take two days."


async def run(source: str, names: dict[str, Any]) -> None:
    code = compile(source, "docs/collections.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, names)
    if inspect.isawaitable(result):
        await result


def test_the_commands_run(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "manual").mkdir()
    (tmp_path / "manual" / "refunds.md").write_text("# Refunds\n\nA refund takes two days.\n")
    shown = perform(commands(PAGE), shell)
    assert any("two days" in each for each in shown.values())


def test_every_operator_and_method_is_one() -> None:
    table = PAGE.split("| operator |", 1)[1].split("\n\n", 1)[0]
    assert set(re.findall(r"`(\$\w+)`", table)) == set(OPERATORS)
    table = PAGE.split("| call |", 1)[1].split("\n\n", 1)[0]
    assert all(hasattr(Collection, each) for each in re.findall(r"c\.(\w+)\(", table))
    assert all(hasattr(Collections, each) for each in re.findall(r"(?:collections)?\.(get|all|drop)\(", table))
