"""docs/from-postgressaver.md: the old program's threads are imported by its commands, and the new one goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from superstep import TransactionalSaver
from tests.docs.pages import blocks, commands, page, perform

if TYPE_CHECKING:
    from pathlib import Path

    from tests.docs.pages import Shell

PAGE = page("from-postgressaver.md")


def programs() -> dict[str, Any]:
    """All code of the page, in one module."""
    scope: dict[str, Any] = {"__name__": "app_of_page"}
    for each in blocks(PAGE, "python"):
        exec(compile(each, "from-postgressaver.md", "exec", dont_inherit=True), scope)
    return scope


async def test_a_program_moves_over(database_url: str) -> None:
    code = programs()
    for thread in ("contract", "other"):
        await code["start"](database_url, thread)
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        threads, read, stored, refused = await code["take_over"](saver, database_url)
    assert threads == {"imported": 2, "continued": 0, "there": 0, "changed": 0, "refused": 0}
    assert (read, refused) == (stored, [])
    done = await code["answer"](database_url, "contract", "Ana")
    assert done == {"lines": ["draft", "approved by Ana"]}


async def _two_threads(url: str) -> None:
    code = programs()
    for thread in ("contract", "other"):
        await code["start"](url, thread)


def test_the_commands_run(shell: Shell, database_url: str, tmp_path: Path) -> None:
    asyncio.run(_two_threads(database_url))
    (tmp_path / "app.py").write_text(blocks(PAGE, "python")[0])
    dry, done, threads, resumed = perform(commands(PAGE), shell).values()
    assert "would be stored" in dry
    rows = [
        line.split() for line in done.splitlines() if line.split()[:1] in (["threads"], ["checkpoints"], ["writes"])
    ]
    assert len(rows) == 3
    assert all(read == stored != "0" for _, read, stored in rows)
    assert threads.count("interrupted") == 2
    assert "approved by Ana" in resumed
