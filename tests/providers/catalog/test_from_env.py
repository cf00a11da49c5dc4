"""The catalog of a process whose routes are not configured."""

from __future__ import annotations

import pytest

from superstep.providers.catalog.from_env import catalog_from_env
from superstep.providers.catalog.model import Deployment, Route

KEY = "sk-very-secret-0123456789"


def served(**env: str) -> tuple[Deployment, ...]:
    catalog = catalog_from_env(env)
    assert catalog.routes == {}
    assert isinstance(catalog.catch_all, Route)
    assert catalog.catch_all.strategy == "order"
    assert KEY not in repr(catalog)
    return catalog.catch_all.deployments


def test_without_keys_everything_is_offline() -> None:
    for env in ({}, {"OPENAI_API_KEY": "", "ANTHROPIC_API_KEY": "", "OPENAI_MODEL": "m"}):
        (only,) = served(**env)
        assert (only.provider, only.model, only.api_key_env) == ("offline", "offline", None)


@pytest.mark.parametrize(("provider", "prefix"), [("openai", "OPENAI"), ("anthropic", "ANTHROPIC")])
def test_a_key_chooses_its_vendor(provider: str, prefix: str) -> None:
    (usual,) = served(**{f"{prefix}_API_KEY": KEY, f"{prefix}_MODEL": ""})
    assert (usual.provider, usual.api_key_env) == (provider, f"{prefix}_API_KEY")
    (named,) = served(**{f"{prefix}_API_KEY": KEY, f"{prefix}_MODEL": "m"})
    assert (named.model, named.name) == ("m", f"default/{provider}:m")
    assert usual.model not in ("", "m")


def test_two_keys_give_failover() -> None:
    both = served(ANTHROPIC_API_KEY=KEY, OPENAI_API_KEY=KEY)
    assert [each.provider for each in both] == ["openai", "anthropic"]


def test_the_environment_is_the_process_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = catalog_from_env().catch_all
    assert found is not None
    assert [each.provider for each in found.deployments] == ["anthropic"]
