"""What one call has tried, in order, for its record and for the error it may end with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from langchain_core.messages.ai import UsageMetadata  # noqa: TC002 - a NamedTuple's fields are looked up

from superstep.providers.catalog.model import Deployment  # noqa: TC001 - likewise
from superstep.providers.policy.charges import may_have_cost, usage_in
from superstep.providers.policy.failures import CONNECTION_FAILED, PROXY_FAILED, Action
from superstep.providers.records.call_record import Tried, counted, left
from superstep.runtime.faults import ProviderExhausted, ProviderRejected, ProviderUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from superstep.providers.catalog.model import Route
    from superstep.providers.policy.failures import Failure
    from superstep.providers.routing.candidates import Candidate

__all__ = ["CANCELLED", "AttemptLog", "Charge"]

CANCELLED = "cancelled"
_OF_THE_CONNECTION = (CONNECTION_FAILED, PROXY_FAILED)


class Charge(NamedTuple):
    """An attempt that gave no answer and may be on the bill.

    Attributes:
        deployment: the one that was asked.
        usage: the tokens that it took, if they were counted.
        entry: of the record, for what it may have cost.
    """

    deployment: Deployment
    usage: UsageMetadata | None
    entry: Tried


class AttemptLog:
    """Deployments left, why, and with which errors. Belongs to one call; not for several threads.

    Attributes:
        tried: entries for the record.
        hedged: whether a second deployment was asked because the first was slow.
    """

    def __init__(
        self,
        clean: Callable[[Deployment, Exception], Exception] = lambda _, error: error,
        proxy: Callable[[Deployment], str | None] = lambda _: None,
    ) -> None:
        """Make a log for one call.

        Args:
            clean: takes a deployment's key out of an error, should the provider have quoted it.
            proxy: names the variable whose proxy connections to a deployment take.
        """
        self.tried: list[Tried] = []
        self.hedged = False
        self._charges: list[Charge] = []
        self._errors: list[Exception] = []
        self._refused: tuple[Tried, Exception] | None = None  # the attempt that says the request itself is wrong
        self._clean = clean
        self._proxy = proxy

    def failed(
        self,
        candidate: Candidate,
        failure: Failure,
        error: Exception,
        began: float,
        now: float,
        *,
        sent: bool | None = None,
    ) -> None:
        """An attempt failed. `sent`: whether its request went out; without one its provider sends no bill."""
        why = failure.why
        if why in _OF_THE_CONNECTION and (proxy := self._proxy(candidate.deployment)) is not None:
            why = f"{why}, through the proxy of {proxy}"
        self._note(candidate, why, status=failure.status, seconds=now - began, counts=failure.counts)
        if may_have_cost(error, failure, sent=sent):
            self._charges.append(Charge(candidate.deployment, usage_in(error), self.tried[-1]))
        if failure.why != type(error).__name__:
            # What went wrong is known; a hundred lines from inside of SDKs and sockets, once an attempt, would hide it.
            error = error.with_traceback(None)
            error.__cause__ = error.__context__ = None
        self._errors.append(self._clean(candidate.deployment, error))
        if failure.action is Action.STOP:
            self._refused = self.tried[-1], self._errors[-1]

    def cancelled(self, candidate: Candidate, began: float, now: float, *, sent: bool | None = None) -> None:
        """An attempt was given up: the caller is gone, or another deployment answered first."""
        self._note(candidate, CANCELLED, seconds=now - began)
        if sent is not False:
            self._charges.append(Charge(candidate.deployment, None, self.tried[-1]))

    def take_charges(self) -> list[Charge]:
        """The attempts that may be on the bill, each once."""
        charges, self._charges = self._charges, []
        return charges

    def passed_over(self, candidate: Candidate, why: str) -> None:
        """A deployment could not take the call. Noted once per reason, however often the call came by."""
        name = candidate.deployment.name
        if not any(each["deployment"] == name and each["why"] == why for each in self.tried):
            self._note(candidate, why)

    def rejected(self, route: Route) -> ProviderRejected:
        """The error of a call whose request is itself at fault."""
        refused, error = self._refused or (self.tried[-1], self._errors[-1])
        if refused["status"] is None:  # nothing was sent
            what = f"A call of model route {route.name!r} could not be made of {refused['deployment']}: {error}"
        else:
            what = f"A provider refused a call of model route {route.name!r}: {self._summary()}"
        return ProviderRejected(
            f"{what}. No other deployment was asked, because the request itself, or the key, is at fault"
            f"{_place(route)}.",
            self._causes(),
            route=route.name,
            tried=list(self.tried),
        )

    def exhausted(self, route: Route) -> ProviderExhausted:
        """The error of a call that no deployment answered."""
        return ProviderExhausted(
            f"No deployment answered for model route {route.name!r}: {self._summary() or 'it has none left'}. Nothing "
            f"of the step was committed: `runtime resume` goes on when one is back. Deployments and fallbacks are "
            f"configured in [models.{route.name}] of runtime.toml{_place(route)}.",
            self._causes(),
            route=route.name,
            tried=list(self.tried),
        )

    def broken(self, candidate: Candidate, characters: int) -> ProviderExhausted:
        """The error of a stream that broke after its first token."""
        return ProviderExhausted(
            f"The stream of {candidate.deployment.name} broke after {characters} characters: {self._summary()}. What "
            f"was said stands, and no other model may go on with it: text would need `continue_text = true` in "
            f"[models.{candidate.route.name}], and a tool call is never put together from two models. Nothing of the "
            f"step was committed: `runtime resume` asks again.",
            self._causes(),
            route=candidate.route.name,
            tried=list(self.tried),
        )

    def _note(
        self, candidate: Candidate, why: str, *, status: int | None = None, seconds: float = 0.0, counts: bool = False
    ) -> None:
        self.tried.append(left(candidate.deployment.name, why, status=status, seconds=seconds, counts=counts))

    def _causes(self) -> list[Exception]:
        skipped = [ProviderUnavailable(f"{each['deployment']}: {each['why']}") for each in self.tried]
        return self._errors or list[Exception](skipped) or [ProviderUnavailable("no deployment to ask")]

    def _summary(self) -> str:
        return counted(f"{each['deployment']} ({each['why']})" for each in self.tried)


def _place(route: Route) -> str:
    return f" ({route.where})" if route.where else ""
