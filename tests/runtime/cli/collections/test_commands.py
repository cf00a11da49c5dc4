"""`runtime collection`: files and dumps in, neighbours out, and what happens when files change."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pyarrow
import pytest
from pyarrow import parquet

from superstep.checkpointer.collections import collection as room
from superstep.checkpointer.collections import indexing
from superstep.checkpointer.collections.embedder import TextEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.commands import Runtime

MANUAL = """# Chargebacks

A customer may dispute a card payment within 120 days.

# Refunds

Refunds go back to the card they were paid with.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "manual"
    (folder / "more").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("hidden")
    (folder / "cards.md").write_text(MANUAL)
    (folder / "more" / "cats.txt").write_text("Cats sleep most of the day.")
    (folder / "more" / "page.html").write_text(
        "<html><head><title>no</title><style>x{}</style></head><body><p>Whales <b>sing</b>.</p><p>Owls fly.</p></body>"
    )
    (folder / "picture.png").write_bytes(b"\x89PNG\0\0")
    return folder


def found(on_db: Runtime, query: str, *more: str) -> list[Any]:
    rows: list[Any] = on_db("collection", "search", "manual", query, *more, "--json").json
    return rows


def test_from_files_to_neighbours(on_db: Runtime, folder: Path) -> None:
    assert "No collections yet" in on_db("collection", "list").out
    assert on_db("collection", "list", "--json").json == []
    added = on_db("collection", "add", "manual", "manual", "--chunk", "80", "--overlap", "0", "--json").json
    assert (added["files"], added["kept"], added["removed"], added["indexed"]) == (3, 0, [], False)
    assert added["skipped"] == {"manual/picture.png": "manual/picture.png is no text."}
    assert added["added"] >= 4
    (row, *_) = found(on_db, "how long can I dispute a payment?", "-k", "2")
    assert "120 days" in row["content"]
    assert row["metadata"] == {"source": "manual/cards.md"}
    assert found(on_db, "owls", "--filter", '{"source": "manual/more/page.html"}')[0]["content"].startswith(
        "Whales sing"
    )
    assert "score" in found(on_db, "cats", "--hybrid")[0]
    assert "manual/more/cats.txt" in on_db("collection", "search", "manual", "cats").out
    listed = on_db("collection", "list", "--json").json
    assert [(each["name"], each["rows"], each["dimensions"]) for each in listed] == [("manual", added["added"], 256)]
    assert "none: exact" in on_db("collection", "list").out
    assert on_db("collection", "drop", "manual").out == "manual: dropped\n"
    assert on_db("collection", "drop", "manual").code == 3


