"""The server reads the text of an array as that array."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from superstep.checkpointer.database.arrays import number_array, text_array

if TYPE_CHECKING:
    from tests.support.bank import Bank

TEXTS = [
    [],
    ["one"],
    ["", " ", "  blanks  ", "a,b", "{}", "{a}", "[0:1]={a,b}"],
    ['"', "\\", '\\"', "\\\\", 'a "quoted" \\ text', "'", "$1"],
    ["a\\b", "\\", "c"],
    ["NULL", "null", None, ""],
    ["line\nbreak", "tab\t", "\r", "ü€𝄞", "\x01"],
    ['{"a": "b\\u0041", "c": [1, "\\\\"]}'],
]


@pytest.mark.parametrize("texts", TEXTS, ids=range(len(TEXTS)))
async def test_texts(bank: Bank, texts: list[str | None]) -> None:
    (row,) = await bank.do("SELECT $1::text::text[] AS back, cardinality($1::text::text[]) AS n", text_array(texts))
    assert row["back"] == texts
    assert row["n"] == len(texts)


@pytest.mark.parametrize("numbers", [[], [0], [-(2**63), 2**63 - 1, -4]], ids=range(3))
async def test_numbers(bank: Bank, numbers: list[int]) -> None:
    (row,) = await bank.do("SELECT $1::text::bigint[] AS back", number_array(numbers))
    assert row["back"] == numbers
