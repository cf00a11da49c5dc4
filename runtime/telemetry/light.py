"""Spans of OpenTelemetry's SDK that cost a fifth. Imports the SDK; loaded only where the application has.

A super-step that reads and writes has four spans, begun and ended within a millisecond or two. Most of what the SDK
does for a span is for cases that do not arise in ours: attributes are copied and checked value by value, events and
links get lists with bounds, the sampler is asked whether the child of a recorded span is recorded. `LightSpan` is the
SDK's own class with a constructor that fills in the fields and no more. Whatever it is told beyond plain attributes (an
event, a link, an exception, a value that has to be cleaned) makes it first what the SDK would have made of it at once,
so that none who hold it see a difference: nodes, which find the span of their task as the current one, and processors.

`LightTracer` makes them where nothing would have been decided otherwise: the parent is a recorded span of this process,
the sampler records the children of those, and no limits are set that attributes would have to be cut to. In all other
cases, and with an SDK whose spans turn out to be built differently (`fits`), the SDK makes the span.
"""

from __future__ import annotations

import os
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, DEFAULT_ON, ParentBased, ParentBasedTraceIdRatio
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.sampling import Sampler
    from opentelemetry.trace import Link
    from opentelemetry.util.types import AnyValue, Attributes

__all__ = ["LightSpan", "LightTracer", "fits", "lightened"]

_UNSET: Final = Status(StatusCode.UNSET)
_COUNTS_SPANS: Final = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"  # of the SDK
_ENOUGH: Final = 32  # attributes: more than any span of ours has. Under a lower limit the SDK counts them
_BOUNDED: Final = frozenset({"_attributes", "_events", "_links"})
_FLAGS: Final = (1, 3)  # sampled, with a random trace id or not: children have the same
_PLAIN: Final = frozenset({str, bool, int, float})  # values that the SDK leaves as they are


class Kit(NamedTuple):
    """What all light spans of a tracer have.

    Attributes:
        maker: the SDK's tracer: its resource, processors and source of ids.
        scope: what it was asked for by.
        limits: of the provider.
    """

    maker: SdkTracer
    scope: InstrumentationScope
    limits: SpanLimits


class Above:
    """A recorded span of this process, as the parent of light ones.

    Args:
        kit: of the tracer.
        context: the ids of the span.
    """

    __slots__ = ("_context", "_kit")

    def __init__(self, kit: Kit, context: SpanContext) -> None:
        self._kit = kit
        self._context = context

    def light_child(
        self, name: str, context: Context | None, attributes: dict[str, AnyValue], kind: SpanKind, began: int | None
    ) -> LightSpan:
        """A light span below it, begun.

        Args:
            name: of what is done.
            context: one in which the span above is the current one, for processors.
            attributes: plain ones, and few. They are the new span's from here on.
            kind: as in the SDK.
            began: nanoseconds since 1970; now, if `None`.
        """
        return _below(self._context, self._kit, name, context, attributes, kind, began)


def _below(
    above: SpanContext,
    kit: Kit,
    name: str,
    context: Context | None,
    attributes: dict[str, AnyValue],
    kind: SpanKind,
    began: int | None,
) -> LightSpan:
    maker = kit.maker
    new = SpanContext(
        above.trace_id, maker.id_generator.generate_span_id(), False, above.trace_flags, above.trace_state
    )
    span = LightSpan(name, new, above, kit, attributes, kind, time.time_ns() if began is None else began)
    maker.span_processor.on_start(span, parent_context=context)
    return span


