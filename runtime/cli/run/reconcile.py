"""`runtime reconcile`: finished flows decide again, without effects, and what comes out otherwise is told."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from superstep.runtime.cli.options import Common, Duration, common_options, json_option, pass_common

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from rich.console import Console

    from superstep.checkpointer import ThreadSummary, TransactionalSaver
    from superstep.runtime.cli.session import Stop
    from superstep.runtime.flow.reconcile import Reconciled
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["reconcile"]

_SHOWN = 60  # characters of a value


@click.command()
@click.argument("threads", metavar="[THREAD]...", nargs=-1)
@click.option("--sample", type=click.IntRange(min=1), default=20, show_default=True, help="So many, if none is named.")
@click.option("--graph", metavar="NAME", help="Only threads of this graph.")
@click.option("--since", type=Duration(), default="1d", show_default=True, help="Only threads that ended since then.")
@click.option("--channel", "channels", metavar="NAME", multiple=True, help="What the decision is; default: all.")
@json_option
@common_options
@pass_common
def reconcile(
    common: Common,
    threads: tuple[str, ...],
    sample: int,
    graph: str | None,
    since: timedelta,
    channels: tuple[str, ...],
    as_json: bool,
) -> int:
    """Have finished flows decide again on the state as it is now.

    Nothing is written but what `runtime metrics` tells: staged writes are withheld, and models answer as they did
    unless they are asked something new. What nodes do to the world otherwise than by their step happens again.
    """
    from superstep.providers import close_service
    from superstep.runtime.cli.render import console, print_json
    from superstep.runtime.cli.session import open_saver, run_async
    from superstep.runtime.cli.threads import thread_summary
    from superstep.runtime.settings.models import use_models

    settings = common.settings(imports=True)
    use_models(settings)

    async def main(_: Stop) -> list[Reconciled]:
        async with open_saver(settings, prepare=False) as saver:
            named = threads or await saver.afinished(sample, since=since, graph=graph)
            summaries = [await thread_summary(saver, each, settings) for each in named]
            try:
                return [await _decided_again(saver, each, settings, channels) for each in summaries]
            finally:
                await close_service()

    found = run_async(main)
    if as_json:
        print_json(_object(found))
    else:
        _print(found, console())
    return 0


async def _decided_again(
    saver: TransactionalSaver, summary: ThreadSummary, settings: CommandSettings, channels: Sequence[str]
) -> Reconciled:
    """One thread. A graph that cannot be loaded any more is told like a trial that has failed."""
    from superstep.runtime.cli.run.execute import Turn, wrapped
    from superstep.runtime.cli.run.resume import load_graph_of
    from superstep.runtime.faults import RuntimeFault, ThreadBusy
    from superstep.runtime.flow.reconcile import Reconciled
    from superstep.runtime.flow.reconcile import reconcile as decide_again
    from superstep.runtime.loading.factories import FactoryCall
    from superstep.runtime.loading.hooks import prepared

    thread = summary.thread_id
    try:
        if summary.status != "completed":
            raise ThreadBusy(f"The thread {thread} has not completed ({summary.status}), so it has decided nothing.")
        loaded = await load_graph_of(saver, summary, None, FactoryCall())
        async with aclosing(loaded), prepared(loaded, saver):
            flow = wrapped(Turn(loaded, summary.graph or loaded.name, thread, None), saver, settings)
            return await decide_again(flow, saver, thread, channels=channels or None)
    except RuntimeFault as error:
        return Reconciled(thread, summary.graph, "failed", error=f"{type(error).__name__}: {error}")


def _object(found: Sequence[Reconciled]) -> dict[str, Any]:
    compared = [each for each in found if each.is_compared]
    differing = sum(each.outcome == "differs" for each in compared)
    return {
        "flows": len(found),
        "compared": len(compared),
        "differing": differing,
        "delta": differing / len(compared) if compared else None,
        "llm_paid": sum(each.llm_paid for each in found),
        "llm_reused": sum(each.llm_reused for each in found),
        "threads": [{**asdict(each), "channels": each.channels} for each in found],
    }


def _print(found: Sequence[Reconciled], out: Console) -> None:
    from superstep.runtime.cli.render import count, table

    if not found:
        out.print("No flow has completed in that time. Look further back with --since 30d.")
        return
    shown = _object(found)
    rows = [
        (
            each.thread_id,
            each.graph or "?",
            each.outcome,
            each.error or "\n".join(_change(each, channel) for channel in each.channels),
            each.llm_paid,
            each.llm_reused,
        )
        for each in found
        if each.outcome != "same"
    ]
    if rows:
        columns = [("thread", "whole"), ("graph", ""), ("outcome", ""), ("how", "")]
        table([*columns, ("LLM paid", "right"), ("reused", "right")], rows, out)
    outcomes = ", ".join(f"{number} {outcome}" for outcome, number in Counter(each.outcome for each in found).items())
    delta = "nothing to compare" if shown["delta"] is None else f"reconciliation delta {100 * shown['delta']:.1f} %"
    calls = f"{shown['llm_paid']} LLM calls paid, {shown['llm_reused']} reused"
    style = "red" if shown["differing"] else "green"
    out.print(f"{count(len(found), 'flow')}: {outcomes} · {delta} · {calls}", style=style, soft_wrap=True)


def _change(found: Reconciled, channel: str) -> str:
    before, after = (_cut(values.get(channel, "(none)")) for values in (found.before, found.after))
    return f"{channel}: {before} → {after}"


def _cut(value: Any) -> str:
    from superstep.runtime.cli.render import json_text

    text = " ".join(json_text(value, encoding=None, indent=None).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
