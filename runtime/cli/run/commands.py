"""`runtime run` and `runtime resume`."""

from __future__ import annotations

import uuid
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from superstep.runtime.cli.options import Common, common_options, json_option, pass_common

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from superstep.checkpointer import TransactionalSaver
    from superstep.runtime.cli.run.outcome import Outcome
    from superstep.runtime.cli.session import Stop
    from superstep.runtime.loading.loader import LoadedGraph
    from superstep.runtime.settings.settings import CommandSettings

__all__ = ["RunRequest", "context_option", "example", "is_known", "resume", "run"]

context_option = click.option(
    "--context", metavar="JSON|@FILE", help="Context of the run, which nodes find in runtime.context."
)
stream_option = click.option(
    "--stream",
    type=click.Choice(["updates", "values", "messages"]),
    help="Also print node updates, the state after each step, or tokens of models as they come.",
)


take_over_option = click.option(
    "--take-over",
    is_flag=True,
    help="If another process is running the thread, end that run. What it has committed stays.",
)


strategy_option = click.option(
    "--multitask-strategy",
    "strategy",
    type=click.Choice(["reject", "enqueue", "interrupt", "rollback"]),
    help="If the thread is being run: refuse, wait, end that run after its step, or take back what its input has done.",
)


isolation_option = click.option(
    "--isolation",
    type=click.Choice(["step", "flow"]),
    help="What each commit validates: what its own step has read, or what the run has read since it began.",
)


