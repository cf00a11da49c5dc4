"""Starts `runtime` commands in forked processes: the real command line, without a second of imports each.

Run as `python -m tests.crash.nursery MODULE...`. It imports everything once, the modules named too, and before any
event loop, thread or connection exists it forks a child per request. Requests and replies are JSON, one a line:

    {"arguments": [...], "variables": {...}, "folder": ".", "failpoint": "name:nth", "signal": 9, "count": false}
        -> {"pid": 1}          the child writes stdout and stderr (and hits, with `count`) into the folder, by its pid
        With "program": MODULE it is that module's `main(arguments)` that runs.
    {"wait": 1} -> {"code": 0}  negative for a signal, as in `subprocess`
    {"look": [1, 2]} -> {"1": -9, "2": "stopped"}  those that have ended, or stopped, since the last look
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import signal
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import superstep.runtime.cli
import superstep.runtime.cli.inspect.state
import superstep.runtime.cli.render
import superstep.runtime.cli.run.debounce
import superstep.runtime.cli.run.execute
import superstep.runtime.cli.run.inputs
import superstep.runtime.cli.run.node_events
import superstep.runtime.cli.run.resume
import superstep.runtime.flow.transactional
import superstep.runtime.loading.loader
from superstep.checkpointer.database import failpoints
from tests.crash import graphs_for_crash  # noqa: F401 - the same


def main() -> None:
    for module in sys.argv[1:]:
        importlib.import_module(module)
    gc.freeze()  # what is shared with the children stays shared
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            reply: dict[str, Any] = {"code": os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])}
        elif "look" in request:
            reply = {str(pid): state for pid in request["look"] if (state := look(pid)) is not None}
        else:
            pid = os.fork()
            if pid == 0:
                child(request)
            reply = {"pid": pid}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


def look(pid: int) -> int | str | None:
    found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
    if not found:
        return None
    return "stopped" if os.WIFSTOPPED(status) else os.waitstatus_to_exitcode(status)


def child(request: dict[str, Any]) -> None:
    code = 1
    try:
        random.seed()  # or every child would draw the same checkpoint ids and versions
        os.environ.update(request["variables"])
        os.chdir(request["folder"])
        for stream, name in ((0, os.devnull), (1, f"{os.getpid()}.out"), (2, f"{os.getpid()}.err")):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT, 0o644), stream)
        hits: Counter[str] = Counter()
        if request.get("count"):
            count(hits)
        if point := request.get("failpoint"):
            signal_at(point, request["signal"])
        program = request.get("program")
        called = importlib.import_module(program).main if program else superstep.runtime.cli.main
        code = called(request["arguments"])
        if request.get("count"):
            Path(f"{os.getpid()}.hits").write_text(json.dumps(hits))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def signal_at(point: str, number: int) -> None:
    """Send this process a signal where it comes to a failpoint for the nth time; SIGKILL by the product's own means."""
    name, _, nth = point.partition(":")
    if number == signal.SIGKILL:
        failpoints._fatal, failpoints._remaining = name, int(nth)  # what SUPERSTEP_FAILPOINT sets on import
        return
    left = int(nth)

    async def act() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), number)

    failpoints.arm(name, act)


def count(hits: Counter[str]) -> None:
    for name in failpoints.NAMES:

        async def act(name: str = name) -> None:
            hits[name] += 1

        failpoints.arm(name, act)


if __name__ == "__main__":
    main()
