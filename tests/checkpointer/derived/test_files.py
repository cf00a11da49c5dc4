"""Files as sources: where lines begin, going on, following, files that are others."""

from __future__ import annotations

import asyncio
import io
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superstep.checkpointer import STDIN, LineSource, Record, TransactionalSaver, pump
from superstep.checkpointer.derived.files import _Lines
from superstep.runtime.faults import ConfigError, EventSourceFailed
from tests.checkpointer.derived.payments import ALL, Payment

if TYPE_CHECKING:
    from collections.abc import Mapping


async def read(source: LineSource, after: Mapping[str, int] | None = None) -> list[Record]:
    return [each async for each in source.records(after or {}) if each is not None]


@given(st.lists(st.binary(max_size=8).filter(lambda line: b"\n" not in line)), st.lists(st.integers(1, 12)))
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], cuts: list[int]) -> None:
    content = b"".join(line + b"\n" for line in lines)
    found, rest = [], io.BytesIO(content)
    cutter = _Lines("p", rest, 0, -1, streams=False)
    for size in [*cuts, len(content) + 1]:
        found += cutter.split(cutter.read(size))
    assert [each.body for each in found] == lines
    assert [content[each.offset : each.offset + len(each.body)] for each in found] == lines


async def test_a_file_is_gone_on_with_behind_the_last_line_that_was_ingested(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"one\ntwo\n\nfour\n")
    source = LineSource("s", [file])
    assert [(each.offset, each.body) for each in await read(source)] == [
        (0, b"one"),
        (4, b"two"),
        (8, b""),
        (9, b"four"),
    ]
    with file.open("ab") as more:
        more.write(b"five\n")
    assert [each.body for each in await read(source, {str(file): 9})] == [b"five"]
    assert [each.body for each in await read(source, {str(file): 0})] == [b"two", b"", b"four", b"five"]


async def test_a_last_line_without_an_end_counts_if_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    whole = b'{"type": "x", "at": 1}'
    file.write_bytes(b"{}\n" + whole)
    source = LineSource("s", [file])
    assert (await read(source))[-1].body == whole
    file.write_bytes(b"{}\n" + whole[:-1])
    source = LineSource("s", [file])
    assert len(await read(source)) == 1
    assert source.unfinished == [str(file)]


async def test_another_file_of_the_same_name_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"short\n")
    for position in (3, 100):
        with pytest.raises(EventSourceFailed, match="--partition"):
            await read(LineSource("s", [file]), {str(file): position})
    with pytest.raises(EventSourceFailed, match="cannot be read"):
        await read(LineSource("s", [tmp_path / "none"]))


def test_what_does_not_go_together() -> None:
    for paths, partition in (([STDIN], None), ([STDIN, Path("a")], "p"), ([Path("a"), Path("b")], "p"), ([], None)):
        with pytest.raises(ConfigError):
            LineSource("s", paths, partition=partition)


async def test_a_pump_ingests_to_the_end_and_goes_on(saver: TransactionalSaver, tmp_path: Path) -> None:
    ingestion = saver.ingestion
    await ingestion.declare(*ALL)
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_bytes(b"".join(Payment(n).record(0).body + b"\n" for n in range(25)))
    progress: list[int] = []
    done = await pump(
        ingestion, LineSource("s", files), batch=10, progress=lambda now: progress.append(now.counts.events)
    )
    assert (done.counts.events, progress) == (50, [10, 20, 30, 40, 50])
    assert all(each.ended for each in await ingestion.partitions())
    with files[0].open("ab") as more:
        more.write(Payment(30).record(0).body + b"\n")
    done = await pump(ingestion, LineSource("s", files))
    assert (done.counts.events, done.counts.duplicates, done.batches) == (1, 0, 1)
    assert (await ingestion.signal("total", ["A", "EUR"])).value == Decimal("76.5")


async def test_a_file_that_is_followed_is_ingested_as_it_grows(saver: TransactionalSaver, tmp_path: Path) -> None:
    ingestion, file = saver.ingestion, tmp_path / "a"
    await ingestion.declare(*ALL)
    file.write_bytes(b"")
    counted = asyncio.Event()
    goal = 0

    def look(now: Any) -> None:
        if now.counts.events >= goal:
            counted.set()

    following = asyncio.create_task(pump(ingestion, LineSource("s", [file], follow=True), progress=look))
    for goal in (2, 4):
        line = Payment(goal).record(0).body + b"\n"
        with file.open("ab") as more:
            more.write(line + line[:20])
            more.flush()
            more.write(line[20:])
        await asyncio.wait_for(counted.wait(), 20)
        counted.clear()
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        await following
    (status,) = await ingestion.partitions()
    assert (status.events, status.ended) == (4, False)


async def test_a_file_that_is_cut_off_while_it_is_followed_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one\ntwo\n")
    source = LineSource("s", [file], follow=True).records({})
    assert [await anext(source) for _ in range(2)]
    file.write_bytes(b"x")
    with pytest.raises(EventSourceFailed, match="shorter"):
        async for _ in source:
            pass


async def test_an_error_of_the_source_leaves_what_came_before(saver: TransactionalSaver) -> None:
    await saver.ingestion.declare(*ALL)

    class Broken(LineSource):
        async def records(self, after: Any) -> Any:
            for n in range(15):
                yield Payment(n).record(n)
            raise EventSourceFailed("gone")

    with pytest.raises(EventSourceFailed):
        await pump(saver.ingestion, Broken("s", [Path("x")]), batch=10)
    assert await saver.ingestion.positions("s") == {"p": 9}


async def test_a_batch_that_fails_is_noticed_while_the_source_waits(
    saver: TransactionalSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waiting(LineSource):
        async def records(self, after: Any) -> Any:
            yield Payment(1).record(1)
            while True:
                yield None
                await asyncio.sleep(0)

    async def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    ingestion = saver.ingestion
    monkeypatch.setattr(ingestion, "ingest", fail)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(pump(ingestion, Waiting("s", [Path("x")])), 20)
