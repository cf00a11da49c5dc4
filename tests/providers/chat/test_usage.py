"""What a server says of tokens costs neither an answer nor a slot, and is counted once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from superstep.providers.catalog.model import Deployment
from superstep.providers.chat import call as of_call
from tests.support.routes import Bed, record, whole
from tests.support.vendors import answer

if TYPE_CHECKING:
    from superstep.providers import RoutedChatModel

ODD: dict[str, Any] = {
    "a list": {"prompt_tokens": [1], "completion_tokens": 5, "total_tokens": 6},
    "a text": {"prompt_tokens": "1", "completion_tokens": "5"},
    "nested": {"prompt_tokens": {"n": 1}, "completion_tokens": None, "total_tokens": 6},
    "not finite": {"prompt_tokens": 1e400, "completion_tokens": 5},
    "negative": {"prompt_tokens": -1, "completion_tokens": -5, "total_tokens": -6},
    "beyond all": {"prompt_tokens": 10**30, "completion_tokens": 5, "total_tokens": 10**30},
    "odd details": {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": ["cached"]},
    "no object": "many",
    "a list of nothing": [],
}


async def asked(model: RoutedChatModel, *, stream: bool) -> Any:
    return await whole(model) if stream else await model.ainvoke("ping")


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the SDK's own types, which the server ignores
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("usage", ODD.values(), ids=ODD.keys())
async def test_a_count_that_is_no_number_costs_neither_answer_nor_slot(bed: Bed, usage: Any, stream: bool) -> None:
    bed.first.always(answer("the sea is calm", counted=usage))
    model = bed.model(bed.openai(concurrency=1), patience=0.0)
    for _ in range(2):
        message = await asked(model, stream=stream)
        assert message.text == "the sea is calm"
        said = record(message)
        assert (said["tried"], said["outcome"]) == ([], "answered")
        assert 0 <= said["input_tokens"] < 100
        assert 0 < said["output_tokens"] < 100
        assert said["usd"] > 0
    assert bed.service is not None
    assert bed.service.router.states["r/openai"].health.in_flight == 0
    assert bed.first.count == 2


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_whatever_fails_after_an_answer_its_slot_is_free(
    bed: Bed, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = bed.model(bed.openai(concurrency=1), patience=0.0)

    def broken(*_: Any) -> float:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(of_call, "cost", broken)
        with pytest.raises(ZeroDivisionError):
            await asked(model, stream=stream)
    assert (await asked(model, stream=stream)).text == "pong"


async def test_a_stream_that_says_its_total_with_each_chunk_is_counted_once(bed: Bed) -> None:
    bed.first.always(answer("the sea is calm", usage=(1000, 4), running=True))
    message = await whole(bed.model(bed.openai()))
    said = record(message)
    assert (said["input_tokens"], said["output_tokens"]) == (1000, 4)
    assert said["usd"] == pytest.approx(1008e-6)
    assert message.usage_metadata is not None
    assert (message.usage_metadata["input_tokens"], message.usage_metadata["output_tokens"]) == (1000, 4)


async def test_so_is_one_of_a_class_of_langchain_s(bed: Bed) -> None:
    """The same server through LangChain's own class, whose convention is that chunks are added up."""
    bed.first.always(answer("the sea is calm", usage=(1000, 4), running=True))
    own = Deployment(
        name="r/own",
        provider="langchain",
        model="m",
        path="langchain_openai:ChatOpenAI",
        api_key_env="FIRST_KEY",
        base_url=bed.first.openai_url,
        parameters={"stream_usage": True, "max_retries": 0},
    )
    model = bed.model(own)
    said = record(await whole(model))
    assert (said["input_tokens"], said["output_tokens"]) == (1000, 4)


async def test_anthropic_s_totals_are_counted_once(bed: Bed) -> None:
    bed.second.always(answer("the sea is calm", usage=(11, 5)))
    said = record(await whole(bed.model(bed.anthropic())))
    assert (said["input_tokens"], said["output_tokens"]) == (11, 5)
