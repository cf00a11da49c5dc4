"""docs/memory.md: its graph counts every visit and remembers once, its other examples and its commands run."""

from __future__ import annotations

import asyncio
import textwrap
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from superstep.checkpointer import TransactionalSaver
from tests.docs.pages import blocks, commands, page, perform

if TYPE_CHECKING:
    from tests.docs.pages import Shell

PAGE = page("memory.md")
GRAPH, CONFIGURED, VERSIONS = blocks(PAGE, "python")


def test_the_graph_counts_every_visit_and_the_commands_show_it(shell: Shell, database_url: str) -> None:
    names: dict[str, Any] = {}
    exec(GRAPH, names)

    async def visits() -> list[str]:
        said = ["likes green tea", "likes green tea", "lives in Lisbon", "likes green tea"]
        first = await names["main"](database_url, "t-0", "ada", said[0])
        return [
            first,
            *await asyncio.gather(*(names["main"](database_url, f"t-{n}", "ada", said[n]) for n in (1, 2, 3))),
        ]

    answers = asyncio.run(visits())
    assert answers[0] == "visit 1: "
    assert sorted(each.partition(":")[0] for each in answers) == [f"visit {n}" for n in (1, 2, 3, 4)]
    assert all("likes green tea" in each for each in answers[1:])
    listed, searched, past = perform(commands(PAGE), shell).values()
    assert listed.count("green tea") == 1
    assert "Lisbon" in listed
    assert searched.index("green tea") < searched.index("Lisbon")
    assert past.strip() == "[]"


async def test_the_other_examples(database_url: str, capsys: Any) -> None:
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        names: dict[str, Any] = {"saver": saver, "moment": datetime.now(UTC)}
        exec(CONFIGURED, names)
        await names["store"].aput(("users", "ada"), "visits", {"n": 1, "parts": [{"title": "one"}]})
        exec("async def example():\n" + textwrap.indent(VERSIONS, "    ") + "    return past", names)
        past = await names["example"]()
        assert await past.aget(("users", "ada"), "visits") is None
    assert "{'n': 1" in capsys.readouterr().out
