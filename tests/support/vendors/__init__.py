"""Vendors of models for tests: real HTTP on loopback, scripted to answer, fail, stall, lie or vanish.

    with Vendor() as vendor:
        vendor.script(status(429, retry_after=1), answer("pong"))
        model = ChatOpenAI(model="m", api_key="k", base_url=vendor.openai_url, max_retries=0)

Behaviour is in `acts`, the two wires in `openai` and `anthropic`, the server in `server`; `process` runs it as a
process that can be killed, and `replies` answers whole flows.
"""

from __future__ import annotations

from tests.support.vendors.acts import Act, Call, answer, call, empty, hang_up, raw, refused, status, vectors
from tests.support.vendors.process import VendorProcess, vendor_process
from tests.support.vendors.request import Request, vector
from tests.support.vendors.server import Vendor

__all__ = [
    "Act",
    "Call",
    "Request",
    "Vendor",
    "VendorProcess",
    "answer",
    "call",
    "empty",
    "hang_up",
    "raw",
    "refused",
    "status",
    "vector",
    "vectors",
    "vendor_process",
]
