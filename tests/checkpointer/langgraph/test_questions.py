"""Names of questions that are asked again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from langgraph.types import Interrupt

from superstep.checkpointer.langgraph.questions import asked_in, masked, names_questions, unmasked

NAMES = st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")


@given(NAMES, st.integers(0, 50), st.integers(0, 50))
def test_every_time_a_question_is_asked_it_has_another_name_of_the_same_kind(name: str, one: int, other: int) -> None:
    assert names_questions({masked(name, one): None})
    assert (masked(name, one) == masked(name, other)) == (one == other)


@given(NAMES, st.integers(0, 20), st.integers(0, 20))
def test_the_name_of_langgraph_is_found_again(name: str, withdrawn: int, more: int) -> None:
    assert unmasked(masked(name, withdrawn), withdrawn + more)[withdrawn] == name


def test_what_is_no_name_stays() -> None:
    assert masked("placeholder-id", 3) == "placeholder-id"
    assert not names_questions({"yes": 1})
    assert not names_questions("yes")


def test_questions_are_found_however_they_are_written() -> None:
    one, other = Interrupt("a", id="1"), Interrupt("b", id="2")
    assert asked_in([("x", one), ("i", (one, other)), ("i", one), ("i", "no question")], "i") == [one, other, one]