class LightSpan(Span):
    """A recorded span below another of this process.

    Args:
        name: of what is done.
        context: its ids.
        parent: of the span above.
        kit: of the tracer.
        attributes: plain ones. They are the span's from here on.
        kind: as in the SDK.
        began: nanoseconds since 1970.
    """

    _record_exception = _set_status_on_exception = True  # as a context manager, which ours are not

    def __init__(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext,
        kit: Kit,
        attributes: dict[str, AnyValue],
        kind: SpanKind,
        began: int,
    ) -> None:
        maker, scope, self._limits = kit
        info = maker.instrumentation_info
        ReadableSpan.__init__(
            self, name, context, parent, maker.resource, attributes, (), (), kind, info, _UNSET, began, None, scope
        )
        self._lock = threading.Lock()
        self._kit = kit
        self._plain: dict[str, AnyValue] | None = attributes  # None: it is one of the SDK's

    def light_child(
        self, name: str, context: Context, attributes: dict[str, AnyValue], kind: SpanKind, began: int | None
    ) -> LightSpan:
        """See `Above`."""
        return _below(self.get_span_context(), self._kit, name, context, attributes, kind, began)

    # What is plain stays so.

    def set_attribute(self, key: str, value: AnyValue) -> None:
        """See the SDK."""
        if not self._take({key: value}):
            super().set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """See the SDK."""
        if not self._take(attributes):
            super().set_attributes(attributes)

    def _take(self, attributes: Mapping[str, AnyValue]) -> bool:
        """Whether these are plain, and are its own now. If not, it is one of the SDK's."""
        if self._plain is not None and (plain := _plain(attributes)) is not None:
            with self._lock:
                if (mine := self._plain) is not None and self._end_time is None and len(mine) + len(plain) <= _ENOUGH:
                    self._set(mine, plain)
                    return True
        self._become_full()
        return False

    def _set(self, mine: dict[str, AnyValue], plain: dict[str, AnyValue]) -> None:
        """In place of those that it has: whoever reads those at the moment goes on reading them."""
        if not mine.keys().isdisjoint(plain):
            mine = {key: value for key, value in mine.items() if key not in plain}
        self._attributes = self._plain = {**mine, **plain}

    def end(self, end_time: int | None = None) -> None:
        """See the SDK."""
        self._end(end_time, {}, None)

    def light_end(self, said: dict[str, AnyValue], name: str | None = None) -> None:
        """End it with these attributes, which are few and plain, and under this name."""
        self._end(None, said, name)

    def _end(self, at: int | None, said: dict[str, AnyValue], name: str | None) -> None:
        if said and len(self._attributes or ()) + len(said) > _ENOUGH:
            self._become_full()
        with self._lock:
            plain = self._plain if self._end_time is None else None
            if plain is not None:
                self._end_time = time.time_ns() if at is None else at
                if said:
                    self._set(plain, said)
                self._name = name or self._name
        if plain is None:
            if name is not None:
                super().update_name(name)
            if said:
                super().set_attributes(said)
            super().end(at)
            return
        processor = self._kit.maker.span_processor
        processor._on_ending(self)  # noqa: SLF001 - as the SDK's own spans do
        processor.on_end(self)  # a copy would say the same: it has ended, and refuses what it is told from here on

    # All else is the SDK's.

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """See the SDK."""
        self._become_full()
        super().add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """See the SDK."""
        self._become_full()
        super().add_link(context, attributes)

    def _become_full(self) -> None:
        """Have all that the SDK's constructor gives a span. One that has ended stays as the processors got it.

        Another one is built, and what it has is put in place of the little there is, under the lock that all wait for:
        no thread sees a span without its beginning, its status or its attributes.
        """
        with self._lock:
            if self._plain is None or self._end_time is not None:
                return
            full = _Full(
                self._name,
                self.get_span_context(),
                attributes=self._plain,
                resource=self._resource,
                limits=self._limits,
                span_processor=self._kit.maker.span_processor,
            )
            has = vars(self)
            missing = {name: value for name, value in vars(full).items() if name not in has or name in _BOUNDED}
            has.update(missing)
            self._plain = None


class _Full(Span):
    """One of the SDK's, for what is in it."""


