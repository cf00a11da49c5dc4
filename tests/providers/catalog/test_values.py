"""Single values: what is refused, and never shown."""

from __future__ import annotations

import pytest

from superstep.providers.catalog.model import Budget
from tests.providers.catalog.tables import SECRET, complaint, deployed, parse, routes


@pytest.mark.parametrize(
    "lines",
    [
        f'api_key = "{SECRET}"',
        f'openai_api_key = "{SECRET}"',
        f'password = "{SECRET}"',
        f'api_key_env = "{SECRET}"',
        'api_key_env = "gsk_0123456789abcdef"',
        f'base_url = "https://user:{SECRET}@host/v1"',
        f'base_url = "https://{SECRET}@host/v1"',
        f'base_url = "https://host/v1?key={SECRET}"',
        f'base_url = "{SECRET}"',
        f'base_url = "ftp://{SECRET}"',
        f'base_url = "http://host:{SECRET}/"',
        f'base_url = "http://[{SECRET}/"',
        f'base_url = "http://host/{SECRET} x"',
        f'parameters = {{ api_key = "{SECRET}" }}',
        f'parameters = {{ default_headers = {{ "X-Api-Key" = "{SECRET}" }} }}',
        f'parameters = {{ default_headers = [{{ Authorization = "Bearer {SECRET}" }}] }}',
        f'parameters = {{ openai_proxy = "http://user:{SECRET}@proxy:80" }}',
        f'model = ["{SECRET}"]',
        f'provider = "{SECRET}"',
        f'structured_output = "{SECRET}"',
        f'weight = "{SECRET}"',
        f'rpm = "{SECRET}"',
        f'breaker = "{SECRET}"',
        f'breaker = {{ secret = "{SECRET}" }}',
    ],
)
def test_a_key_in_the_wrong_place_is_refused_and_not_shown(lines: str) -> None:
    given = dict.fromkeys(["provider = 'openai-compatible'", "model = 'm'", "base_url = 'http://host'"])
    others = [line for line in given if line.split(" ")[0] != lines.split(" ")[0]]
    message = complaint("\n".join(["[[models.fast.deployments]]", *others, lines]))
    assert SECRET not in message
    assert "gsk_" not in message
    if "api_key" in lines.split(" = ")[0]:
        assert "environment variable" in message


def test_only_rejected_addresses_are_rejected() -> None:
    for address in ("http://localhost:11434/v1", "https://a.b.example", "http://127.0.0.1:1/x/y"):
        found = parse(deployed('model = "m"', f'base_url = "{address}"', provider="openai-compatible"))
        assert found.routes["fast"].deployments[0].base_url == address


@pytest.mark.parametrize(
    ("window", "seconds"), [("90s", 90), ("15m", 900), ("1h", 3600), ("1.5d", 129600), ("2w", 1209600)]
)
def test_windows_have_units(window: str, seconds: float) -> None:
    found = parse(routes(a=f'budget = {{ tokens = 1, window = "{window}" }}'))
    assert found.routes["a"].budget == Budget(tokens=1, window=seconds)
    assert parse(routes(a=f"budget = {{ tokens = 1, window = {seconds} }}")) == found
