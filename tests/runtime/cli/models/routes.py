"""Two routes in `runtime.toml`, and what `runtime models --json` says of deployments."""

from __future__ import annotations

from typing import Any

TWO_ROUTES = """
[models.fast]
strategy = "lowest-cost"
fallbacks = ["strong"]
[[models.fast.deployments]]
provider = "openai"
model = "gpt-5.4-mini"
rpm = 500
tpm = 200000
[[models.fast.deployments]]
provider = "openai-compatible"
model = "local"
base_url = "http://localhost:8000/v1"
price = { input = 0, output = 0 }
[models.strong]
budget = { usd = 3, window = "1d" }
[[models.strong.rules]]
route = "fast"
tags = ["simple"]
max_input_tokens = 500
[[models.strong.deployments]]
provider = "anthropic"
model = "claude-sonnet-5"
[budgets]
run = { tokens = 1000 }
"""


def deployments(shown: Any) -> dict[str, Any]:
    return {each["deployment"]: each for route in shown["routes"] for each in route["deployments"]}
