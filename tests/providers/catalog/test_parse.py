"""Tables of `runtime.toml` become a catalog, or an error that says where and what to do and shows no value."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from datetime import date, time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superstep.providers.catalog.model import Breaker, Budget, Catalog, Deployment, Hedge, Price, Recording, Route, Rule
from superstep.providers.catalog.parse import KEYS, parse_models
from superstep.runtime.faults import ConfigError
from tests.providers.catalog.tables import EVERYTHING, SECRET, complaint, deployed, parse, place


def test_every_key_becomes_what_the_dataclasses_say() -> None:  # as long as there are keys
    found = parse(EVERYTHING)
    strong, fast = found.routes["strong"], found.routes["fast"]
    assert strong.deployments[0] == Deployment(
        name="strong/openai:m",
        provider="openai",
        model="m",
        api_key_env="MY_KEY",
        base_url="https://gateway.example/v1",
        parameters={"temperature": 0, "extra_body": {"a": [1]}},
        weight=2.0,
        rpm=500,
        tpm=200000,
        concurrency=4,
        timeout=30.0,
        first_token_timeout=5.0,
        token_timeout=2.5,
        retries=0,
        price=Price(input=0.5, output=2.0),
        structured_output="json_schema",
        breaker=Breaker(failures=2, cooldown=1.0, longest=9.0),
        where="@models/strong/deployments/0",
    )
    assert replace(strong, deployments=()) == Route(
        name="strong",
        deployments=(),
        strategy="lowest-latency",
        fallbacks=("fast",),
        context_fallbacks=("fast",),
        content_fallbacks=("fast",),
        rules=(Rule(route="fast", tags=frozenset({"simple", "short"}), max_input_tokens=500),),
        patience=0.0,
        hedge=Hedge(after=2.0),
        continue_text=True,
        budget=Budget(usd=3.0, tokens=1000, window=86400.0),
        where="@models/strong",
    )
    # Every key of every table was used above, so none can be forgotten here.
    written = set(re.findall(r"\b(\w+) = ", EVERYTHING))
    assert {key for keys in KEYS.values() for key in keys} - written == {"deployments", "rules", "max_share"}
    assert [each.name for each in strong.deployments[1:]] == [
        "strong/openai:m#2",
        "strong/anthropic:c",
        "strong/langchain:Chat",
    ]
    assert [each.api_key_env for each in strong.deployments[1:]] == ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", None]
    assert (strong.deployments[3].path, strong.deployments[3].model) == ("package.module:Chat", "")
    assert (fast.deployments[0].api_key_env, fast.deployments[1].model) == (None, "offline")
    assert (found.run_budget, found.thread_budget) == (Budget(usd=1.0, tokens=200000), Budget(tokens=5))
    assert found.recording == Recording(content=True, redact=("[0-9]{16}",))
    assert found.catch_all is None


def test_nothing_configured_is_a_catalog_without_routes() -> None:
    assert parse("") == Catalog(routes={})


def test_names_of_deployments_are_unique_in_the_whole_catalog() -> None:
    found = parse("""
        [models]
        a = { deployments = [{ provider = "openai", model = "x/openai:y" }, { provider = "openai", model = "z#2" },
                             { provider = "openai", model = "z" }, { provider = "openai", model = "z" }] }
        "a/openai:x" = { deployments = [{ provider = "openai", model = "y" }] }
    """)
    names = [each.name for route in found.routes.values() for each in route.deployments]
    assert len(set(names)) == len(names) == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[models]\nfast = 1", ["@models/fast must be a table"]),
        ("models = 1", ["@models must be a table of routes"]),
        ("[models.fast]", ["@models/fast has no deployment", "[[models.fast.deployments]]"]),
        ("[models.fast]\ndeployments = []", ["@models/fast has no deployment"]),
        ("[models.fast]\ndeployments = {}", ["@models/fast/deployments must be a list"]),
        (deployed("rmp = 3"), ["@models/fast/deployments/0/rmp", "not a key", "Did you mean rpm?"]),
        (deployed("zzzzz = 3"), ["Known: api_key_env, base_url,"]),
        (deployed(provider="opnai"), ["/provider must be one of", "Did you mean openai?"]),
        ("[models.fast]\n[[models.fast.deployments]]", ["deployments/0 lacks the key provider"]),
        ('[models.fast]\nstrategy = "cheapest"', ["@models/fast/strategy must be one of", '"lowest-cost"']),
        (deployed(provider="openai"), ["lacks the key model", "provider openai"]),
        (deployed('model = "m"', provider="openai-compatible"), ["lacks the key base_url"]),
        (deployed('model = "m"', provider="langchain"), ["lacks the key path"]),
        (deployed('path = "a:B"'), ["/path means nothing to provider offline"]),
        (deployed('path = "a.b"', provider="langchain"), ["package.module:Class"]),
        (deployed('path = "a/b:c"', provider="langchain"), ["package.module:Class"]),
        (deployed('model = " "'), ["/model must be a text"]),
        (deployed("rpm = 0"), ["/rpm must be a whole number, 1 or more"]),
        (deployed("tpm = -5"), ["/tpm must be a whole number, 1 or more"]),
        (deployed("concurrency = 1.5"), ["/concurrency must be a whole number"]),
        (deployed("rpm = true"), ["/rpm must be a whole number"]),
        (deployed("weight = 0"), ["/weight must be a number, greater than 0"]),
        (deployed("weight = nan"), ["/weight must be a number"]),
        (deployed("timeout = 0"), ["/timeout must be a number of seconds, greater than 0"]),
        (deployed("timeout = inf"), ["/timeout must be a number of seconds"]),
        (deployed(f"timeout = 1{'0' * 400}"), ["/timeout must be a number of seconds"]),
        (deployed("first_token_timeout = -1"), ["/first_token_timeout must be"]),
        (deployed("token_timeout = 0"), ["/token_timeout must be"]),
        (deployed("retries = -1"), ["/retries must be a whole number, 0 or more"]),
        (deployed("price = { input = 1 }"), ["/price lacks the key output"]),
        (deployed("price = { input = -1, output = 1 }"), ["/price/input must be a number of US dollars", "0 or more"]),
        (deployed("breaker = { failures = 0 }"), ["/breaker/failures must be"]),
        (deployed("breaker = { cooldown = 300 }"), ["/breaker has longest (120 s) below cooldown (300 s)"]),
        (deployed('structured_output = "json"'), ['"function_calling", "json_schema"']),
        (deployed("parameters = 1"), ["/parameters must be a table"]),
        (
            deployed('model = "m"', "parameters = { timeout = 1 }", provider="openai"),
            ["/parameters/timeout belongs beside parameters: write timeout there"],
        ),
        ("[models.fast]\npatience = -1", ["@models/fast/patience must be a number of seconds, 0 or more"]),
        ("[models.fast]\nhedge = { after = 1, max_share = 1.5 }", ["/hedge/max_share", "1 at most"]),
        ("[models.fast]\nhedge = {}", ["/hedge lacks the key after"]),
        ("[models.fast]\ncontinue_text = 1", ["/continue_text must be true or false"]),
        ("[models.fast]\nbudget = { usd = 0 }", ["/budget/usd must be a number of US dollars, greater than 0"]),
        ('[models.fast]\nbudget = { window = "1d" }', ["/budget limits nothing"]),
        ('[models.fast]\nbudget = { tokens = 1, window = "0s" }', ["/budget/window must be"]),
        ('[models.fast]\nbudget = { tokens = 1, window = "1y" }', ["/budget/window must be", '"1d"']),
        ("[models.fast]\nfallbacks = 'slow'", ["/fallbacks must be a list"]),
        ("[models.fast]\nfallbacks = [1]", ["/fallbacks/0 must be a text"]),
        ("[[models.fast.rules]]\nroute = 'slow'", ["/rules/0 would send every call away"]),
        ("[[models.fast.rules]]\ntags = ['a']", ["/rules/0 lacks the key route"]),
        ("[[models.fast.rules]]\nroute = 'slow'\nmax_input_tokens = 0", ["/max_input_tokens must be"]),
        ('[budgets]\nrun = { usd = 1, window = "1d" }', ["@budgets/run/window is not a key"]),
        ("[budgets]\nthread = {}", ["@budgets/thread limits nothing"]),
        ("[budgets]\nruns = {}", ["Did you mean run?"]),
        ("budgets = 3", ["@budgets must be a table"]),
        ('[recording]\ncontent = "yes"', ["@recording/content must be true or false"]),
        ('[recording]\nredact = ["ok", "("]', ["@recording/redact/1 is not a regular expression", "position 0"]),
        ('[recording]\nredact = ["[[a]"]', ["@recording/redact/0 is not a regular expression"]),
        ('[recording]\nredact = ["a{99999999999999}"]', ["@recording/redact/0 is not a regular expression"]),
        ('[recording]\nredact = ["x*"]', ["@recording/redact/0 matches the empty text"]),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, words: list[str]) -> None:
    message = complaint(text)
    for word in words:
        assert word in message


# -- any junk is a catalog or a ConfigError ---------------------------------------------------------------------------

scalars = st.one_of(
    st.text(max_size=8),
    st.integers(),
    st.integers(min_value=10**308, max_value=10**320),
    st.floats(),
    st.booleans(),
    st.dates(min_value=date(2000, 1, 1)),
    st.just(time(1, 2)),
    st.sampled_from(
        ["offline", "openai", "fast", "slow", "order", "http://h", "http://[", "https://h:99999", "1d", "("]
    ),
)
keys = st.one_of(st.sampled_from(sorted({key for table in KEYS.values() for key in table})), st.text(max_size=6))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


deployments = st.builds(
    lambda good, junk: {**good, **junk},
    st.sampled_from([{"provider": "offline"}, {"provider": "openai", "model": "m"}, {}]),
    st.dictionaries(st.sampled_from(sorted(KEYS["models.NAME.deployments"])), values, max_size=2),
)
names = st.lists(st.sampled_from(["fast", "slow", "zz"]), max_size=2)
junk_routes = st.builds(
    lambda good, junk: {**good, **junk},
    st.fixed_dictionaries({"deployments": st.lists(deployments, max_size=3)}, optional={"fallbacks": names}),
    st.dictionaries(st.sampled_from(sorted(KEYS["models.NAME"])), values, max_size=2),
)


def attempt(models: Any, budgets: Any, recording: Any) -> tuple[Catalog | None, str]:
    try:
        return parse_models(models, budgets, recording, place=place), ""
    except ConfigError as error:
        return None, str(error)


@given(st.dictionaries(st.sampled_from(["fast", "slow", "a b"]), junk_routes | values), *[st.just({}) | values] * 2)
def test_any_tables_are_a_catalog_or_a_config_error(models: Any, budgets: Any, recording: Any) -> None:
    found, complaint_ = attempt(models, budgets, recording)
    if found is None:
        assert complaint_.startswith("@")
    else:
        assert set(found.routes) == set(models)
        assert all(route.deployments for route in found.routes.values())
        everyone = [each for route in found.routes.values() for each in route.deployments]
        assert len({each.name for each in everyone}) == len(everyone)
        for each in everyone:
            assert all(limit is None or limit > 0 for limit in (each.rpm, each.tpm, each.concurrency))
            assert 0 < each.timeout < float("inf")


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, inner in pairs for found in _paths(inner, (*path, key)))]


def _put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = _put(value[path[0]], path[1:], new)
    return copy


WHOLE = tomllib.loads(EVERYTHING)


@pytest.mark.parametrize("secret", [SECRET, f"https://user:{SECRET}@host/v1"])
@pytest.mark.parametrize("path", [path for path in _paths(WHOLE) if path], ids=place)
def test_a_secret_in_any_place_is_in_no_message(path: tuple[Any, ...], secret: str) -> None:
    spoilt = _put(WHOLE, path, secret)
    found, complaint_ = attempt(spoilt["models"], spoilt["budgets"], spoilt["recording"])
    assert SECRET not in complaint_
    if found is not None:  # where any text is legal: a model's name, a tag, a parameter, a pattern
        assert {"model", "tags", "parameters", "redact"} & set(path)
        assert "@host" not in str([each.parameters for route in found.routes.values() for each in route.deployments])
