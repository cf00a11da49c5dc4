"""When a server asks to be asked again."""

from __future__ import annotations

import pytest

from superstep.providers.policy.headers import retry_after

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (None, None),
        ({}, None),
        ({"retry-after": "120"}, 120.0),
        ({"Retry-After": "0"}, 0.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "86400"}, 86400.0),
        ({"retry-after": "86401"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"date": DATE, "retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, 30.0),
        ({"date": DATE, "retry-after": "Wed, 21 Oct 2026 09:28:30 +0200"}, 30.0),
        ({"date": "Wed, 21 Oct 2026 07:28:00 -0000", "retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, 30.0),
        ({"date": DATE, "retry-after": "Wed, 21 Oct 2026 07:27:00 GMT"}, None),
        ({"date": DATE, "retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),  # compared with nothing
        ({"date": "today", "retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str] | None, seconds: float | None) -> None:
    assert retry_after(headers) == seconds
