"""What is shown when both sides have run: the table, one sentence, how to repeat it; the same as JSON."""

from __future__ import annotations

from dataclasses import asdict
from textwrap import wrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from superstep.runtime.cli.demo.measures import Numbers, Recorded
    from superstep.runtime.cli.demo.scenario import Scenario

__all__ = ["again", "as_object", "money", "print_result", "seen", "titles"]

WIDTH = 80  # of sentences, also where a file has no width


def titles(scenario: Scenario) -> dict[str, str]:
    """Return what the sides are called, in the order in which they run."""
    return {"plain": "plain + cache" if scenario.ttl else "plain, no cache", "superstep": "Superstep"}


def money(cents: int) -> str:
    """Return an amount for people."""
    return f"{cents / 100:,.2f}"


def print_result(scenario: Scenario, plain: Numbers, ours: Numbers, place: str, out: Console) -> None:
    """Print the comparison, what was seen, and how it was made."""
    from superstep.runtime.cli.render import table

    table([("", ""), *((title, "right") for title in titles(scenario).values())], _rows(plain, ours), out)
    for text in (seen(plain, ours), *_how(scenario, place)):
        for line in wrap(text, min(out.width, WIDTH)):
            out.print(line)
    out.print(f"Again: {again(scenario)}", soft_wrap=True)


def _rows(*sides: Numbers) -> list[tuple[str, ...]]:
    def row(name: str, *cells: Any) -> tuple[str, ...]:
        return (name, *(str(cell) for cell in cells))

    return [
        row("applications decided", *(n.decided for n in sides)),
        row("approved", *(n.approved for n in sides)),
        row("wrong decisions", *(n.wrong_decisions for n in sides)),
        row("double spends: draws beyond a credit line", *(n.double_spends for n in sides)),
        row("overdrawn in the end", *(money(n.overdrawn) for n in sides)),
        row("draws whose account had moved since the plan", *(n.moved for n in sides)),
        row("divergence: planned on, and there at the draw", *(money(n.divergence) for n in sides)),
        row("age of what was planned on, at the draw", *(f"{n.age_ms:.0f} ms" for n in sides)),
        row("invalid plans, carried out", *(n.plans_executed_invalid for n in sides)),
        row("invalid plans, caught and made again", *(n.plans_caught for n in sides)),
        row("nodes run again on new facts", *(n.ran_again for n in sides)),
        row("LLM calls paid", *(n.llm_paid for n in sides)),
        row("LLM answers served again, not paid", *(n.llm_reused for n in sides)),
        row("seconds", *(f"{n.seconds:.1f}" for n in sides)),
    ]


def seen(plain: Numbers, ours: Numbers) -> str:
    """Return in words what the numbers say; nothing that they do not."""
    if plain.right:
        first = f"Plain: nothing went wrong this time, with {plain.approved} approved."
    else:
        first = (
            f"Plain: {plain.wrong_decisions} of {plain.decided} decisions are wrong, and the lines are overdrawn by "
            f"{money(plain.overdrawn)}."
        )
    if not ours.right:
        second = f"Superstep: WRONG, {ours.wrong_decisions} decisions, overdrawn by {money(ours.overdrawn)}."
    elif plain.right:
        second = f"Superstep: nothing went wrong, with {ours.approved} approved."
    else:
        second = f"Superstep: none is, nothing is overdrawn; {_plans(ours.plans_caught)} caught and made again."
    return f"{first} {second} LLM calls: {ours.llm_paid} instead of {plain.llm_paid}."


def _plans(caught: int) -> str:
    return "1 plan was" if caught == 1 else f"{caught} plans were"


def _how(scenario: Scenario, place: str) -> list[str]:
    cache = f"rows cached for {scenario.ttl:g} s and dropped when written" if scenario.ttl else "no cache"
    return [
        f"Both run the same nodes on {place}. All flows have read before any asks the model; the "
        f"{scenario.thinking:g} s that it thinks, twice in a flow, are the window. The model is the offline one.",
        f"Plain is LangGraph's InMemorySaver, {cache}, READ COMMITTED transactions.",
    ]


def again(scenario: Scenario) -> str:
    """Return the command that makes the same race."""
    given = f"--flows {scenario.flows} --accounts {scenario.accounts}"
    return f"runtime demo drift {given} --thinking {scenario.thinking:g} --ttl {scenario.ttl:g}"


def as_object(scenario: Scenario, sides: dict[str, tuple[Recorded, Numbers]]) -> dict[str, Any]:
    """Return all of it, with the rows that the numbers were counted from. Amounts in cents."""
    return {
        **asdict(scenario),
        "most_today": scenario.most_today,
        "credit_limit": scenario.credit_limit,
        "models": "offline, deterministic",
        "again": again(scenario),
        **{
            name: {
                **asdict(counted),
                "right": counted.right,
                "draws": found.draws,
                "decisions": found.decisions,
                "accounts": found.accounts,
                "ages_ms": found.ages,
            }
            for name, (found, counted) in sides.items()
        },
    }
