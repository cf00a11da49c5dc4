"""Bringing files into a collection, one file or some hundred documents a transaction.

Stopped half way, the command goes on where it was when it is repeated: what is there already is passed over.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from superstep.checkpointer import dimensions_of
from superstep.runtime.cli.collections.dumps import read_dump
from superstep.runtime.cli.collections.files import DUMPS, documents_of, find_files
from superstep.runtime.faults import DocumentInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from superstep.checkpointer import Collection, Document
    from superstep.runtime.cli.collections.files import Chunking

__all__ = ["Added", "add_paths", "dimensions_of_dumps"]


@dataclass(slots=True)
class Added:
    """What adding came to.

    Attributes:
        files: how many were read.
        added: documents that are new, or were replaced.
        kept: documents that were there.
        removed: sources that are gone, by name.
        skipped: files that are no texts, with the reason.
    """

    files: int = 0
    added: int = 0
    kept: int = 0
    removed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


async def add_paths(
    collection: Collection,
    paths: Sequence[Path],
    chunking: Chunking,
    *,
    sync: bool,
    advance: Callable[[str, int, int], None],
) -> Added:
    """Bring files and folders into a collection.

    Args:
        collection: which.
        paths: files, and folders with all that is in them.
        chunking: how texts are cut.
        sync: delete what came from files below these paths that are not there any more.
        advance: told of each file as it begins: its name, its number, and how many there are.

    Raises:
        DocumentInvalid: a path that was named is not there, or is no text; or a row of a dump is none.
        VectorInvalid: an embedding does not fit.
    """
    files, missing = await asyncio.to_thread(find_files, paths)
    if missing and not sync:
        raise DocumentInvalid(f"There is nothing at {', '.join(missing)}.")
    done, named = Added(), set(paths)
    for number, path in enumerate(files):
        advance(path.as_posix(), number, len(files))
        if path.suffix.lower() in DUMPS:
            await _add_dump(collection, path, chunking.metadata, done)
        else:
            try:
                documents = await asyncio.to_thread(documents_of, path, chunking)
            except DocumentInvalid as e:
                if path in named:
                    raise
                done.skipped[path.as_posix()] = str(e)
                continue
            added, kept = await collection.put_source(path.as_posix(), documents)
            done.added, done.kept = done.added + added, done.kept + kept
        done.files += 1
    if sync:
        await _remove_gone(collection, paths, {path.as_posix() for path in files} - done.skipped.keys(), done)
    advance("", len(files), len(files))
    return done


def dimensions_of_dumps(paths: Sequence[Path]) -> int | None:
    """How many the first vector has that a dump among these brings; `None` if none does."""
    for path in find_files(paths)[0]:
        first = next(read_dump(path, {}), None) if path.suffix.lower() in DUMPS else None
        if first is not None and first[0].embedding is not None:
            return dimensions_of(first[0].embedding)
    return None


async def _add_dump(collection: Collection, path: Path, metadata: Mapping[str, Any], done: Added) -> None:
    batches = read_dump(path, metadata)
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        new = await _new(collection, batch)
        await collection.add(new)
        done.added, done.kept = done.added + len(new), done.kept + len(batch) - len(new)


async def _new(collection: Collection, batch: Sequence[Document]) -> list[Document]:
    """Those that have to be written: what brings its vector costs nothing, and what is there as it is was embedded."""
    there = {row["id"]: row for row in await collection.get([each.id for each in batch if each.embedding is None])}
    return [
        each
        for each in batch
        if (row := there.get(each.id)) is None
        or row["content"] != each.content
        or collection.metadata(row) != dict(each.metadata)
    ]


async def _remove_gone(collection: Collection, paths: Sequence[Path], present: set[str], done: Added) -> None:
    roots = [path.as_posix().rstrip("/") for path in paths]
    for source in await collection.sources():
        below = any(root == "." or source == root or source.startswith(f"{root}/") for root in roots)
        if below and source not in present:
            await collection.delete_source(source)
            done.removed.append(source)
