"""Traces, metrics and structured logs: off until `telemetry` or the settings turn them on, and free while they are off.

What the rooms call is an attribute of `switch.active`, or a field of what they have in hand, that is `None` while
telemetry is off. Nothing of OpenTelemetry is imported until it is turned on.
"""
