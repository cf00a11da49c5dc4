"""Budgets: what calls in flight may still spend, and whether one more fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from superstep.providers.catalog.model import Budget

__all__ = ["Ledger", "refuse"]


@dataclass(slots=True)
class _Account:
    calls: int = 0
    usd: float = 0.0
    tokens: int = 0


class Ledger:
    """Reservations of the calls in flight in this process, by scope: a run, a thread, a route.

    What a call spends is known when it ends. Until then its estimate is reserved, so that calls in parallel do not each
    find the same rest of a budget. Every `reserve` must be followed by one `release` of the same amounts, however the
    call ends. A scope without calls in flight is forgotten, and rounding errors of its sums with it.

    Not safe for use from several threads; it never waits, so tasks of one event loop may share it.
    """

    def __init__(self) -> None:
        self._accounts: dict[Hashable, _Account] = {}

    def reserve(self, scope_key: Hashable, usd: float, tokens: int) -> None:
        """A call is about to be made: US dollars and tokens, in and out, as estimated."""
        account = self._accounts.setdefault(scope_key, _Account())
        account.calls += 1
        account.usd += usd
        account.tokens += tokens

    def release(self, scope_key: Hashable, usd: float, tokens: int) -> None:
        """That call has ended, and what it really spent is recorded elsewhere.

        Raises:
            KeyError: nothing is reserved there: a mistake of the caller.
        """
        account = self._accounts[scope_key]
        account.calls -= 1
        account.usd -= usd
        account.tokens -= tokens
        if account.calls == 0:
            del self._accounts[scope_key]

    def reserved(self, scope_key: Hashable) -> tuple[float, int]:
        """US dollars and tokens of the calls in flight."""
        account = self._accounts.get(scope_key)
        return (0.0, 0) if account is None else (account.usd, account.tokens)


def refuse(
    budget: Budget,
    *,
    spent_usd: float,
    spent_tokens: int,
    reserved_usd: float,
    reserved_tokens: int,
    next_usd: float | None,
    next_tokens: int,
) -> str | None:
    """Why a call must not be made under a budget; `None` if it may.

    What is spent, what calls in flight have reserved and the estimate of the next call must not exceed the budget
    together. A call without a known price (`next_usd` is `None`) is refused under a budget in money: it could not be
    kept. Amounts up to a billionth of a dollar above the budget pass: sums of floating-point prices are not exact.
    """
    if budget.usd is not None:
        if next_usd is None:
            return f"no price of the model is known, so a budget of {_usd(budget.usd)} cannot be kept"
        if spent_usd + reserved_usd + next_usd > budget.usd + 1e-9:
            return (
                f"of {_usd(budget.usd)}, {_usd(spent_usd)} are spent and {_usd(reserved_usd)} reserved by calls in "
                f"flight; this call may cost {_usd(next_usd)}"
            )
    if budget.tokens is not None and spent_tokens + reserved_tokens + next_tokens > budget.tokens:
        return (
            f"of {budget.tokens} tokens, {spent_tokens} are spent and {reserved_tokens} reserved by calls in flight; "
            f"this call may take {next_tokens}"
        )
    return None


def _usd(amount: float) -> str:
    return f"{amount:.6g} USD"