trace_option = click.option(
    "--trace", is_flag=True, help="Send spans of OpenTelemetry to the exporters that OTEL_TRACES_EXPORTER names."
)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What a command line asks for.

    Attributes:
        common: the common options.
        graph: GRAPH, if it was named.
        thread: the thread, if it was named.
        given: the text of `--input` or `--value`.
        context: the text of `--context`.
        checkpoint: the checkpoint to fork from.
        take_over: end a run of the thread that another process has under way.
        isolation: "step" or "flow", if it was named.
        strategy: what is to be done if the thread is being run, if it was named.
        stream: stream mode to print.
        trace: report spans, whatever the settings say.
        as_json: whether standard output is for one JSON object.
    """

    common: Common
    graph: str | None
    thread: str | None
    given: str | None
    context: str | None = None
    checkpoint: str | None = None
    take_over: bool = False
    isolation: str | None = None
    strategy: str | None = None
    stream: str | None = None
    trace: bool = False
    as_json: bool = False


@click.command()
@click.argument("graph")
@click.option("--input", "given", metavar="JSON|@FILE|-", help="Input. Default: the graph's example_input.")
@click.option("--thread", metavar="ID", help="Thread to run on, by its whole id. Default: a new one.")
@isolation_option
@take_over_option
@strategy_option
@context_option
@stream_option
@trace_option
@json_option
@common_options
@pass_common
def run(common: Common, /, **options: Any) -> int:
    """Run a flow.

    GRAPH is package.module, file.py, either with :attribute, or a name in langgraph.json.
    """
    return _outcome_of(_run, RunRequest(common, **options))


@click.command()
@click.argument("thread")
@click.option("--value", "given", metavar="JSON", help="Answer to the interrupt the thread waits at.")
@click.option("--checkpoint", metavar="ID", help="Fork from this checkpoint instead of the latest.")
@click.option("--graph", metavar="GRAPH", help="Where the thread's graph is now, if it has moved.")
@isolation_option
@take_over_option
@context_option
@stream_option
@trace_option
@json_option
@common_options
@pass_common
def resume(common: Common, /, **options: Any) -> int:
    """Answer, continue or fork THREAD.

    Answer an interrupt, continue after a crash, or fork from a checkpoint. The beginnings of ids will do.
    """
    return _outcome_of(_resume, RunRequest(common, **options))


def _outcome_of(perform: Callable[[RunRequest, CommandSettings, Stop], Awaitable[Outcome]], request: RunRequest) -> int:
    """Perform a request, show its outcome, and return the exit code.

    An error before the run is an outcome too, so that `--json` always prints one object.
    """
    from superstep.runtime.cli.render import OutputClosed
    from superstep.runtime.cli.run.outcome import Outcome, blank_report
    from superstep.runtime.cli.session import run_async
    from superstep.runtime.cli.telemetry import observed

    def show(outcome: Outcome) -> int:
        return outcome.show(as_json=request.as_json, debug=request.common.debug)

    async def main(stop: Stop) -> int:
        settings = request.common.settings(runs=True)
        with observed(settings, trace=request.trace):
            return show(await perform(request, settings, stop))

    try:
        return run_async(main)
    except OutputClosed:
        raise
    except Exception as error:  # noqa: BLE001 - whatever ended the command is its outcome
        return show(Outcome(blank_report(request.thread, request.graph), error, started=False))


async def _run(request: RunRequest, settings: CommandSettings, stop: Stop) -> Outcome:
    # From cheap to dear: nothing is imported, connected or written for an input that cannot be run.
    from superstep.runtime.cli.run.inputs import fit_input, read_json, require_fields
    from superstep.runtime.cli.run.run_options import fit_context, read_options

    given = None if request.given is None else (read_json(request.given, "--input"),)
    how = read_options(request.context, request.common.run_config)

    from superstep.runtime.cli.run.execute import Turn, strategy_of, take_turn
    from superstep.runtime.cli.session import open_saver
    from superstep.runtime.loading.loader import load_graph
    from superstep.runtime.settings.models import use_models

    use_models(settings)
    thread = request.thread or str(uuid.uuid4())
    loaded = await load_graph(str(request.graph), call=how.factory_call(thread))
    async with aclosing(loaded):
        graph = loaded.compile()
        value = fit_input(given[0], graph, loaded.name) if given else example(loaded)
        fit_context(how, graph, loaded.name)
        if request.thread is None:
            require_fields(value, graph, loaded.name)
        async with open_saver(settings, prepare=True) as saver:
            strategy = strategy_of(request.strategy, settings, graph) if not request.take_over else None
            takes = request.take_over or strategy not in (None, "reject")
            known = await is_known(request, loaded, saver, takes=takes)
            if not known:
                require_fields(value, graph, loaded.name)
            turn = Turn(loaded, loaded.name, thread, value, known=known, how=how, strategy=strategy)
            turn.take_over, turn.isolation = request.take_over, request.isolation
            return await take_turn(turn, saver, settings, stop, stream=request.stream, as_json=request.as_json)


def example(loaded: LoadedGraph) -> Any:
    """Return the example input of a graph.

    Raises:
        InputInvalid: It has none, so that an input must be given.
    """
    from superstep.runtime.cli.run.inputs import input_fields
    from superstep.runtime.faults import InputInvalid

    found = loaded.hook("example_input")
    if found is None:
        fields = ", ".join(input_fields(loaded.compile()))
        raise InputInvalid(
            f"{loaded.name} needs an input{f' with the fields {fields}' if fields else ''}. "
            "Give it with --input JSON, --input @FILE, or --input - for standard input."
        )
    return found() if callable(found) else found


async def is_known(request: RunRequest, loaded: LoadedGraph, saver: TransactionalSaver, *, takes: bool) -> bool:
    """Tell whether the thread is there already.

    Args:
        request: Names the thread and the input. The example is an input for a new thread only.
        loaded: The graph.
        saver: Only read from.
        takes: Whether another process may be running the thread.

    Raises:
        ThreadBusy: One is.
        ThreadMismatch: The thread is of another graph.
        InputInvalid: It exists, and no input was given.
    """
    from superstep.runtime.cli.threads import refuse_running
    from superstep.runtime.faults import InputInvalid, ThreadMismatch
    from superstep.runtime.settings.shown import shell_word

    summary = await saver.athread(request.thread) if request.thread else None
    if summary is None:
        return False
    refuse_running(summary, take_over=takes)
    # What has finished cannot be continued, only looked at.
    way = "see it with: runtime show" if summary.status == "completed" else "continue it with: runtime resume"
    instead = f"{way} {shell_word(summary.thread_id)}"
    if summary.graph not in (None, loaded.name):
        raise ThreadMismatch(
            f"The thread {summary.thread_id} belongs to the graph {summary.graph}, not {loaded.name}. Use another "
            f"--thread, or {instead}"
        )
    if request.given is None:
        raise InputInvalid(
            f"The thread {summary.thread_id} exists already ({summary.status}). Give --input for another turn, or "
            f"{instead}"
        )
    return True


async def _resume(request: RunRequest, settings: CommandSettings, stop: Stop) -> Outcome:
    from superstep.runtime.cli.run.inputs import read_json
    from superstep.runtime.cli.run.run_options import fit_context, read_options

    answer = None if request.given is None else (read_json(request.given, "--value"),)
    how = read_options(request.context, request.common.run_config)

    from superstep.runtime.cli.run.execute import Turn, take_turn
    from superstep.runtime.cli.run.resume import WAITING, load_graph_of, next_payload, waiting_outcome
    from superstep.runtime.cli.session import open_saver
    from superstep.runtime.cli.threads import full_checkpoint, refuse_running, thread_summary
    from superstep.runtime.loading.hooks import prepared
    from superstep.runtime.settings.models import use_models

    use_models(settings)
    thread = str(request.thread)
    async with open_saver(settings, prepare=False) as saver:
        summary = await thread_summary(saver, thread, settings)
        refuse_running(summary, take_over=request.take_over)
        loaded = await load_graph_of(saver, summary, request.graph, how.factory_call(thread))
        async with aclosing(loaded):
            fit_context(how, loaded.compile(), loaded.name)
            thread = summary.thread_id
            at = await full_checkpoint(saver, thread, request.checkpoint) if request.checkpoint else None
            turn = Turn(loaded, summary.graph or loaded.name, thread, None, at, known=True, how=how)
            turn.take_over, turn.isolation = request.take_over, request.isolation
            turn.payload = await next_payload(saver, turn, answer)
            if turn.payload is WAITING:
                async with prepared(loaded, saver):
                    return await waiting_outcome(saver, turn, settings)
            return await take_turn(turn, saver, settings, stop, stream=request.stream, as_json=request.as_json)
