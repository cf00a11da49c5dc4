"""Settings: `runtime.toml`, overridden by `RUNTIME_*` variables, overridden by flags.

The database address has one more source: `DATABASE_URL`, below `RUNTIME_DATABASE_URL` and above the file, because it is
what hosting platforms set. Without any address the embedded Postgres is used.

Every error names the place a wrong value came from and never shows the value, which may hold a password.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from superstep.runtime.faults import ConfigError
from superstep.runtime.masking import without_password
from superstep.runtime.settings.file import FIELDS, parsed, read_settings_file
from superstep.runtime.settings.lines import dotted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["DatabaseSettings", "RunSettings", "WorkerSettings", "CommandSettings", "load_settings", "without_password"]
__all__ = [
    "DatabaseSettings",
    "RunSettings",
    "TelemetrySettings",
    "CommandSettings",
    "load_settings",
    "without_password",
]

DEFAULT_FILE = "runtime.toml"


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Where the database is and how it is used.

    Attributes:
        url: connection string, or `None` for the embedded Postgres. Not shown by `repr`: it may have a password.
        schema: Postgres schema that holds the runtime's own tables.
        pool_min: connections kept open.
        pool_max: connections at most.
        hold_idle: seconds without a database call after which a super-step gives its connection back; `"forever"`
            keeps the transaction open.
        hold_max: seconds after which it changes its transaction for a new one in any case; `None` leaves it to the
            runtime: one second, or never with `hold_idle = "forever"`.
    """

    url: str | None = field(default=None, repr=False)
    schema: str = "runtime"
    pool_min: int = 1
    pool_max: int = 10
    hold_idle: float | Literal["forever"] = 0.25
    hold_max: float | None = None


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How runs behave.

    Attributes:
        max_attempts: how often a super-step is tried before `ConflictExhausted`; `None` leaves it to the runtime.
        on_stale_answer: what happens to a human's answer when the facts of its question have moved: ask again, or
            accept it all the same.
        multitask_strategy: what becomes of a run whose thread is being run; `None` leaves it to the graph, and if that
            says nothing either, the run is rejected.
    """

    max_attempts: int | None = None
    on_stale_answer: Literal["ask", "accept"] = "ask"
    multitask_strategy: Literal["reject", "enqueue", "interrupt", "rollback"] | None = None


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a worker takes queued runs.

    Attributes:
        concurrency: how many at once.
        lease: seconds without a sign of life after which other workers take what it has.
        grace: seconds that runs may go on when it stops, until they are handed back as they are.
        tries: how often a run is tried that ends in an error which may pass.
    """

    concurrency: int = 10
    lease: float = 4.0
    grace: float = 30.0
    tries: int = 8


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """What commands that run flows tell of them, see docs/telemetry.md.

    Attributes:
        trace: spans, for the exporters that `OTEL_TRACES_EXPORTER` names.
        metrics: measures, for those of `OTEL_METRICS_EXPORTER`.
        trace_content: spans also hold prompts, answers and the text of SQL statements.
        log_format: how lines of the log look.
        log_level: from which level on the project logs; `None` leaves logging as it is.
    """

    trace: bool = False
    metrics: bool = False
    trace_content: bool = False
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["debug", "info", "warning", "error"] | None = None


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """All settings of one command, resolved.

    Attributes:
        database: where the database is and how it is used.
        run: how runs behave.
        worker: how workers take them.
        telemetry: what they tell.
        file: the settings file that was read, if any.
        models: the section of that name as it is in the file; `runtime.settings.models` checks it. Not shown by `repr`,
            because a key may have been written there by mistake. The next three are kept and hidden in the same way.
        budgets: limits of what a run and a thread may spend.
        recording: what of requests and answers is kept in call records.
        embeddings: embedders by name.
        retention: how long threads are kept; `runtime.settings.retention` checks it.
        derived: aggregates over ingested events; `runtime.settings.derived` checks it.
        place: names file, line and key of a value, given the keys and indices that lead to it.
    """

    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    run: RunSettings = field(default_factory=RunSettings)
    worker: WorkerSettings = field(default_factory=WorkerSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    file: Path | None = None
    models: Any = field(default_factory=dict, repr=False)
    budgets: Any = field(default_factory=dict, repr=False)
    recording: Any = field(default_factory=dict, repr=False)
    embeddings: Any = field(default_factory=dict, repr=False)
    retention: Any = field(default_factory=dict, repr=False)
    derived: Any = field(default_factory=dict, repr=False)
    place: Callable[[Sequence[str | int]], str] = field(default=dotted, repr=False, compare=False)


def variable(key: str) -> str:
    """Return the name of the environment variable that overrides a setting."""
    return "RUNTIME_DATABASE_URL" if key == "url" else f"RUNTIME_{key.upper()}"


def load_settings(
    *,
    file: str | Path | None = None,
    flags: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> CommandSettings:
    """Resolve the settings of one command.

    Args:
        file: Settings file; it must exist. Without it, `runtime.toml` of the folder is read if there is one.
        flags: Values given on the command line by key (`url`, `schema`, …); `None` means not given.
        env: Environment to read instead of the process's own.
        folder: Folder to look in instead of the current one.

    Returns:
        The settings, each from the first of: flag, variable, file, default.

    Raises:
        ConfigError: A file is missing or broken, a key is unknown, or a value has the wrong type. The message names
            file, line and key, and never a value.
    """
    env = os.environ if env is None else env
    path = _settings_file(file if file is not None else env.get("RUNTIME_CONFIG") or None, folder or Path())
    read = read_settings_file(path) if path else None
    found = read.found if read else {section: {} for section in FIELDS}
    _refuse_misspelt_variables(env)
    for section, keys in FIELDS.items():
        for key, parse in keys.items():
            given = _override(key, flags or {}, env)
            if given:
                found[section][key] = parsed(parse, *given)
    sections = _database(found["database"]), RunSettings(**found["run"]), WorkerSettings(**found["worker"])
    telemetry = TelemetrySettings(**found["telemetry"])
    if read is None:
        return CommandSettings(*sections, telemetry)
    return CommandSettings(*sections, telemetry, file=path, place=read.place, **read.raw)


def _database(found: Mapping[str, Any]) -> DatabaseSettings:
    database = DatabaseSettings(**found)
    if database.pool_min > database.pool_max:
        raise ConfigError(
            f"pool_min ({database.pool_min}) is larger than pool_max ({database.pool_max}). Lower pool_min or raise "
            "pool_max in [database] of runtime.toml, or in RUNTIME_POOL_MIN and RUNTIME_POOL_MAX."
        )
    return database


def _override(key: str, flags: Mapping[str, Any], env: Mapping[str, str]) -> tuple[Any, str] | None:
    """Return what overrides the file for one key, and where it comes from. An empty variable counts as not set."""
    if flags.get(key) is not None:
        return flags[key], "--db" if key == "url" else f"--{key}"
    names = [variable(key)] + (["DATABASE_URL"] if key == "url" else [])
    return next(((env[name], f"the variable {name}") for name in names if env.get(name)), None)


def _settings_file(file: str | Path | None, folder: Path) -> Path | None:
    if file is not None:
        path = folder / file
        if not path.is_file():
            raise ConfigError(f"There is no settings file {path}. Check --config, or leave it out to use the defaults.")
        return path
    path = folder / DEFAULT_FILE
    return path if path.is_file() else None


def _refuse_misspelt_variables(env: Mapping[str, str]) -> None:
    """Refuse a `RUNTIME_*` variable that nearly has a known name; others may belong to other programs."""
    known = [variable(key) for keys in FIELDS.values() for key in keys] + ["RUNTIME_CONFIG"]
    for name in env:
        if name.startswith("RUNTIME_") and name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.88)
            if close:
                raise ConfigError(f"The variable {name} is not a setting. Did you mean {close[0]}?")
