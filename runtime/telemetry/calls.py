"""The span of a call of a model, and what is measured of it. Imports OpenTelemetry."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from superstep.runtime.telemetry import names
from superstep.runtime.telemetry.careful import end
from superstep.runtime.telemetry.runs import RunTrace
from superstep.runtime.telemetry.spans import HOLDER, StepTrace, TaskTrace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from superstep.runtime.telemetry.ports import Receiver, RunSpan

__all__ = ["CallTrace"]

_ROLES = {"human": "user", "ai": "assistant"}


class CallTrace:
    """One call under way: of a route, whichever deployments it is sent to, or of a model that is not routed."""

    def __init__(self, telemetry: Receiver, route: str) -> None:
        self._telemetry = telemetry
        around = context.get_current()
        attributes: dict[str, Any] = {names.OPERATION: names.CHAT, names.ROUTE: route}
        if (run := _run_of(around.get(HOLDER))) is not None:
            attributes[names.CONVERSATION] = run.thread_id
        self._span = telemetry.tracer.start_span(f"{names.CHAT} {route}", around, SpanKind.CLIENT, attributes)
        self._context = trace.set_span_in_context(self._span, around)
        self._ended = False

    @contextmanager
    def current(self) -> Iterator[None]:
        """What is sent meanwhile belongs to the call."""
        token = context.attach(self._context)
        try:
            yield
        finally:
            context.detach(token)

    def ended(
        self,
        record: Mapping[str, Any],
        asked: str | None = None,
        messages: Sequence[Any] = (),
        answer: str | None = None,
    ) -> None:
        """The call is over.

        Args:
            record: what is kept of it.
            asked: the model that the deployment which answered was asked for.
            messages: the conversation, which is told only if content is.
            answer: what was said, likewise.
        """
        span, self._ended = self._span, True
        if span.is_recording():
            model = asked or record["model"]
            if model:
                span.update_name(f"{names.CHAT} {model}")
            span.set_attributes({name: value for name, value in _attributes(record, model) if value is not None})
            for each in record["tried"]:
                left = {names.DEPLOYMENT: each["deployment"], names.ERROR: each["why"]}
                span.add_event(names.TRIED_EVENT, left)
            if self._telemetry.content:
                span.set_attributes(_content(messages, answer))
        if record["outcome"] == "failed":
            span.set_attribute(names.ERROR, str(record["error"] or "failed").partition(":")[0])
            span.set_status(Status(StatusCode.ERROR))
        end(span)
        self._measure(record, asked)

    def close(self) -> None:
        """End it if it has not ended: it was refused before anything was asked, or nobody keeps records."""
        if not self._ended:
            self._ended = True
            self._span.set_attribute(names.OUTCOME, "abandoned")
            end(self._span)

    def _measure(self, record: Mapping[str, Any], asked: str | None) -> None:
        instruments = self._telemetry.instruments
        if instruments is None:
            return
        labels: dict[str, str] = {
            names.OPERATION: names.CHAT,
            names.PROVIDER: record["provider"] or "",
            names.REQUEST_MODEL: asked or record["model"] or "",
        }
        outcome = {} if record["outcome"] == "answered" else {names.ERROR: record["outcome"]}
        instruments.calls.record(record["ms"] / 1000, {**labels, **outcome})
        if record["first_token_ms"] is not None:
            instruments.first_chunks.record(record["first_token_ms"] / 1000, labels)
        instruments.count_tokens(record["input_tokens"], record["output_tokens"], labels)


def _run_of(holder: object) -> RunSpan | None:
    if isinstance(holder, TaskTrace):
        return holder.step.run
    if isinstance(holder, StepTrace):
        return holder.run
    return holder if isinstance(holder, RunTrace) else None


def _attributes(record: Mapping[str, Any], model: str | None) -> Iterator[tuple[str, Any]]:
    yield names.PROVIDER, record["provider"]
    yield names.REQUEST_MODEL, model
    yield names.RESPONSE_MODEL, record["model"]
    yield names.INPUT_TOKENS, record["input_tokens"]
    yield names.OUTPUT_TOKENS, record["output_tokens"]
    yield names.DEPLOYMENT, record["deployment"]
    yield names.COST, record["usd"]
    yield names.PROMPT, record["prompt"]
    yield names.OUTCOME, record["outcome"]


def _content(messages: Sequence[Any], answer: str | None) -> dict[str, str]:
    """The conversation and the answer, in the form of OpenTelemetry's schemas for them."""
    given = [
        {"role": _ROLES.get(each.type, each.type), "parts": [{"type": "text", "content": each.text}]}
        for each in messages
    ]
    said = {names.INPUT_MESSAGES: json.dumps(given, ensure_ascii=False)}
    if answer is not None:
        parts = [{"type": "text", "content": answer}]
        made = [{"role": "assistant", "parts": parts, "finish_reason": "stop"}]
        said[names.OUTPUT_MESSAGES] = json.dumps(made, ensure_ascii=False)
    return said
