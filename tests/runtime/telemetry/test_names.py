"""Names that are OpenTelemetry's are spelt as in its semantic conventions."""

from __future__ import annotations

import importlib
import pkgutil

import opentelemetry.semconv._incubating.attributes as attributes
import opentelemetry.semconv._incubating.metrics.gen_ai_metrics as metrics
from opentelemetry.semconv._incubating.attributes.gen_ai_attributes import GenAiOperationNameValues

from superstep.runtime.telemetry import names


def known() -> set[str]:
    found = pkgutil.iter_modules(attributes.__path__)
    modules = [importlib.import_module(f"{attributes.__name__}.{each.name}") for each in found]
    return {value for module in modules for value in vars(module).values() if isinstance(value, str)}


def test_attributes_and_metrics_are_those_of_the_conventions() -> None:
    ours = {value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}
    theirs = {value for value in ours if value.startswith(("gen_ai.", "db.", "error."))}
    measures = {value for value in vars(metrics).values() if isinstance(value, str)}
    assert theirs <= known() | measures, theirs - known() - measures
    assert len(theirs) > 15


def test_operations_are_those_of_the_conventions() -> None:
    assert {names.RUN, names.CHAT} <= {each.value for each in GenAiOperationNameValues}
