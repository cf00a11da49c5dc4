"""Every test of embedders leaves the default configuration behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from superstep.providers.embeddings import configure_embeddings

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    configure_embeddings({})
