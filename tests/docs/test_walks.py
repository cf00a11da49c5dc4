"""docs/architecture.md: a read and a staged write pass through the files it says, in that order."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import superstep
from superstep.checkpointer import TransactionalSaver, current_step
from tests.support.bank import BALANCE, LOG, bank, make_bank, new_thread, saver, thread
from tests.support.graphs import chain

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["bank", "make_bank", "new_thread", "saver", "thread"]

ROOT = Path(superstep.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
READ, WRITE, CHAT = re.findall(r"(?:^\d+\. .*\n)+", PAGE, re.MULTILINE)


def files_of(walk: str) -> list[str]:
    return re.findall(r"^\d+\. `(\S+?)`", walk, re.MULTILINE)


class Trace:
    """The files of ours that functions are entered in, in the order of the first entry, while it is on."""

    def __init__(self) -> None:
        self.files: list[str] = []

    def __enter__(self) -> Trace:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT):
            name = path.relative_to(ROOT).as_posix()
            if name not in self.files:
                self.files.append(name)


def in_order(walk: list[str], seen: list[str]) -> list[str]:
    return [file for file in seen if file in walk]


@pytest.mark.parametrize("hold_idle", [0.25])
async def test_a_read_and_a_write_go_where_the_page_says(saver: TransactionalSaver, thread: Any) -> None:
    fetching, staging, ending = Trace(), Trace(), Trace()

    async def node(state: Any) -> Any:
        step = current_step()
        await step.fetchval("SELECT 1")  # begins the transaction
        with fetching:
            await step.fetchval(BALANCE, 1)
        with staging:
            step.stage(LOG, "x")
        sys.setprofile(ending._note)  # from the end of the node to the commit
        return {"n": 1}

    try:
        await chain(saver, node).ainvoke({"n": 0}, thread, durability="sync")
    finally:
        sys.setprofile(None)
    await asyncio.sleep(0)
    read, write = files_of(READ), files_of(WRITE)
    assert in_order(read, [*fetching.files, *(f for f in ending.files if f not in fetching.files)]) == read
    assert in_order(write, [*staging.files, *(f for f in ending.files if f not in staging.files)]) == write
