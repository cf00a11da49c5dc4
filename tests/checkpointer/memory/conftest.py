"""A store whose embedder counts letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from superstep.checkpointer import MemoryStore, TransactionalSaver
    from tests.support.bank import Bank


class Letters:
    """Embeds a text by how often each letter of the alphabet occurs in it.

    Attributes:
        calls: the texts of each call.
    """

    def __init__(self, letters: str = "abcdefghijklmnopqrstuvwxyz") -> None:
        self.calls: list[list[str]] = []
        self._letters = letters

    async def __call__(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(texts)
        return [[float(text.count(letter)) for letter in self._letters] for text in texts]


@pytest.fixture
def letters() -> Letters:
    return Letters()


@pytest.fixture
def store(saver: TransactionalSaver, letters: Letters) -> MemoryStore:
    """The store of the saver; of items, the field `text` is embedded."""
    saver.embedder.own = letters
    return saver.store.configured(index={"fields": ["text"]})


@pytest.fixture
def expire(bank: Bank) -> Expire:
    return Expire(bank)


class Expire:
    """Lets all items that live for a time expire now, without waiting."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank

    async def __call__(self) -> None:
        await self._bank.do(
            "UPDATE runtime.memory SET expires_at = greatest(valid_from, now() - interval '1 millisecond') "
            "WHERE expires_at IS NOT NULL"
        )
