"""Keys in environment variables: blanks, odd characters, keys that are not set."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import pytest

from superstep.providers.embeddings import configure_embeddings, embedder
from superstep.runtime.faults import ConfigError, ProviderUnavailable
from tests.support.routes import KEY, Bed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.vendors import Vendor


@pytest.fixture
def embeddings(first: Vendor) -> Iterator[Any]:
    table = {"provider": "openai-compatible", "model": "m", "dimensions": 8, "base_url": first.openai_url}
    configure_embeddings({"default": {**table, "api_key_env": "FIRST_KEY"}})
    yield embedder()
    configure_embeddings({})


@pytest.mark.parametrize("blank", ["\n", "\r\n", "\t", " "])
async def test_blanks_around_a_key_are_not_part_of_it(
    blank: str, bed: Bed, embeddings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_KEY", "SECOND_KEY"):
        monkeypatch.setenv(name, blank + KEY + blank)
    for deployment in (bed.openai(), bed.anthropic()):
        assert (await bed.model(deployment).ainvoke("ping")).text == "pong"
    await embeddings.embed(["a"])
    assert [each.key for each in (*bed.first.requests, *bed.second.requests)] == [KEY] * 3


async def test_a_blank_key_counts_as_not_set(bed: Bed, embeddings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST_KEY", " \n")
    message = await bed.model().ainvoke("ping")
    assert [each["why"] for each in message.response_metadata["routing"]["tried"]] == ["FIRST_KEY is not set"]
    with pytest.raises(ProviderUnavailable, match="FIRST_KEY is not set"):
        await embeddings.embed(["a"])
    assert bed.first.count == 0


@pytest.mark.parametrize("odd", ["\u200b", "\u2026", "\x7f", "\n\n."])
@pytest.mark.parametrize("how", ["openai", "anthropic", "stream", "embeddings"])
async def test_a_key_with_odd_characters_is_refused_and_not_shown(
    how: str, odd: str, bed: Bed, embeddings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An HTTP library would refuse it with an error that shows it."""
    variable = "SECOND_KEY" if how == "anthropic" else "FIRST_KEY"
    monkeypatch.setenv(variable, KEY + odd)
    model = bed.model(bed.anthropic() if how == "anthropic" else bed.openai())

    async def ask() -> object:
        if how == "embeddings":
            return await embeddings.embed(["a"])
        return [chunk async for chunk in model.astream("ping")] if how == "stream" else await model.ainvoke("ping")

    with pytest.raises(ConfigError, match=f"the key in {variable} has invisible or non-ASCII characters") as caught:
        await ask()
    assert KEY not in "".join(traceback.format_exception(caught.value)) + caplog.text
    assert bed.first.count == bed.second.count == 0
