"""Estimates of tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from superstep.providers.policy.estimate import tokens, tokens_of


@given(st.lists(st.text(max_size=40), max_size=10))
def test_four_characters_are_a_token(texts: list[str]) -> None:
    assert tokens("") == 0
    for text in texts:
        assert 4 * tokens(text) - 4 < len(text) <= 4 * tokens(text) or not text
    assert tokens_of(texts) == sum(tokens(text) for text in texts)
