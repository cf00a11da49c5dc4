"""Which keys are worth a turn."""

from __future__ import annotations

from superstep.checkpointer.turns.hot import HOT, Hot


class Clock:
    """Says what it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_key_that_moved_is_hot_for_a_while() -> None:
    clock = Clock()
    hot = Hot(clock)
    assert hot.is_quiet
    hot.moved("step", [b"a"], [b"a", b"b"])
    assert (hot.is_hot(b"a"), hot.is_hot(b"b"), hot.is_quiet) == (True, False, False)
    clock.now += HOT - 1
    hot.heat(b"a")
    clock.now += HOT - 1
    assert hot.is_hot(b"a")
    clock.now += 1
    assert not hot.is_hot(b"a")


def test_a_key_is_hot_only_as_long_as_it_moves() -> None:
    clock = Clock()
    hot = Hot(clock)
    hot.heat(b"a")
    hot.answered(b"a", b"1")
    assert hot.is_hot(b"a")
    clock.now += HOT - 1
    hot.answered(b"a", b"2")  # from one who had the turn to the next it has moved
    clock.now += HOT - 1
    assert hot.is_hot(b"a")
    hot.answered(b"a", b"2")
    assert not hot.is_hot(b"a")


def test_the_next_attempt_owes_what_moved_and_what_is_hot_of_its_reads_once() -> None:
    hot = Hot(Clock())
    hot.heat(b"b")
    hot.moved("step", [b"a"], [b"a", b"b", b"c"])
    assert hot.owed("another") == frozenset()
    assert hot.owed("step") == {b"a", b"b"}
    assert hot.owed("step") == frozenset()


def test_nothing_grows_without_bound() -> None:
    hot = Hot(Clock())
    for n in range(20_000):
        hot.moved(n, [b"%d" % n], [])
    assert hot.owed(0) == frozenset()
    assert not hot.is_hot(b"0")
    assert hot.owed(19_999) == {b"19999"}
    assert hot.is_hot(b"19999")


def test_all_is_quiet_when_all_is_cool_and_nothing_is_owed() -> None:
    clock = Clock()
    hot = Hot(clock)
    hot.moved("step", [b"a"], [])
    hot.owed("step")
    clock.now += HOT
    hot.is_hot(b"x")
    assert hot.is_quiet
