"""What can be configured about models: routes, their deployments, limits and budgets. Pure data.

`providers.catalog.parse` makes these from the tables of `runtime.toml`, `providers.catalog.from_env` from environment
variables.
Everything here has been checked when it exists: names resolve, numbers are positive, fallbacks do not run in circles.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Breaker",
    "Budget",
    "Catalog",
    "Deployment",
    "Hedge",
    "Price",
    "Provider",
    "Recording",
    "Route",
    "Rule",
    "Strategy",
    "StructuredOutput",
]

Provider: TypeAlias = Literal["openai", "anthropic", "openai-compatible", "offline", "langchain"]
Strategy: TypeAlias = Literal["order", "weighted", "least-busy", "lowest-latency", "lowest-cost"]
StructuredOutput: TypeAlias = Literal["function_calling", "json_schema"]


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float


@dataclass(frozen=True, slots=True)
class Breaker:
    """When a deployment's circuit opens, and for how long.

    Attributes:
        failures: consecutive failures that open it.
        cooldown: seconds until a probe is let through; doubled by each failed probe, up to `longest`.
        longest: seconds that a cooldown takes at most, however many probes have failed.
    """

    failures: int = 5
    cooldown: float = 5.0
    longest: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One model at one place.

    Attributes:
        name: unique in the catalog, `ROUTE/PROVIDER:MODEL`, numbered where that is not unique.
        provider: the kind of service, which decides client and wire mapping.
        model: the provider's name of the model.
        path: for `langchain`: `package.module:Class` of a LangChain chat model.
        api_key_env: name of the variable that holds the key. The key itself is never kept here, so that printing or
            logging a deployment cannot leak it.
        base_url: where it is served, if not at the provider's own address.
        parameters: arguments of the LangChain chat model: temperature, max_tokens, …
        weight: share of calls under the strategy `weighted`.
        rpm: requests a minute at most.
        tpm: tokens a minute at most, in and out.
        concurrency: calls in flight at most.
        timeout: seconds for the whole of one attempt.
        first_token_timeout: seconds to the first token of a stream.
        token_timeout: seconds between two tokens of a stream.
        retries: further attempts on this deployment after a failure that may pass.
        price: overrides the published price.
        structured_output: how a schema is asked for; `None` for the provider's default.
        breaker: when its circuit opens.
        where: where it was configured, for error messages.
    """

    name: str
    provider: Provider
    model: str
    path: str | None = None
    api_key_env: str | None = None
    base_url: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    weight: float = 1.0
    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    timeout: float = 60.0
    first_token_timeout: float | None = None
    token_timeout: float | None = None
    retries: int = 2
    price: Price | None = None
    structured_output: StructuredOutput | None = None
    breaker: Breaker = field(default_factory=Breaker)
    where: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """Sends a call with all of `tags`, and with no more input than `max_input_tokens` (estimated), to another route."""

    route: str
    tags: frozenset[str] = frozenset()
    max_input_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Hedge:
    """A second attempt elsewhere when the first is slow.

    Attributes:
        after: seconds without an answer (of a stream: without a first token) until the second one is sent.
        max_share: spend on second attempts at most, as a share of the spend on first ones (estimated; calls count alike
            where prices are unknown).
    """

    after: float
    max_share: float = 0.1


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent before calls are refused. `window` (seconds) is for routes: only spend that recent counts."""

    usd: float | None = None
    tokens: int | None = None
    window: float | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """Whether records of calls hold what was said; `redact` are regular expressions whose matches are blacked out."""

    content: bool = False
    redact: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A name that nodes ask for, and what serves it.

    Attributes:
        name: what nodes ask for.
        deployments: what serves it, as listed.
        strategy: which deployment is asked first, second, …
        fallbacks: routes asked when the deployments are used up.
        context_fallbacks: routes asked instead when the input is too long for a model.
        content_fallbacks: routes asked instead when a model refuses the content.
        rules: the first that applies sends the call to another route.
        patience: seconds a call waits for a limit, a slot or a circuit when no deployment can take it at once.
        hedge: second attempts, if any.
        continue_text: whether text whose stream broke may be continued by another model.
        budget: what the route may spend.
        where: where it was configured, for error messages.
    """

    name: str
    deployments: tuple[Deployment, ...]
    strategy: Strategy = "order"
    fallbacks: tuple[str, ...] = ()
    context_fallbacks: tuple[str, ...] = ()
    content_fallbacks: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    patience: float = 10.0
    hedge: Hedge | None = None
    continue_text: bool = False
    budget: Budget | None = None
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """All routes of a process.

    Attributes:
        routes: by name; every name that another route mentions is among them.
        catch_all: the route that serves every name, where nothing is configured.
        run_budget: what one run may spend.
        thread_budget: what one thread may spend in its whole life.
        recording: what records of calls hold.
    """

    routes: Mapping[str, Route]
    catch_all: Route | None = None
    run_budget: Budget | None = None
    thread_budget: Budget | None = None
    recording: Recording = field(default_factory=Recording)

    def reachable(self, route: Route) -> list[Route]:
        """The route and all that may answer its calls, at its expense: by rules and by fallbacks of each kind."""
        found, waiting = {route.name: route}, [route]
        while waiting:
            here = waiting.pop()
            rules = (rule.route for rule in here.rules)
            for name in (*here.fallbacks, *here.context_fallbacks, *here.content_fallbacks, *rules):
                if name not in found:
                    found[name] = self.routes[name]
                    waiting.append(found[name])
        return list(found.values())
