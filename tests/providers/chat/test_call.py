"""The record names the model that answered."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from tests.support.routes import whole
from tests.support.vendors import raw

if TYPE_CHECKING:
    from tests.support.routes import Bed


class Unstreamed(BaseChatModel):
    """A model that cannot stream."""

    @property
    def _llm_type(self) -> str:
        return "unstreamed"

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        message = AIMessage("pong", response_metadata={"model_name": "served-1"})
        return ChatResult(generations=[ChatGeneration(message=message)])


async def test_the_record_names_the_model_that_was_served(bed: Bed) -> None:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "pong"}}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "served-1", "choices": [choice]}
    bed.first.always(raw(json.dumps(body).encode()))
    message = await bed.model().ainvoke("ping")
    assert message.response_metadata["routing"]["model"] == "served-1"


async def test_the_record_names_the_model_that_cannot_stream(bed: Bed) -> None:
    path = f"{Unstreamed.__module__}:{Unstreamed.__name__}"
    deployment = replace(bed.openai(), provider="langchain", path=path, base_url=None, api_key_env=None, model="")
    message = await whole(bed.model(deployment))
    assert message.text == "pong"
    assert message.response_metadata["routing"]["model"] == "served-1"
    assert message.response_metadata["model_name"] == "served-1"
