"""Versions and labels in the database, with others at work at the same time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from superstep.prompts import PromptStore, Target
from superstep.runtime.faults import PromptConflict, PromptInvalid, PromptNotFound
from tests.prompts.samples import draft
from tests.support.prompts import said, toml

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from superstep.checkpointer import TransactionalSaver

VERSIONS = 4


async def with_versions(store: PromptStore, name: str = "p") -> None:
    """Versions 1 to 4 that say "Hi 1" to "Hi 4"."""
    for number in range(1, VERSIONS + 1):
        await store.add([draft(f"Hi {number}", name)])


async def do(saver: TransactionalSaver, sql: str, *args: Any) -> Any:
    async with saver.transaction() as tx:
        return await tx.fetch(sql, *args)


async def test_versions_are_numbered_and_what_is_there_is_not_added_again(store: PromptStore) -> None:
    [first] = await store.add([draft("Hello")])
    [second] = await store.add([draft("Hi")])
    [again] = await store.add([draft("Hello")])
    assert [(each.version, each.new) for each in (first, second, again)] == [(1, True), (2, True), (1, False)]
    versions = await store.versions("p")
    assert [each.version for each in versions] == [1, 2]
    assert versions[0].content == draft("Hello").content
    assert versions[0].digest == draft("Hello").content.digest
    assert said(versions[1].prompt, who="Ada") == [("human", "Hi Ada")]
    assert versions[1].prompt.title == "p@2"


async def test_notes_of_a_version_may_change_its_content_not(store: PromptStore, saver: TransactionalSaver) -> None:
    case = "[[cases]]\nvariables = {who = 'x'}\nexpect = {contains = 'x'}"
    await store.add([draft("Hello", description="old")])
    [added] = await store.add([draft("Hello", description="new", cases=case)])
    assert (added.version, added.new, added.notes_replaced) == (1, False, True)
    found = await store.version("p")
    assert (found.description, found.cases[0].expect) == ("new", {"contains": "x"})
    before = await do(saver, "SELECT xmin FROM runtime.prompt_version")
    [added] = await store.add([draft("Hello", description="new", cases=case)])
    assert not added.notes_replaced
    assert await do(saver, "SELECT xmin FROM runtime.prompt_version") == before  # not even written


async def test_a_stored_content_is_the_one_that_was_added(store: PromptStore) -> None:
    odd = toml("""
        [parameters]
        temperature = 1e-7
        large = 1e22
        exact = 1.0
        "né" = ["\\t", {b = 1, a = [true]}]
        [variables]
        who = {type = "any", default = {z = 1, a = 0.1}}
        [[messages]]
        role = "user"
        content = "\\\\u0000 é {{ who }}"
    """)
    await store.add([odd])
    found = await store.version("p")
    assert found.content == odd.content
    assert said(found.prompt) == [("human", '\\u0000 é {"a": 0.1, "z": 1}')]


async def test_all_of_an_add_or_nothing(store: PromptStore) -> None:
    good, bad = draft("Hello", "a"), draft("Hello", "b")
    object.__setattr__(bad, "description", "not storable: \0")
    with pytest.raises(asyncpg.PostgresError):
        await store.add([good, bad])
    assert await store.prompts() == []


async def test_a_label_follows_what_was_added(store: PromptStore) -> None:
    await store.add([draft("Hello")], label="staging")
    [unchanged] = await store.add([draft("Hello")], label="staging")
    assert unchanged.move is not None
    assert not unchanged.move.changed
    [added] = await store.add([draft("Hi")], label="staging")
    assert added.move is not None
    assert (added.move.before, added.move.after) == (Target(1), Target(2))
    [back] = await store.add([draft("Hello")], label="staging")
    assert (back.version, back.new) == (1, False)
    assert await store.target("p", "staging") == Target(1)
    with pytest.raises(PromptInvalid, match="'1' is no label"):
        await store.add([draft("Hello")], label="1")


async def test_everything_is_listed(store: PromptStore) -> None:
    await store.add([draft("Hello", "b", description="of b"), draft("Hello", "a")], label="production")
    await store.add([draft("Hi", "b", description="of the second b")])
    await store.promote("b", 2, label="canary", weight=0.25)
    a, b = await store.prompts()
    assert (a.name, a.latest, b.name, b.latest, b.description) == ("a", 1, "b", 2, "of the second b")
    assert {each.label: each.target for each in b.labels} == {"canary": Target(2, 0.25), "production": Target(1)}
    assert [each.label for each in (await store.version("b", version=2)).labels] == ["canary"]
    assert (await store.version("b", label="canary")).version == 2
    assert (await store.version("b")).version == 2


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda s: s.version("q"), r"There is no prompt 'q'.*runtime prompts add"),
        (lambda s: s.versions("pp"), r"There is no prompt 'pp' \(did you mean 'p'\?\)"),
        (lambda s: s.version("p", version=9), r"'p' has no version 9\. It has 1 to 4"),
        (lambda s: s.version("p", label="x"), r"no label 'x'\. It has no labels yet\. .*promote p VERSION --label x"),
        (lambda s: s.promote("p", 9), r"'p' has no version 9\. It has 1 to 4"),
        (lambda s: s.promote("q", 1), r"There is no prompt 'q'"),
        (lambda s: s.rollback("p"), r"no label 'production'"),
    ],
)
async def test_what_is_not_there_is_named_with_what_is(
    store: PromptStore, ask: Callable[[PromptStore], Any], says: str
) -> None:
    await with_versions(store)
    with pytest.raises(PromptNotFound, match=says):
        await ask(store)
    assert await store.target("p", "production") is None


async def test_weights_are_shares_of_the_canary_only(store: PromptStore) -> None:
    await with_versions(store)
    for label, weight in (("production", 0.1), ("canary", 1.1), ("canary", -0.1), ("canary", float("nan"))):
        with pytest.raises(PromptInvalid):
            await store.promote("p", 1, label=label, weight=weight)
    await store.promote("p", 1, label="canary", weight=0.1)
    moved = await store.promote("p", 2, label="canary")
    assert moved.after == Target(2, 0.1)
    back = await store.promote("p", 2, label="canary", weight=0.0)
    assert back.after == Target(2, 0.0)


async def test_rollback_goes_back_step_by_step_and_ends_at_the_first(store: PromptStore) -> None:
    await with_versions(store)
    for number in (1, 2, 3):
        await store.promote("p", number)
    await store.promote("p", 3)  # nothing to do, so nothing to take back
    assert (await store.rollback("p")).after == Target(2)
    await store.promote("p", 4)
    assert [(await store.rollback("p")).after.version for _ in range(2)] == [2, 1]
    with pytest.raises(PromptNotFound, match="points at version 1 and has pointed at nothing before"):
        await store.rollback("p")
    assert await store.target("p", "production") == Target(1)


async def test_rollback_of_one_label_leaves_the_others(store: PromptStore) -> None:
    await with_versions(store)
    await with_versions(store, "q")
    for name in ("p", "q"):
        await store.promote(name, 1)
        await store.promote(name, 2)
        await store.promote(name, 1, label="canary", weight=0.5)
        await store.promote(name, 3, label="canary", weight=0.1)
    await store.rollback("p", label="canary")
    assert await store.target("p", "canary") == Target(1, 0.5)
    assert await store.target("p", "production") == Target(2)
    assert await store.target("q", "canary") == Target(3, 0.1)


async def test_a_label_moved_since_it_was_looked_at_is_not_moved(store: PromptStore) -> None:
    await with_versions(store)
    await store.promote("p", 1)
    seen = await store.target("p", "production")
    await store.promote("p", 2)
    with pytest.raises(PromptConflict, match=r"'production' of 'p' meanwhile: it points at version 2 now"):
        await store.promote("p", 3, expected=seen)
    with pytest.raises(PromptConflict):
        await store.promote("p", 3, expected=None)
    with pytest.raises(PromptConflict):
        await store.rollback("p", expected=seen)
    assert await store.target("p", "production") == Target(2)
    assert not (await store.promote("p", 2, expected=seen)).changed  # it is where it should be


class Together:
    """Transactions of several stores, of which the second ones begin together: all have looked, none has moved."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], parties: int, isolation: Any) -> None:
        self._pool = pool
        self._isolation = isolation
        self._barrier = asyncio.Barrier(parties)

    def store(self, meet_at: int) -> PromptStore:
        begun = 0

        @asynccontextmanager
        async def begin() -> AsyncIterator[Any]:
            nonlocal begun
            begun += 1
            async with self._pool.acquire() as conn:
                if begun == meet_at:
                    await self._barrier.wait()
                async with conn.transaction(isolation=self._isolation):
                    yield conn

        return PromptStore(begin)


