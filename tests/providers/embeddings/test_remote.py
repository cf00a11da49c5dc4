"""Embeddings over real HTTP: batches, retries, what a server may do wrong, and steps that run again."""

from __future__ import annotations

import asyncio
import math
import sys
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from superstep import current_step, transactional
from superstep.checkpointer import TransactionalSaver
from superstep.providers.embeddings import configure_embeddings, embedder, remote
from superstep.runtime.faults import ConfigError, ProviderExhausted, ProviderRejected, ProviderUnavailable
from tests.support.graphs import chain
from tests.support.vendors import Vendor, answer, hang_up, raw, status, vector, vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from superstep.providers.policy.failures import Failure
    from tests.support.vendors import Act

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with Vendor() as running:
        yield running


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VENDOR_KEY", KEY)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[Failure]:
    """No retry waits; the failures that they would have waited after."""
    seen: list[Failure] = []
    real: Callable[..., float | None] = remote.pause

    def pause(attempt: int, failure: Failure, rng: Any) -> float | None:
        seen.append(failure)
        assert attempt == len(seen)
        return None if real(attempt, failure, rng) is None else 0.0

    monkeypatch.setattr(remote, "pause", pause)
    return seen


def served(vendor: Vendor, **more: Any) -> Any:
    """The embedder of a server that imitates OpenAI."""
    table = {
        "provider": "openai-compatible",
        "model": "m",
        "dimensions": 8,
        "base_url": vendor.openai_url,
        "api_key_env": "VENDOR_KEY",
        **more,
    }
    configure_embeddings({"default": table})
    return embedder()


def unit(text: str, dimensions: int = 8) -> Any:
    found = vector(text, dimensions)
    length = math.sqrt(math.fsum(x * x for x in found))
    return pytest.approx([x / length for x in found])


async def test_a_server_that_imitates_openai(vendor: Vendor) -> None:
    assert await served(vendor).embed(["a", "b"]) == [unit("a"), unit("b")]
    [request] = vendor.requests
    assert (request.path, request.key) == ("/v1/embeddings", KEY)
    assert request.body == {"model": "m", "input": ["a", "b"], "encoding_format": "float"}


