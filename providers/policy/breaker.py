"""A circuit breaker per deployment: after failures in a row it is left alone for a while, then asked once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NewType, TypeAlias

if TYPE_CHECKING:
    from superstep.providers.catalog.model import Breaker

__all__ = ["CircuitBreaker", "Permit", "State"]

State: TypeAlias = Literal["closed", "open", "half-open"]
Permit = NewType("Permit", int)


class CircuitBreaker:
    """The circuit of one deployment (M. Nygard, "Release It!", 2007).

    Closed, it lets everything through; `settings.failures` failures in a row open it. Open, it lets nothing through for
    `settings.cooldown` seconds. Then it is half-open and lets one attempt through, the probe: a success closes it, a
    failure opens it again for twice as long, up to `settings.longest`.

    Every attempt holds the `Permit` that `begin` gave it and returns it once, with its result. Permits belong to an
    era, which ends whenever the circuit opens or closes and whenever a probe begins. Results of an earlier era are
    dropped: an attempt that began before the circuit opened says nothing about the deployment after it, so its late
    failure must not lengthen the cooldown and its late success must not close the circuit before the probe answered.

    Guarantees: at most one probe at a time; never more than `longest` seconds without letting a probe through, provided
    that every permit is returned.

    Not safe for use from several threads; it never waits, so tasks of one event loop may share it.
    """

    def __init__(self, settings: Breaker) -> None:
        self._settings = settings
        self._era = 0
        self._failures = 0  # in a row, while closed
        self._cooldown = min(settings.cooldown, settings.longest)  # of the next opening
        self._reopens_at: float | None = None
        self._probing = False

    @property
    def reopens_at(self) -> float | None:
        """When a probe can begin; in the past if it can now. `None` if closed, or if a probe is under way."""
        return None if self._probing else self._reopens_at

    def state(self, now: float) -> State:
        """For display; `permits` decides. Half-open also while the probe is under way."""
        if self._reopens_at is None:
            return "closed"
        return "half-open" if self._probing or now >= self._reopens_at else "open"

    def permits(self, now: float) -> bool:
        """Whether an attempt may begin."""
        if self._reopens_at is None:
            return True
        return not self._probing and now >= self._reopens_at

    def begin(self, now: float) -> Permit:
        """Begin an attempt that `permits` allows. The permit must come back to exactly one of the next three methods.

        Raises:
            RuntimeError: it is not permitted: a mistake of the caller.
        """
        if not self.permits(now):
            raise RuntimeError("An attempt began on an open circuit. Ask `permits` first, in the same task step.")
        if self._reopens_at is not None:
            self._probing = True
            self._era += 1
        return Permit(self._era)

    def succeeded(self, permit: Permit, now: float) -> None:
        """The attempt was answered, or failed in a way that says nothing against the deployment."""
        del now
        if permit != self._era:
            return
        self._failures = 0
        if self._probing:
            self._close()

    def failed(self, permit: Permit, now: float) -> None:
        """The attempt failed in a way that speaks against the deployment."""
        if permit != self._era:
            return
        self._failures += 1
        if self._probing or self._failures >= self._settings.failures:
            self._open(now)

    def abandoned(self, permit: Permit, now: float) -> None:
        """The attempt was cancelled: nothing is known. A probe is given back, so that another attempt can be it."""
        del now
        if permit == self._era and self._probing:
            self._probing = False
            self._era += 1

    def _open(self, now: float) -> None:
        self._era += 1
        self._probing = False
        self._failures = 0
        self._reopens_at = now + self._cooldown
        self._cooldown = min(2 * self._cooldown, self._settings.longest)

    def _close(self) -> None:
        self._era += 1
        self._probing = False
        self._reopens_at = None
        self._cooldown = min(self._settings.cooldown, self._settings.longest)
