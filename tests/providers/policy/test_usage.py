"""Counts of tokens as servers send them, and what is made of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk

from superstep.providers.policy.usage import StreamedUsage, count, sound

NUMBERS = [0, 1, 12.0, 2**40]
NONE = [None, True, "12", [1], {}, -1, 1.5, float("nan"), float("inf"), 2**41, 10**30, object()]


@pytest.mark.parametrize("value", NUMBERS)
def test_what_counts(value: Any) -> None:
    assert count(value) == value


@pytest.mark.parametrize("value", NONE)
def test_what_does_not(value: Any) -> None:
    assert count(value) is None


def test_what_is_no_number_says_nothing() -> None:
    assert sound({"input_tokens": [1], "output_tokens": "5", "total_tokens": 6}) is None
    assert sound({"input_tokens": [1], "output_tokens": 5, "total_tokens": None}) == {
        "input_tokens": 0,
        "output_tokens": 5,
        "total_tokens": 5,
    }
    assert sound("7") is None
    details = {"input_tokens": 3, "output_tokens": 5, "input_token_details": {"cache_read": 2, "audio": "x"}}
    assert (sound(details) or {})["input_token_details"] == {"cache_read": 2}


anything = st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)


@given(
    st.lists(st.fixed_dictionaries({"input_tokens": anything, "output_tokens": anything}), max_size=6), st.booleans()
)
def test_whatever_a_stream_says_can_be_computed_with(said: list[dict[str, Any]], totals: bool) -> None:
    usage = StreamedUsage(totals=totals)
    for each in said:
        usage._add(each)
    if usage.total is not None:
        assert usage.total["total_tokens"] == usage.total["input_tokens"] + usage.total["output_tokens"] >= 0


def summed(chunks: list[tuple[int, int]], *, totals: bool) -> tuple[int, int]:
    usage = StreamedUsage(totals=totals)
    for read, written in chunks:
        said = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
        message = AIMessageChunk(content="", usage_metadata=said)  # type: ignore[arg-type]
        usage.take(message)
        assert message.usage_metadata is None
    assert usage.total is not None
    return usage.total["input_tokens"], usage.total["output_tokens"]


@given(st.integers(1, 10**6), st.lists(st.integers(0, 10**6), min_size=1, max_size=20), st.booleans())
def test_running_totals_are_not_added_up(read: int, written: list[int], totals: bool) -> None:
    grown = sorted(written)
    assert summed([(read, each) for each in grown], totals=totals) == (read, grown[-1])


@given(st.integers(0, 10**6), st.lists(st.integers(0, 10**6), max_size=20))
def test_increments_are(read: int, written: list[int]) -> None:
    """As LangChain's classes say them: the input once."""
    assert summed([(read, 1), *((0, each) for each in written)], totals=False) == (read, 1 + sum(written))


@pytest.mark.parametrize(
    ("chunks", "total"),
    [
        ([(10, 1), (0, 5)], (10, 5)),  # the input once, then only the output's total
        ([(0, 1), (0, 2), (10, 3)], (10, 3)),  # the input last
        ([(10, 5), (0, 0)], (10, 5)),  # closed with zeros
        ([(10, 5), (10, 5)], (10, 5)),  # said twice
    ],
)
def test_totals_by_the_protocol(chunks: list[tuple[int, int]], total: tuple[int, int]) -> None:
    assert summed(chunks, totals=True) == total