class LightTracer(Tracer):
    """A tracer of the SDK that makes light spans where it can.

    Args:
        tracer: the SDK's.
        scope: what it was asked for by.
    """

    def __init__(self, tracer: SdkTracer, scope: InstrumentationScope) -> None:
        self._tracer = tracer
        limits: SpanLimits = getattr(tracer, "_span_limits", None) or SpanLimits()
        self._kit = Kit(tracer, scope, limits)
        self._enabled: Callable[[], bool] = getattr(tracer, "_is_enabled", lambda: True)
        self._can = (
            _records_below(tracer.sampler)
            and limits.max_span_attribute_length is None
            and (limits.max_span_attributes is None or limits.max_span_attributes >= _ENOUGH)
            and not os.environ.get(_COUNTS_SPANS)  # the SDK counts its own spans
            and fits()
        )

    def below(self, span: trace.Span) -> Above | None:
        """Where spans below this one are made; `None` if they have to be the SDK's."""
        above = span.get_span_context()
        if (
            self._can
            and span.is_recording()
            and above.trace_flags in _FLAGS
            and not above.is_remote
            and self._enabled()
        ):
            return Above(self._kit, above)
        return None

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace.Span:
        """See OpenTelemetry."""
        if not links and (above := self.below(trace.get_current_span(context))) is not None:
            plain = _plain(attributes or {})
            if plain is not None and len(plain) <= _ENOUGH:
                return above.light_child(name, context, plain, kind, start_time)
        return self._tracer.start_span(
            name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )

    def start_as_current_span(self, *args: Any, **more: Any) -> Any:
        """See OpenTelemetry. Not used here."""
        return self._tracer.start_as_current_span(*args, **more)


def lightened(tracer: Tracer, name: str, release: str) -> Tracer:
    """The tracer, or one that makes light spans in its place.

    Args:
        tracer: of whatever the application uses.
        name: what it was asked for by.
        release: likewise.
    """
    if type(tracer) is not SdkTracer:
        return tracer
    return LightTracer(tracer, InstrumentationScope(name, release))


def _plain(attributes: Mapping[str, AnyValue]) -> dict[str, AnyValue] | None:
    """A copy, as the SDK would keep it; `None` if it would have to clean them. Sequences of texts become tuples."""
    kept: dict[str, AnyValue] = {}
    for key, value in attributes.items():
        if type(key) is not str or not key:
            return None
        if type(value) in _PLAIN:
            kept[key] = value
        elif type(value) in (list, tuple) and all(type(each) is str for each in value):  # type: ignore[union-attr]
            kept[key] = tuple(value)  # type: ignore[arg-type]
        else:
            return None
    return kept


def _records_below(sampler: Sampler) -> bool:
    """It records every child of a recorded span of this process, whatever the child is."""
    if sampler is ALWAYS_ON or sampler is DEFAULT_ON:
        return True
    return type(sampler) in (ParentBased, ParentBasedTraceIdRatio) and (
        getattr(sampler, "_local_parent_sampled", None) is ALWAYS_ON
    )


class _Seen(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


@cache
def fits() -> bool:
    """The SDK that is installed builds spans of what `LightSpan` fills in: two were told all there is, and read."""
    try:
        one, two = _tried()
        fields = [
            (each.name, each.kind, each.parent, each.status.status_code, each.start_time, each.end_time)
            for each in (one, two)
        ]
        told = dict(one.attributes or {}), dict(two.attributes or {}), [each.name for each in two.events]
    except Exception:  # noqa: BLE001 - of an SDK that nobody here has seen
        return False
    return fields == [("e", SpanKind.CLIENT, _ABOVE, StatusCode.ERROR, 1, 5)] * 2 and told == (
        {"a": 1, "b": "2"},
        {"a": 1, "b": "2", "d": 3.0},
        ["c"],
    )


_ABOVE: Final = SpanContext(1, 1, False, TraceFlags(TraceFlags.SAMPLED))


def _tried() -> list[ReadableSpan]:
    """A span that stayed light and one that became full, as a processor got them."""
    seen = _Seen()
    provider = TracerProvider(shutdown_on_exit=False, resource=Resource({}))
    provider.add_span_processor(seen)
    tracer = cast("SdkTracer", provider.get_tracer("superstep"))
    kit = Kit(tracer, InstrumentationScope("superstep"), SpanLimits())
    for full in (False, True):
        span = LightSpan("a", _ABOVE, _ABOVE, kit, {"a": 1}, SpanKind.CLIENT, 1)
        span.set_attribute("b", "2")
        if full:
            span.add_event("c")
            span.set_attribute("d", 3.0)
        span.update_name("e")
        span.set_status(Status(StatusCode.ERROR))
        span.end(5)
    return seen.spans
