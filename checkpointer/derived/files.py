"""Files and standard input as sources: one record a line. The offset of a record is that of its first byte.

Files are read forward from where ingestion stands. Each is a partition, named by its absolute path unless it is named
otherwise: then it may move. Standard input must be named, since nothing else tells one stream from another.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from superstep.checkpointer.derived.records import Format, Record
from superstep.runtime.faults import ConfigError, EventSourceFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

__all__ = ["STDIN", "LineSource"]

STDIN = Path("-")
_CHUNK = 1 << 20
_POLL = 0.2  # seconds between two looks at a file that is followed


class LineSource:
    """Lines of files, or of standard input.

    Args:
        name: of the source.
        paths: files, read one after the other; `STDIN` alone is standard input.
        form: how lines are to be read.
        partition: name of the one file, or of what comes in on standard input.
        follow: wait for more at the end of files, for ever.

    Attributes:
        read: bytes read so far.
        unfinished: files whose last line has no end and is no JSON: it is not ingested, since it may go on.

    Raises:
        ConfigError: these do not go together.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        form: Format | None = None,
        *,
        partition: str | None = None,
        follow: bool = False,
    ) -> None:
        if STDIN in paths and (len(paths) > 1 or partition is None):
            raise ConfigError(
                "Standard input is ingested alone, and needs a name by which what comes twice is recognised: give a "
                "partition (--partition NAME), another one for each stream."
            )
        if partition is not None and len(paths) != 1:
            raise ConfigError("One partition is one file: name none, and each file has its own, named by its path.")
        if not paths:
            raise ConfigError("There is no file to ingest.")
        self.name = name
        self.form = form or Format()
        self.read = 0
        self.unfinished: list[str] = []
        self._files = {partition or str(path.absolute()): path for path in paths}
        self._follow = follow

    @property
    def partitions(self) -> list[str]:
        """All partitions."""
        return list(self._files)

    def size(self) -> int | None:
        """Bytes of all files together; `None` if that is not known."""
        if self._follow or STDIN in self._files.values():
            return None
        return sum(path.stat().st_size for path in self._files.values() if path.is_file())

    async def records(self, after: Mapping[str, int]) -> AsyncIterator[Record | None]:
        """See `EventSource`."""
        open_files = [self._opened(name, path, after.get(name, -1)) for name, path in self._files.items()]
        try:
            while True:
                for lines in open_files:
                    async for record in self._all_of(lines):
                        yield record
                if not self._follow:
                    return
                yield None
                await asyncio.sleep(_POLL)
        finally:
            for lines in open_files:
                lines.close()

    async def committed(self, positions: Mapping[str, int]) -> None:
        """Nothing to do: files keep what they have."""

    def _opened(self, name: str, path: Path, after: int) -> _Lines:
        if path == STDIN:
            return _Lines(name, _StandardInput(), 0, after, streams=True)
        try:
            file = path.open("rb")
        except OSError as error:
            raise EventSourceFailed(f"{path} cannot be read: {error.strerror}.") from error
        start = max(after, 0)
        file.seek(max(start - 1, 0))
        if start and file.read(1) != b"\n":
            file.close()
            raise EventSourceFailed(
                f"{path} is not the file that was ingested as partition {name!r}: it is shorter, or no line begins "
                f"where the last one that was ingested began. Give a new file a name of its own with --partition."
            )
        return _Lines(name, file, start, after, streams=False)

    async def _all_of(self, lines: _Lines) -> AsyncIterator[Record | None]:
        """What there is right now."""
        while True:
            if lines.streams:
                yield None  # the next read may wait
            try:
                chunk = await asyncio.to_thread(lines.read, _CHUNK)
            except OSError as error:
                raise EventSourceFailed(f"Partition {lines.name!r} cannot be read: {error.strerror}.") from error
            self.read += len(chunk)
            for record in lines.split(chunk):
                yield record
            if not chunk and self._follow and lines.has_shrunk():
                raise EventSourceFailed(
                    f"The file of partition {lines.name!r} is shorter than what was read of it: it was cut off, or "
                    f"replaced. Give the new one a name of its own with --partition."
                )
            if not chunk:
                break
        if not self._follow and (last := lines.last(self.form)) is not None:
            yield last
        elif not self._follow and lines.has_rest:
            self.unfinished.append(lines.name)


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...
    def fileno(self) -> int | None: ...


class _StandardInput:
    """Gives what is there, without waiting for a full chunk."""

    def __init__(self) -> None:
        self._stream: BinaryIO = sys.stdin.buffer

    def read(self, size: int, /) -> bytes:
        read1 = getattr(self._stream, "read1", self._stream.read)
        found: bytes = read1(size)
        return found

    def close(self) -> None:
        """It is the process's."""

    def fileno(self) -> int | None:
        """A stream has no size."""
        return None


class _Lines:
    """Cuts a stream into lines, and knows where each begins.

    Invariant: `_rest` are the bytes from `_at` on that have no end of line yet.
    """

    def __init__(self, name: str, stream: _Stream, at: int, after: int, *, streams: bool) -> None:
        self.name = name
        self.streams = streams
        self._stream = stream
        self._at = at
        self._after = after
        self._rest: list[bytes] = []

    def read(self, size: int) -> bytes:
        return self._stream.read(size)

    def close(self) -> None:
        self._stream.close()

    def has_shrunk(self) -> bool:
        """Whether the file ends before what was read of it."""
        number = self._stream.fileno()
        return number is not None and os.fstat(number).st_size < self._at

    @property
    def has_rest(self) -> bool:
        return any(self._rest)

    def split(self, chunk: bytes) -> list[Record]:
        """The lines that end in this chunk and have not been ingested."""
        end = chunk.rfind(b"\n")
        if end < 0:
            self._rest.append(chunk)
            return []
        whole = b"".join([*self._rest, chunk[: end + 1]])
        self._rest = [chunk[end + 1 :]]
        found, at, begin = [], self._at, 0
        while begin < len(whole):
            stop = whole.index(b"\n", begin) + 1
            if at + begin > self._after:
                found.append(Record(self.name, at + begin, whole[begin : stop - 1]))
            begin = stop
        self._at = at + len(whole)
        return found

    def last(self, form: Format) -> Record | None:
        """The last line, if it has no end but is whole all the same."""
        from superstep.checkpointer.derived.decoding import decoded
        from superstep.checkpointer.derived.records import Refusal

        body = b"".join(self._rest)
        if not body or self._at <= self._after:
            return None
        said = decoded(body, form)
        if isinstance(said, Refusal) and said.reason == "malformed":
            return None
        self._rest = []
        return Record(self.name, self._at, body)