def test_what_has_not_changed_is_not_embedded_again_and_what_is_gone_goes(
    on_db: Runtime, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[str] = []
    real = TextEmbedder.embed_all

    async def noting(self: Any, texts: Any) -> Any:
        embedded.extend(texts)
        return await real(self, texts)

    monkeypatch.setattr(TextEmbedder, "embed_all", noting)
    add = ("collection", "add", "manual", "manual", "--chunk", "80", "--overlap", "0")
    before = on_db(*add, "--json").json["added"]
    embedded.clear()
    assert on_db(*add).out.startswith(f"manual: 3 files, 0 added, {before} unchanged\n")
    (folder / "cards.md").write_text("Read this first, please: it is all about cards and their owners.\n\n" + MANUAL)
    again = on_db(*add, "--json").json
    assert again["added"] == 1
    assert len(embedded) == 1
    rows = found(on_db, "cards", "-k", "99", "--filter", '{"source": "manual/cards.md"}')
    assert any("Read this first" in row["content"] for row in rows)
    (folder / "cards.md").write_text("Nothing is left of it.")
    on_db(*add)
    assert [row["content"] for row in found(on_db, "card", "--filter", '{"source": "manual/cards.md"}')] == [
        "Nothing is left of it."
    ]
    (folder / "more" / "cats.txt").unlink()
    assert on_db(*add, "--json").json["removed"] == []
    assert len(found(on_db, "cats", "-k", "99")) == 3
    assert on_db(*add, "--sync", "--json").json["removed"] == ["manual/more/cats.txt"]
    assert [row["metadata"]["source"] for row in found(on_db, "cats", "-k", "99")].count("manual/more/cats.txt") == 0


def test_stopped_half_way_it_goes_on(on_db: Runtime, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = room.Collection.put_source

    async def breaks(self: Any, source: str, documents: Any) -> Any:
        if source.endswith("cats.txt"):
            raise KeyboardInterrupt
        return await real(self, source, documents)

    monkeypatch.setattr(room.Collection, "put_source", breaks)
    assert on_db("collection", "add", "manual", "manual").code == 130
    monkeypatch.setattr(room.Collection, "put_source", real)
    done = on_db("collection", "add", "manual", "manual", "--json").json
    assert (done["added"], done["kept"]) == (2, 1)


def test_one_text_twice_in_a_file_is_two_pieces(on_db: Runtime, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(["The same words again, to fill a piece of this text."] * 3))
    assert on_db("collection", "add", "manual", "a.txt", "--chunk", "60", "--overlap", "0", "--json").json["added"] == 3


def write_json_lines(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path: Path, rows: list[Any]) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize(("suffix", "write"), [("jsonl", write_json_lines), ("parquet", write_parquet)])
def test_a_dump_of_another_store(on_db: Runtime, tmp_path: Path, suffix: str, write: Callable[..., None]) -> None:
    rows = [
        {"id": "a", "text": "east", "metadata": {"n": 1}, "embedding": [1.0, 0.0, 0.0]},
        {"id": "b", "text": "north", "metadata": {"n": 2}, "embedding": [0.0, 1.0, 0.0]},
    ]
    write(tmp_path / f"dump.{suffix}", rows)
    assert on_db("collection", "add", "manual", f"dump.{suffix}", "--json").json["added"] == 2
    assert on_db("collection", "add", "manual", f"dump.{suffix}", "--json").code == 0
    (listed,) = on_db("collection", "list", "--json").json
    assert (listed["rows"], listed["dimensions"]) == (2, 3)
    failed = on_db("collection", "search", "manual", "where?")
    assert failed.code == 3
    assert "VectorInvalid" in failed.err
    assert "256 dimensions" in failed.err


def test_a_dump_without_vectors_is_embedded_once(on_db: Runtime, tmp_path: Path) -> None:
    rows = [{"page_content": "Cats sleep.", "lang": "en", "source": "cats"}, {"content": "Owls fly.", "metadata": "{}"}]
    write_json_lines(tmp_path / "dump.jsonl", rows)
    add = ("collection", "add", "manual", "dump.jsonl", "--metadata", '{"tenant": "a"}', "--json")
    assert (on_db(*add).json["added"], on_db(*add).json["kept"]) == (2, 2)
    (row,) = found(on_db, "cats", "-k", "1")
    assert row["metadata"] == {"lang": "en", "source": "cats", "tenant": "a"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"content": "a"}\n{"content": ', "row 2 is no JSON"),
        ("[1]", "row 1 is no object"),
        ('{"id": 1}', "row 1 has no text"),
        ('{"content": "a", "metadata": [1]}', "metadata are no object"),
        ('{"content": "a", "metadata": "{"}', "metadata are no JSON"),
        ('{"content": "a", "embedding": [0, 0]}', "is zero"),
        ('{"content": "a", "embedding": [1, 2]}\n{"content": "b", "embedding": [1]}', "1 dimensions"),
    ],
)
def test_a_malformed_dump_is_named(on_db: Runtime, tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "dump.jsonl").write_text(text)
    done = on_db("collection", "add", "manual", "dump.jsonl")
    assert done.code == 3
    assert why in done.err


def test_parquet_without_pyarrow_says_what_to_install(
    on_db: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "dump.parquet", [{"text": "a"}])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = on_db("collection", "add", "manual", "dump.parquet")
    assert done.code == 3
    assert "pip install 'superstep-runtime[parquet]'" in done.err


def test_a_file_that_is_no_parquet(on_db: Runtime, tmp_path: Path) -> None:
    (tmp_path / "dump.parquet").write_text("text")
    done = on_db("collection", "add", "manual", "dump.parquet")
    assert (done.code, "cannot be read as Parquet" in done.err) == (3, True)


def test_what_is_not_there_or_is_no_text_is_named(on_db: Runtime, folder: Path) -> None:
    for arguments, why in [
        (("add", "manual", "nowhere"), "nothing at nowhere"),
        (("add", "manual", "manual/picture.png"), "is no text"),
        (("add", "a.b", "manual"), "no name for a collection"),
        (("add", "manual", "manual", "--metadata", "[1]"), "takes a JSON object"),
        (("search", "none", "x"), "There is no collection 'none'"),
        (("index", "none"), "There is no collection 'none'"),
    ]:
        done = on_db("collection", *arguments)
        assert (done.code, why in done.err) == (3, True), (arguments, done.err)
    assert on_db("collection", "add", "manual", "manual", "--chunk", "60", "--overlap", "60").code == 2
    on_db("collection", "add", "manual", "manual")
    done = on_db("collection", "search", "manual", "x", "--filter", '{"a": {"$regex": "x"}}')
    assert (done.code, "filter is none" in done.err) == (3, True)


def test_an_index_when_it_pays(on_db: Runtime, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_db("collection", "add", "manual", "manual")
    assert "no index" in on_db("collection", "index", "manual").out
    monkeypatch.setattr(indexing, "PAYS_FROM", 3)
    assert on_db("collection", "add", "manual", "manual", "--json").json["indexed"]
    assert "HNSW" in on_db("collection", "list").out
    assert on_db("collection", "index", "manual", "--force", "--json").json == {"collection": "manual", "indexed": True}
