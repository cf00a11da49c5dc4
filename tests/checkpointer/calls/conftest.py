"""A cache of LangChain's of one's own, and a vendor that serves route "r"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langchain_core.globals import get_llm_cache, set_llm_cache

from superstep.checkpointer.calls import memo
from superstep.providers.chat.registry import configure
from tests.checkpointer.calls.models import RECORD, CountingModel
from tests.checkpointer.calls.vendor import KEY, use
from tests.support.vendors import Vendor

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def model() -> CountingModel:
    return CountingModel(calls=[])


@pytest.fixture
def own_cache() -> Iterator[None]:
    before = get_llm_cache()
    set_llm_cache(None)
    memo.install()
    yield
    set_llm_cache(before)


@pytest.fixture
def routed() -> CountingModel:
    return CountingModel(record=dict(RECORD))


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    monkeypatch.setenv("VENDOR_KEY", KEY)
    with Vendor() as vendor:
        use(vendor)
        yield vendor
    configure(None)