@pytest.fixture(params=["read_committed", "serializable"])
async def together(database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Callable[[int], Together]]:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=8) as pool:
        yield lambda parties: Together(pool, parties, request.param)


@pytest.mark.parametrize("first", [True, False], ids=["new label", "existing label"])
async def test_of_concurrent_promotions_one_wins_and_the_others_are_told(
    store: PromptStore, together: Callable[[int], Together], first: bool
) -> None:
    await with_versions(store)
    if not first:
        await store.promote("p", 1)
    race = together(3)
    moves = await asyncio.gather(
        *(race.store(meet_at=2).promote("p", number) for number in (2, 3, 4)), return_exceptions=True
    )
    conflicts = [each for each in moves if isinstance(each, PromptConflict)]
    [won] = [each for each in moves if not isinstance(each, BaseException)]
    assert len(conflicts) == 2
    assert await store.target("p", "production") == won.after
    assert all(f"points at version {won.after.version} now" in str(each) for each in conflicts)


async def test_of_concurrent_rollbacks_one_goes_back(store: PromptStore, together: Callable[[int], Together]) -> None:
    await with_versions(store)
    for number in (1, 2, 3):
        await store.promote("p", number)
    race = together(2)
    moves = await asyncio.gather(*(race.store(meet_at=2).rollback("p") for _ in range(2)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in moves) == ["Move", "PromptConflict"]
    assert await store.target("p", "production") == Target(2)


async def test_concurrent_promotions_of_different_prompts_all_succeed(
    store: PromptStore, together: Callable[[int], Together]
) -> None:
    names = ["p", "q", "r", "s"]
    for name in names:
        await with_versions(store, name)
    race = together(len(names))
    await asyncio.gather(*(race.store(meet_at=2).promote(name, 2) for name in names))
    assert [await store.target(name, "production") for name in names] == [Target(2)] * 4


async def test_concurrent_adds_number_without_gaps_or_duplicates(
    store: PromptStore, together: Callable[[int], Together]
) -> None:
    race = together(6)
    texts = ["a", "b", "c", "d", "a", "b"]
    drafts = [[draft(text, "p"), draft(text, "q")] for text in texts]
    for pair in drafts[::2]:
        pair.reverse()
    added = await asyncio.gather(*(race.store(meet_at=1).add(pair) for pair in drafts))
    for name in ("p", "q"):
        versions = await store.versions(name)
        assert [each.version for each in versions] == [1, 2, 3, 4]
        assert len({each.digest for each in versions}) == 4
    by_text: dict[tuple[str, str], set[int]] = {}
    for text, pair in zip(texts, added, strict=True):
        for each in pair:
            by_text.setdefault((each.name, text), set()).add(each.version)
    assert all(len(numbers) == 1 for numbers in by_text.values())
    assert sum(each.new for pair in added for each in pair) == 8


async def test_the_database_keeps_labels_from_pointing_nowhere(store: PromptStore, saver: TransactionalSaver) -> None:
    await with_versions(store)
    await store.promote("p", 1)
    for sql in (
        "DELETE FROM runtime.prompt_version WHERE version = 1",
        "UPDATE runtime.prompt_label SET version = 9",
        "UPDATE runtime.prompt_label SET weight = 1.5",
        "UPDATE runtime.prompt_version SET version = 0 WHERE version = 4",
    ):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await do(saver, sql)