async def test_openai(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", vendor.openai_url)
    configure_embeddings({"sharp": {"provider": "openai", "model": "text-embedding-3-small", "dimensions": 8}})
    assert await embedder("sharp").embed(["a", "b"]) == [unit("a"), unit("b")]
    [request] = vendor.requests
    assert (request.key, request.body["dimensions"]) == (KEY, 8)
    assert request.body["encoding_format"] == "base64"


async def test_a_server_without_a_key(vendor: Vendor) -> None:
    configure_embeddings(
        {"default": {"provider": "openai-compatible", "model": "m", "dimensions": 8, "base_url": vendor.openai_url}}
    )
    assert await embedder().embed(["a"]) == [unit("a")]
    assert vendor.requests[0].key == "none"


async def test_batches_follow_one_another_in_order(vendor: Vendor) -> None:
    vendor.script(vectors(shuffled=True), vectors(shuffled=True))
    texts = [f"text {at}" for at in range(7)]
    assert await served(vendor, batch_size=3).embed(texts) == [unit(text) for text in texts]
    assert [len(request.texts) for request in vendor.requests] == [3, 3, 1]


async def test_nothing_and_blank_texts_ask_nobody(vendor: Vendor) -> None:
    model = served(vendor)
    assert await model.embed([]) == []
    assert await model.embed(["", " "]) == [[1.0] + [0.0] * 7] * 2
    assert vendor.count == 0


@pytest.mark.parametrize("fault", [status(503), status(429, retry_after=2), status(500), hang_up(), raw(), raw(b"[]")])
async def test_what_may_pass_is_tried_again(vendor: Vendor, waits: list[Failure], fault: Act) -> None:
    vendor.script(fault, fault)
    assert await served(vendor).embed(["a"]) == [unit("a")]
    assert vendor.count == 3
    assert len(waits) == 2


async def test_a_retry_waits_as_long_as_the_server_says(vendor: Vendor, waits: list[Failure]) -> None:
    vendor.script(status(429, retry_after=2))
    await served(vendor).embed(["a"])
    assert [failure.retry_after for failure in waits] == [2.0]


async def test_a_server_that_wants_too_long_is_not_waited_for(vendor: Vendor, waits: list[Failure]) -> None:
    vendor.script(status(429, retry_after=3600))
    with pytest.raises(ProviderExhausted, match=r"status 429\."):
        await served(vendor).embed(["a"])
    assert vendor.count == 1


@pytest.mark.usefixtures("waits")
async def test_an_outage_ends_with_every_attempt(vendor: Vendor) -> None:
    vendor.script(status(503), status(500), status(503))
    with pytest.raises(ProviderExhausted) as caught:
        await served(vendor, retries=2).embed(["a"])
    assert not isinstance(caught.value, ProviderRejected)
    assert str(caught.value).startswith(
        "embeddings.default/openai-compatible:m gave no embeddings: status 503, 2 times, status 500."
    )
    assert "embeddings.default" in str(caught.value)
    assert [(each["why"], each["status"]) for each in caught.value.tried] == [
        ("status 503", 503),
        ("status 500", 500),
        ("status 503", 503),
    ]
    assert len(caught.value.exceptions) == 3
    assert await embedder().embed(["a"]) == [unit("a")]


@pytest.mark.parametrize("number", [400, 401])
async def test_a_refused_request_is_not_repeated_and_no_error_holds_the_key(vendor: Vendor, number: int) -> None:
    vendor.script(status(number, message="what is {key}?"))
    with pytest.raises(ProviderRejected, match=f"refused to embed: status {number}") as caught:
        await served(vendor).embed(["a"])
    assert vendor.count == 1
    assert KEY not in "".join(traceback.format_exception(caught.value))
    links: list[BaseException | None] = [caught.value, *caught.value.exceptions]
    while links:
        link = links.pop()
        if link is not None:
            assert KEY not in repr(link)
            links += [link.__cause__, link.__context__]


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_wrong_number_of_vectors(vendor: Vendor, count: int) -> None:
    vendor.script(vectors(count=count), vectors(count=count))
    with pytest.raises(ProviderExhausted, match="malformed answer, 2 times"):
        await served(vendor, retries=1).embed(["a", "b"])


@pytest.mark.usefixtures("waits")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, which would hide that nothing else noticed
@pytest.mark.parametrize("numbers", ["0, 0", "1e999, 1", '"x", 1', "null, 1"])
async def test_vectors_that_are_none(vendor: Vendor, numbers: str) -> None:
    body = f'{{"object": "list", "model": "m", "data": [{{"index": 0, "embedding": [{numbers}]}}]}}'.encode()
    vendor.script(raw(body))
    with pytest.raises(ProviderExhausted, match="malformed answer"):
        await served(vendor, dimensions=2, retries=0).embed(["a"])


async def test_other_dimensions_than_configured(vendor: Vendor) -> None:
    vendor.script(vectors(4))
    with pytest.raises(ConfigError, match=r"embeddings\.default says dimensions = 8, but .* sends vectors of 4\."):
        await served(vendor).embed(["a"])
    assert vendor.count == 1


async def test_nobody_there(vendor: Vendor) -> None:
    vendor.kill()
    with pytest.raises(ProviderExhausted, match=r"connection failed.*\[embeddings\.default\] of runtime\.toml"):
        await served(vendor, retries=0).embed(["a"])


async def test_an_answer_that_takes_too_long(vendor: Vendor) -> None:
    vendor.script(answer().stall())
    with pytest.raises(ProviderExhausted, match=r"no answer in 0\.05 s"):
        await served(vendor, timeout=0.05).embed(["a"])
    await vendor.until(lambda: vendor.requests[0].state == "gone")
    assert vendor.count == 1


@pytest.mark.parametrize("value", ["", None])
async def test_a_key_that_is_not_set(vendor: Vendor, monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is None:
        monkeypatch.delenv("VENDOR_KEY")
    else:
        monkeypatch.setenv("VENDOR_KEY", value)
    with pytest.raises(ProviderUnavailable, match=r"embeddings\.default: VENDOR_KEY is not set"):
        await served(vendor).embed(["a"])
    assert vendor.count == 0


async def test_a_key_that_is_changed_counts_from_the_next_call(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    model = served(vendor)
    await model.embed(["a"])
    monkeypatch.setenv("VENDOR_KEY", "sk-other")
    await model.embed(["b"])
    assert [request.key for request in vendor.requests] == [KEY, "sk-other"]


async def test_a_missing_package_is_named(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ProviderUnavailable, match="pip install openai"):
        await served(vendor).embed(["a"])


async def test_cancelling_hangs_up(vendor: Vendor) -> None:
    vendor.script(answer().stall())
    asked = asyncio.create_task(served(vendor).embed(["a"]))
    await vendor.until(lambda: vendor.count == 1 and vendor.requests[0].state == "stalled")
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await vendor.until(lambda: vendor.requests[0].state == "gone")


def test_event_loops_one_after_the_other(vendor: Vendor) -> None:
    model = served(vendor)
    assert asyncio.run(model.embed(["a"])) == [unit("a")]
    assert asyncio.run(model.embed(["b"])) == [unit("b")]


async def test_a_step_that_runs_again_embeds_nothing_twice(vendor: Vendor, database_url: str) -> None:
    """The facts of the search move while the node works: the node runs twice, its text is sent once."""
    served(vendor)
    runs: list[list[str]] = []
    async with TransactionalSaver.from_conn_string(database_url) as saver:
        async with saver.transaction() as tx:
            await tx.execute(
                "CREATE TABLE note (id int PRIMARY KEY, content text, metadata jsonb, embedding vector(8))"
            )
            await tx.execute("INSERT INTO note VALUES (1, 'old', '{}', $1::text::vector)", str(vector("far", 8)))

        async def node(state: Any) -> Any:
            rows = await current_step().nearest("note", text="what is new?", k=1)
            runs.append([row["content"] for row in rows])
            if len(runs) == 1:
                near = str(vector("what is new?", 8))
                async with saver.transaction() as tx:
                    await tx.execute("INSERT INTO note VALUES (2, 'new', '{}', $1::text::vector)", near)
                    await tx.execute("UPDATE note SET content = 'older' WHERE id = 1")
            current_step().stage("UPDATE note SET content = 'read' WHERE id = 1", expect_rows=1)
            return {"seen": runs[-1]}

        flow = transactional(chain(saver, node))
        result = await flow.ainvoke({"seen": []}, {"configurable": {"thread_id": "t"}})
        [step] = [step for step in await saver.asteps("t") if step.nodes]
    assert result["seen"] == ["new"]
    assert runs == [["old"], ["new"]]
    assert step.drifts == 1
    assert [request.texts for request in vendor.requests] == [["what is new?"]]
