"""Light spans: whoever gets one sees what the SDK's own would have shown."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_ON,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from superstep import telemetry
from superstep.runtime.telemetry import careful, light
from superstep.runtime.telemetry.light import LightSpan, LightTracer, lightened
from superstep.runtime.telemetry.switch import active

if TYPE_CHECKING:
    from collections.abc import Callable

ELSEWHERE = SpanContext(7, 7, is_remote=True, trace_flags=TraceFlags(1))
NAMES = st.sampled_from(["a", "b", "superstep.outcome", ""])
PLAIN = st.sampled_from(["", "text", True, 3, 0.5])
VALUES: st.SearchStrategy[Any] = st.one_of(
    PLAIN,
    PLAIN,
    st.sampled_from(
        [["a", "b"], ("a",), [1, 2], [1, "mixed"], [None], b"bytes", None, object(), {"a": 1}, ["a", None]]
    ),
)
ATTRIBUTES = st.dictionaries(NAMES, VALUES, max_size=3)

OPERATIONS: st.SearchStrategy[tuple[str, tuple[Any, ...]]] = st.one_of(
    st.tuples(st.just("set_attribute"), st.tuples(NAMES, VALUES)),
    st.tuples(st.just("set_attributes"), st.tuples(ATTRIBUTES)),
    st.tuples(st.just("set_attributes"), st.tuples(st.just({f"key {each}": each for each in range(20)}))),
    st.tuples(st.just("add_event"), st.tuples(NAMES, ATTRIBUTES, st.just(5))),
    st.tuples(st.just("add_link"), st.tuples(st.just(ELSEWHERE), ATTRIBUTES)),
    st.tuples(st.just("update_name"), st.tuples(NAMES)),
    st.tuples(
        st.just("set_status"),
        st.tuples(st.sampled_from([Status(StatusCode.OK), Status(StatusCode.ERROR, "why"), StatusCode.UNSET])),
    ),
    st.tuples(st.just("record_exception"), st.tuples(st.just(ValueError("x")), ATTRIBUTES, st.just(6))),
    st.tuples(st.just("__exit__"), st.tuples(st.just(ValueError), st.just(ValueError("y")), st.none())),
    st.tuples(st.just("end"), st.tuples(st.just(9))),
)


class Traced:
    """A provider, what it has exported, and a span to be above others."""

    def __init__(self, sampler: Sampler | None = None, limits: SpanLimits | None = None) -> None:
        self.kept = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, span_limits=limits, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.kept))
        self.tracer = self.provider.get_tracer("superstep", "1")
        self.light = lightened(self.tracer, "superstep", "1")
        self.above = self.tracer.start_span("above")

    def below(self, **more: Any) -> trace.Span:
        return self.light.start_span("below", trace.set_span_in_context(self.above), **more)


def seen(span: ReadableSpan) -> dict[str, Any]:
    """All that an exporter can read, without what differs from span to span."""
    events = [(each.name, dict(each.attributes or {})) for each in span.events]
    for _, told in events:
        told.pop("exception.stacktrace", None)
    return {
        "name": span.name,
        "kind": span.kind,
        "parent": span.parent,
        "start": span.start_time,
        "attributes": list((span.attributes or {}).items()),
        "events": events,
        "links": [(each.context, dict(each.attributes or {})) for each in span.links],
        "status": (span.status.status_code, span.status.description),
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "resource": span.resource,
        "scope": span.instrumentation_scope,
        "info": span._instrumentation_info,
        "ended": span.end_time is not None,
    }


@settings(max_examples=400)
@given(st.one_of(ATTRIBUTES, st.dictionaries(st.sampled_from("ab"), PLAIN)), st.lists(OPERATIONS, max_size=8))
def test_it_shows_what_a_span_of_the_sdk_shows(
    attributes: dict[str, Any], told: list[tuple[str, tuple[Any, ...]]]
) -> None:
    here = Traced()
    around = trace.set_span_in_context(here.above)
    for tracer in (here.tracer, here.light):
        span = tracer.start_span("below", around, SpanKind.CLIENT, dict(attributes), start_time=1)
        for operation, arguments in told:
            getattr(span, operation)(*arguments)
        careful.end(span, {"end": "said"}, "its name at the end")
        assert not span.is_recording()
    one, other = here.kept.get_finished_spans()
    assert seen(one) == seen(other)


def test_spans_below_a_recorded_one_are_light() -> None:
    here = Traced()
    span = here.below(attributes={"a": 1})
    assert isinstance(span, LightSpan)
    again = here.light.start_span("again", trace.set_span_in_context(span))
    assert isinstance(again, LightSpan)
    assert again.parent == span.get_span_context()
    assert again.get_span_context().trace_id == here.above.get_span_context().trace_id
    assert again.get_span_context().trace_flags == span.get_span_context().trace_flags


@pytest.mark.parametrize("sampler", [ALWAYS_ON, DEFAULT_ON, ParentBased(ALWAYS_ON), ParentBasedTraceIdRatio(1.0)])
def test_samplers_that_record_all_below_what_is_recorded(sampler: Sampler) -> None:
    assert isinstance(Traced(sampler).below(), LightSpan)


@pytest.mark.parametrize(
    "sampler",
    [
        ALWAYS_OFF,
        TraceIdRatioBased(1.0),
        ParentBased(ALWAYS_ON, local_parent_sampled=ALWAYS_OFF),
        ParentBased(ALWAYS_ON, local_parent_sampled=TraceIdRatioBased(0.5)),
        ParentBasedTraceIdRatio(0.0),
    ],
)
def test_other_samplers_are_asked(sampler: Sampler) -> None:
    assert not isinstance(Traced(sampler).below(), LightSpan)


def test_what_the_sampler_drops_is_dropped() -> None:
    here = Traced(ParentBased(ALWAYS_ON, local_parent_sampled=ALWAYS_OFF))
    here.below().end()
    assert here.kept.get_finished_spans() == ()


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(lambda here: here.light.start_span("root", trace.Context()), id="no parent"),
        pytest.param(
            lambda here: here.light.start_span("a", trace.set_span_in_context(NonRecordingSpan(ELSEWHERE))), id="remote"
        ),
        pytest.param(lambda here: here.below(links=[Link(ELSEWHERE)]), id="links"),
        pytest.param(lambda here: here.below(attributes={"a": [1, 2]}), id="a value to be cleaned"),
        pytest.param(lambda here: here.below(attributes={str(each): each for each in range(40)}), id="many attributes"),
    ],
)
def test_what_is_out_of_the_ordinary_is_the_sdks(how: Callable[[Traced], trace.Span]) -> None:
    span = how(Traced())
    assert isinstance(span, Span)
    assert not isinstance(span, LightSpan)


@pytest.mark.parametrize(
    "limits", [SpanLimits(max_span_attribute_length=5), SpanLimits(max_span_attributes=2), SpanLimits(max_attributes=1)]
)
def test_limits_are_kept(limits: SpanLimits) -> None:
    here = Traced(limits=limits)
    span = here.below(attributes={"a": "123456", "b": 2, "c": 3})
    assert not isinstance(span, LightSpan)


def test_limits_of_what_a_light_span_is_told_later_are_kept() -> None:
    here = Traced(limits=SpanLimits(max_span_attributes=32, max_events=1))
    span = here.below(attributes={"first": 1})
    assert isinstance(span, LightSpan)
    for each in range(40):
        span.set_attribute(f"key {each}", each)
        span.add_event(f"event {each}")
    span.end()
    (found,) = here.kept.get_finished_spans()
    assert len(found.attributes or {}) == 32
    assert (found.dropped_attributes, found.dropped_events) == (9, 39)
    assert [each.name for each in found.events] == ["event 39"]


def test_processors_may_write_where_it_begins_and_read_where_it_ends() -> None:
    class Marks(SpanProcessor):
        def on_start(self, span: Span, parent_context: Any = None) -> None:
            span.set_attribute("tenant", trace.get_current_span(parent_context).get_span_context().span_id)
            span.set_attribute("odd", [1, 2])

    here = Traced()
    here.provider.add_span_processor(Marks())
    span = here.below(attributes={"a": 1})
    assert isinstance(span, LightSpan)
    span.end()
    (found,) = here.kept.get_finished_spans()
    assert dict(found.attributes or {}) == {"a": 1, "tenant": here.above.get_span_context().span_id, "odd": (1, 2)}


def test_threads_that_tell_it_things_at_once_lose_none() -> None:
    for _ in range(50):
        here = Traced()
        span, start = here.below(), threading.Barrier(4)

        def tell(who: int, span: trace.Span = span, start: threading.Barrier = start) -> None:
            start.wait()
            for each in range(5):
                span.set_attribute(f"{who} {each}", each)
                if who == 3:
                    span.add_event(str(each))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(tell, range(4)))
        span.end()
        (found,) = here.kept.get_finished_spans()
        assert len(found.attributes or {}) == 20
        assert len(found.events) == 5


class Hooked(BoundedAttributes):
    """Does something, in another thread, where a span gets attributes with bounds."""

    hook: Callable[[], None] | None = None

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        hook, Hooked.hook = Hooked.hook, None
        if hook is not None:
            thread = threading.Thread(target=hook)
            thread.start()
            thread.join(0.1)  # or it waits for the one that waits here


TOLD: dict[str, tuple[Callable[[trace.Span], None], Callable[[ReadableSpan], bool]]] = {
    "attribute": (lambda span: span.set_attribute("other", 1), lambda found: (found.attributes or {})["other"] == 1),
    "status": (
        lambda span: span.set_status(Status(StatusCode.ERROR)),
        lambda found: found.status.status_code is StatusCode.ERROR,
    ),
    "event": (lambda span: span.add_event("other"), lambda found: "other" in [each.name for each in found.events]),
    "name": (lambda span: span.update_name("other"), lambda found: found.name == "other"),
    "end": (lambda span: careful.end(span, {"other": 1}), lambda found: (found.attributes or {})["other"] == 1),
}


@pytest.mark.parametrize("what", TOLD)
def test_what_a_thread_tells_it_while_another_makes_it_full_is_kept(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tell, is_kept = TOLD[what]
    monkeypatch.setattr(sdk, "BoundedAttributes", Hooked)
    here = Traced()
    span = here.below(attributes={"a": 1}, start_time=1)
    done = threading.Event()

    def other() -> None:
        tell(span)
        done.set()

    Hooked.hook = other
    span.add_event("first")
    assert done.wait(10)
    span.end()
    (found,) = here.kept.get_finished_spans()
    assert is_kept(found)
    assert found.start_time == 1
    assert (found.attributes or {})["a"] == 1


def test_attributes_can_be_read_while_others_are_set() -> None:
    span = Traced().below(attributes={"a": 1})
    assert isinstance(span, LightSpan)
    reading = iter((span.attributes or {}).items())
    next(reading)
    span.set_attribute("b", 2)
    assert list(reading) == []
    assert dict(span.attributes or {}) == {"a": 1, "b": 2}


def test_what_is_set_again_comes_last_as_in_the_sdk() -> None:
    here = Traced()
    for tracer in (here.tracer, here.light):
        span = tracer.start_span("below", trace.set_span_in_context(here.above), attributes={"a": 1, "b": 2})
        span.set_attribute("a", 3)
        assert isinstance(span, Span)
        assert list(span.attributes or {}) == ["b", "a"]


def test_a_limit_is_kept_by_what_it_ends_with() -> None:
    here = Traced(limits=SpanLimits(max_span_attributes=32))
    span = here.below(attributes={"a": 1, "b": 2})
    span.set_attributes({f"key {each}": each for each in range(30)})
    careful.end(span, {"superstep.outcome": "finished"})
    (found,) = here.kept.get_finished_spans()
    assert (len(found.attributes or {}), found.dropped_attributes) == (32, 1)


def test_keys_that_are_no_texts_are_dropped_as_in_the_sdk() -> None:
    here = Traced()
    span = here.below()
    key: Any = 1
    span.set_attribute(key, 1)
    span.end()
    (found,) = here.kept.get_finished_spans()
    assert dict(found.attributes or {}) == {}


def test_flags_that_the_sdk_would_not_hand_down_are_not() -> None:
    class Others(NonRecordingSpan):
        def is_recording(self) -> bool:
            return True

    here = Traced()
    other = Others(SpanContext(5, 5, is_remote=False, trace_flags=TraceFlags(0x05)))
    for tracer in (here.tracer, here.light):
        span = tracer.start_span("below", trace.set_span_in_context(other))
        assert span.get_span_context().trace_flags == 0x01


@settings(max_examples=100)
@given(st.lists(OPERATIONS, min_size=1, max_size=5))
def test_what_it_is_told_after_its_end_changes_nothing_of_what_processors_got(
    told: list[tuple[str, tuple[Any, ...]]],
) -> None:
    here = Traced()
    span = here.below(attributes={"a": 1})
    careful.end(span, {"b": 2}, "c")
    (found,) = here.kept.get_finished_spans()
    before, ended = seen(found), found.end_time
    for operation, arguments in told:
        getattr(span, operation)(*arguments)
    assert (seen(found), found.end_time) == (before, ended)
    assert len(here.kept.get_finished_spans()) == 1


def test_the_sdk_that_is_installed_fits() -> None:
    """If it does not, spans of flows cost four times as much, and nothing else changes."""
    assert light.fits()


def test_with_an_sdk_that_does_not_fit_the_spans_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def built_differently(*args: Any, **more: Any) -> None:
        raise TypeError("another constructor")

    with monkeypatch.context() as patched:
        patched.setattr(LightSpan, "__init__", built_differently)
        light.fits.cache_clear()
        assert not light.fits()
        assert not isinstance(Traced().below(), LightSpan)
    light.fits.cache_clear()
    assert isinstance(Traced().below(), LightSpan)


def test_with_an_sdk_that_lacks_something_the_tracer_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Traced()
    monkeypatch.setitem(sys.modules, "superstep.runtime.telemetry.light", None)
    telemetry(metrics=False, tracer_provider=here.provider)
    try:
        assert active.telemetry is not None
        span = active.telemetry.tracer.start_span("a", trace.set_span_in_context(here.above))
        assert type(span) is type(here.above)
    finally:
        telemetry(traces=False, metrics=False)


def test_an_sdk_that_counts_its_spans_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    assert not isinstance(Traced().below(), LightSpan)


def test_a_tracer_of_somebody_else_is_left_alone() -> None:
    class Other(trace.NoOpTracer):
        pass

    other = Other()
    assert lightened(other, "superstep", "1") is other


def test_a_provider_that_is_set_later_is_used_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Traced()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    telemetry(metrics=False)
    try:
        assert active.telemetry is not None
        assert not active.telemetry.tracer.start_span("early").is_recording()
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", here.provider)
        above = active.telemetry.tracer.start_span("above")
        assert isinstance(active.telemetry.tracer.start_span("a", trace.set_span_in_context(above)), LightSpan)
    finally:
        telemetry(traces=False, metrics=False)


def test_it_is_as_the_tracer_says_when_that_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    on = True
    monkeypatch.setattr(SdkTracer, "_is_enabled", lambda _: on, raising=False)
    here = Traced()
    assert isinstance(here.light, LightTracer)
    assert isinstance(here.below(), LightSpan)
    on = False
    assert not here.below().is_recording()
