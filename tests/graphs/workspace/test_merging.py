"""Edits, three-way merges, diffs and digests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superstep.graphs.workspace.merging import EditConflict, EditInvalid, applied, diff, digest, merged, rebased

TEXTS = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "d\n", "\n"]), max_size=8).map("".join)
ENDS = st.sampled_from(["", "a", "b"])  # a last line without an end


def edit(path: str, old: str, new: str) -> Any:
    return {"path": path, "old": old, "new": new}


def test_edits_in_different_places_are_both_there() -> None:
    base = "1\n2\n3\n4\n5\n"
    assert merged("f.py", base, "one\n2\n3\n4\n5\n", "1\n2\n3\n4\n") == "one\n2\n3\n4\n"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("1\ntwo\n3\n", "1\nzwei\n3\n"),
        ("one\n2\n3\n", "1\ntwo\n3\n"),
        ("1\n2\n3\n4\n", "1\n2\n3\nfour\n"),
        ("1\n3\n", "1\ntwo\n3\n"),
        ("", "1\n2\n3\n4\n"),
    ],
    ids=["the same line", "neighbours", "both at the end", "deleted and changed", "everything deleted"],
)
def test_edits_of_the_same_place_are_a_conflict_that_says_where(theirs: str, ours: str) -> None:
    for one, other in ((theirs, ours), (ours, theirs)):
        with pytest.raises(EditConflict, match=r"f\.py, line \d") as caught:
            merged("f.py", "1\n2\n3\n", one, other)
        assert caught.value.path == "f.py"


def test_a_conflict_says_which_side_is_which() -> None:
    for theirs, ours in (("a\n", "b\n"), ("b\n", "a\n")):
        with pytest.raises(EditConflict) as caught:
            merged("f.py", "1\n", theirs, ours)
        assert str(caught.value) == (
            f"f.py, line 1: merged meanwhile was\n{theirs}\nand this edit would make it\n{ours}"
        )


@given(TEXTS, TEXTS, ENDS)
def test_a_change_of_one_side_is_the_result(base: str, changed: str, end: str) -> None:
    after = changed + end
    assert merged("f.py", base, after, base) == merged("f.py", base, base, after) == after
    assert merged("f.py", base, after, after) == after


@given(TEXTS, TEXTS, TEXTS)
def test_sides_are_equal(base: str, one: str, other: str) -> None:
    def result(theirs: str, ours: str) -> str | None:
        try:
            return merged("f.py", base, theirs, ours)
        except EditConflict:
            return None

    assert result(one, other) == result(other, one)


@given(st.lists(st.integers(0, 11), unique=True), st.data())
def test_lines_that_are_not_neighbours_are_merged_and_all_there(lines: list[int], data: st.DataObject) -> None:
    apart = [line for line in lines if not {line - 1, line + 1} & set(lines)]
    mine = data.draw(st.sets(st.sampled_from(apart))) if apart else set()
    base = [f"line {n}\n" for n in range(12)]

    def with_marks(marked: set[int]) -> str:
        return "".join(f"{n} is new\n" if n in marked else line for n, line in enumerate(base))

    theirs = set(apart) - mine
    assert merged("f.py", "".join(base), with_marks(theirs), with_marks(mine)) == with_marks(set(apart))


def test_edits_are_replayed_on_the_files_of_now() -> None:
    base, now = {"a.py": "1\n2\n3\n", "b.py": "x\n"}, {"a.py": "1\n2\n3\n4\n", "b.py": "y\n", "c.py": "new\n"}
    assert rebased(base, [edit("a.py", "1", "one")], now) == {**now, "a.py": "one\n2\n3\n4\n"}
    assert base["a.py"] == "1\n2\n3\n"
    assert rebased(base, [edit("d.py", "", "d\n")], now)["d.py"] == "d\n"
    with pytest.raises(EditConflict):
        rebased(base, [edit("c.py", "", "mine\n")], now)


@pytest.mark.parametrize(
    "wrong",
    [
        edit("a.py", "no such text", ""),
        edit("a.py", "x", "y"),
        edit("a.py", "", "there already"),
        edit("b.py", "x", "y"),
        edit("../a.py", "", "out"),
        edit("/a.py", "", "out"),
        edit("sub/a.py", "", "out"),
    ],
)
def test_edits_that_do_not_fit(wrong: Any) -> None:
    with pytest.raises(EditInvalid):
        applied({"a.py": "x x"}, [wrong])


def test_several_edits_of_a_file_in_their_order() -> None:
    assert applied({"a.py": "1 2"}, [edit("a.py", "1", "2 2"), edit("a.py", "2 2 2", "3")]) == {"a.py": "3"}


def test_a_diff_says_what_changed_wherever_it_stands() -> None:
    lines = [f"{n}\n" for n in range(20)]
    changed = [*lines[:10], "ten\n", *lines[11:]]
    shown = diff({"a.py": "".join(lines)}, {"a.py": "".join(changed)})
    assert "-10\n+ten\n" in shown
    assert shown == diff({"a.py": "".join(["0\n", *lines])}, {"a.py": "".join(["0\n", *changed])})
    assert diff({"a.py": "x"}, {"a.py": "x"}) == ""
    assert "+++ new.py" in diff({}, {"new.py": "x\n"})


@given(TEXTS, ENDS, TEXTS, ENDS)
def test_there_is_a_diff_exactly_if_there_is_a_difference(one: str, end: str, other: str, other_end: str) -> None:
    before, after = {"a.py": one + end}, {"a.py": other + other_end}
    assert (diff(before, after) == "") == (before == after)
    assert (digest(before) == digest(after)) == (before == after)
