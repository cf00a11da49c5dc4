"""The record of a call, and where an answer carries it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langchain_core.messages import AIMessage

from superstep.providers import record_of
from superstep.providers.records.call_record import counted

if TYPE_CHECKING:
    from tests.support.routes import Bed


async def test_an_answer_of_a_routed_model_carries_its_record(bed: Bed) -> None:
    message = await bed.model().ainvoke("ping")
    record = record_of(message)
    assert record is not None
    assert record is message.response_metadata["routing"]
    assert record["deployment"] == "r/openai"


@pytest.mark.parametrize("metadata", [{}, {"routing": None}, {"routing": "elsewhere"}])
def test_other_messages_carry_none(metadata: dict[str, object]) -> None:
    assert record_of(AIMessage("pong", response_metadata=metadata)) is None


def test_equal_words_are_counted() -> None:
    assert counted(["status 503", "timed out", "status 503"]) == "status 503, 2 times, timed out"
