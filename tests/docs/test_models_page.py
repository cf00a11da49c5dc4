"""docs/models.md: every key there is, with its default, and nothing that is not so."""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from superstep.providers.catalog.checks import check_prices
from superstep.providers.catalog.model import Breaker, Budget, Catalog, Deployment, Hedge, Price, Recording, Route, Rule
from superstep.providers.catalog.parse import KEYS, parse_models
from superstep.providers.catalog.pricing import price_of
from superstep.providers.embeddings.settings import EmbeddingSettings, parse_embeddings
from superstep.providers.policy.failures import Action, classify

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")

# What each table of keys becomes. A run's budget has no window.
BECOMES: dict[str, Any] = {
    "models.NAME": Route,
    "models.NAME.deployments": Deployment,
    "models.NAME.deployments.price": Price,
    "models.NAME.deployments.breaker": Breaker,
    "models.NAME.rules": Rule,
    "models.NAME.hedge": Hedge,
    "models.NAME.budget": Budget,
    "budgets": Catalog,
    "budgets.run": Budget,
    "budgets.thread": Budget,
    "recording": Recording,
    "embeddings.NAME": EmbeddingSettings,
}


def documented() -> dict[str, dict[str, str]]:
    """The default of each key as written, by table: the tables of the page whose first column is `key`."""
    found: dict[str, dict[str, str]] = {}
    name = ""
    keys: dict[str, str] | None = None
    for line in PAGE.splitlines():
        for named in re.findall(r"`\[+([A-Za-z._]+)\]+`(?=:?$)", line):
            name = named
        if line == "| key | default | meaning |":
            keys = found.setdefault(name, {})
        elif keys is not None and (cells := re.match(r"\| `(\w+)` \| (.*?) \| \S.* \|$", line)):
            keys[cells[1]] = cells[2]
        elif not line.startswith("|"):
            keys = None
    return found


def plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {} if value == type(value)() else asdict(value)
    return list(value) if isinstance(value, tuple | frozenset) else value


def test_every_key_is_documented_and_every_documented_key_exists() -> None:
    embeddings = {each.name for each in fields(EmbeddingSettings)} - {"name", "where"}
    there_are = {table: set(keys) for table, keys in KEYS.items()} | {"embeddings.NAME": embeddings}
    assert {table: set(keys) for table, keys in documented().items()} == there_are
    assert set(BECOMES) == set(there_are)


@pytest.mark.parametrize(
    ("table", "key", "written"),
    [
        (table, key, written)
        for table, keys in documented().items()
        for key, written in keys.items()
        if table in BECOMES
    ],
)
def test_documented_defaults_are_the_defaults(table: str, key: str, written: str) -> None:
    named = {"run": "run_budget", "thread": "thread_budget"} if table == "budgets" else {}
    (field,) = [each for each in fields(BECOMES[table]) if each.name == named.get(key, key)]
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    if written == "by provider":
        assert key in ("model", "api_key_env", "dimensions")
    elif written == "required":
        assert default is MISSING
    elif written == "none":
        assert default is None
    else:
        assert plain(default) == tomllib.loads(f"x = {written.strip('`')}")["x"]


def test_examples_are_accepted() -> None:
    examples = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(examples) == 3
    for example in examples:
        tables = tomllib.loads(example)
        catalog = parse_models(
            tables.get("models", {}), tables.get("budgets", {}), tables.get("recording", {}), place=str
        )
        check_prices(catalog, price_of)
        parse_embeddings(tables.get("embeddings", {}), place=str)


def rows(first: str) -> list[list[str]]:
    """The rows of the table whose first column has that name."""
    (table,) = re.findall(rf"^\| {re.escape(first)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_strategies_are_those_there_are() -> None:
    written = [row[0].strip('`"') for row in rows("`strategy`")]
    for strategy in written:
        parse_models({"r": {"strategy": strategy, "deployments": [{"provider": "offline"}]}}, {}, {}, place=str)
    assert len(written) == 5


def test_the_failure_table_says_what_the_policy_does() -> None:
    seen = []
    for _, statuses, then in rows("what happened"):
        action = re.search(r"\*\*(.+?)\*\*", then)
        assert action is not None
        for status in map(int, re.findall(r"\d{3}", statuses)):
            seen.append(status)
            assert classify(Exception(), status=status).action is Action(action[1])
    assert len(seen) == len(set(seen)) > 20
