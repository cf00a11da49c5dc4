"""Who applies for what. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AMOUNT", "Application", "Scenario"]

AMOUNT = 250_00  # cents; what each application asks for


@dataclass(frozen=True, slots=True)
class Application:
    """One flow: it asks to draw an amount, in cents, on an account."""

    id: str
    account_id: str
    amount: int = AMOUNT


@dataclass(frozen=True, slots=True)
class Scenario:
    """A race: more applications than the accounts have room for.

    Attributes:
        flows: how many apply, all at once.
        accounts: on how many accounts, in turn.
        thinking: seconds that a call of the model takes.
        ttl: seconds that the cache in front of the plain side keeps a row; 0 is no cache.
    """

    flows: int
    accounts: int
    thinking: float
    ttl: float

    @property
    def most_today(self) -> int:
        """What may be drawn on one account in a day, in cents: half of what is asked for on it, one draw at least."""
        return AMOUNT * max(1, self._each // 2)

    @property
    def credit_limit(self) -> int:
        """The line of one account, in cents: a quarter more of what is asked for than may be drawn in a day."""
        return self.most_today + AMOUNT * (self._each // 4)

    @property
    def _each(self) -> int:
        return self.flows // self.accounts

    def applications(self) -> list[Application]:
        """All of them. The accounts take turns, so that each gets `flows // accounts` or one more."""
        return [Application(f"F-{n + 1:03}", f"A-{n % self.accounts + 1}") for n in range(self.flows)]
