"""Tables of `runtime.toml` as texts, for tests."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from superstep.providers.catalog.parse import parse_models
from superstep.runtime.faults import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from superstep.providers.catalog.model import Catalog


SECRET = "sk-live-0123456789abcdef"


def place(path: Sequence[str | int]) -> str:
    """Names the place of a value, recognisably."""
    return "@" + "/".join(map(str, path))


def parse(text: str) -> Catalog:
    """The catalog of a file's text."""
    tables = tomllib.loads(text)
    return parse_models(tables.get("models", {}), tables.get("budgets", {}), tables.get("recording", {}), place=place)


def complaint(text: str) -> str:
    """What is said of a file's text that is wrong."""
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.__cause__ is None
    return str(caught.value)


def deployed(*lines: str, provider: str = "offline") -> str:
    """Route "fast" with one deployment, and these lines of it."""
    return "\n".join(["[models.fast]", "[[models.fast.deployments]]", f'provider = "{provider}"', *lines])


EVERYTHING = """
[models.strong]
strategy = "lowest-latency"
fallbacks = ["fast"]
context_fallbacks = ["fast"]
content_fallbacks = ["fast"]
patience = 0
hedge = { after = 2.0 }
continue_text = true
budget = { usd = 3, tokens = 1000, window = "1d" }
[[models.strong.rules]]
route = "fast"
tags = ["simple", "short"]
max_input_tokens = 500
[[models.strong.deployments]]
provider = "openai"
model = "m"
api_key_env = "MY_KEY"
base_url = "https://gateway.example/v1"
parameters = { temperature = 0, extra_body = { a = [1] } }
weight = 2
rpm = 500
tpm = 200000
concurrency = 4
timeout = 30
first_token_timeout = 5
token_timeout = 2.5
retries = 0
price = { input = 0.5, output = 2 }
structured_output = "json_schema"
breaker = { failures = 2, cooldown = 1, longest = 9 }
[[models.strong.deployments]]
provider = "openai"
model = "m"
[[models.strong.deployments]]
provider = "anthropic"
model = "c"
[[models.strong.deployments]]
provider = "langchain"
path = "package.module:Chat"
[models.fast]
[[models.fast.deployments]]
provider = "openai-compatible"
model = "o"
base_url = "http://[::1]:8000/v1"
[[models.fast.deployments]]
provider = "offline"
[budgets]
run = { usd = 1.0, tokens = 200000 }
thread = { tokens = 5 }
[recording]
content = true
redact = ["[0-9]{16}"]
"""


def routes(**fallbacks: str) -> str:
    """Routes with one offline deployment each, and the given lines."""
    return "[models]\n" + "\n".join(
        f'{name} = {{ deployments = [{{ provider = "offline" }}]{", " if line else ""}{line} }}'
        for name, line in fallbacks.items()
    )
