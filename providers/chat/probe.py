"""Asking each deployment for one small answer, to see whether it works."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from langchain_core.messages import HumanMessage

from superstep.providers.catalog.model import Catalog, Route
from superstep.providers.chat.call import ChatRequest
from superstep.providers.chat.service import Service
from superstep.runtime.faults import ProviderExhausted, RuntimeFault

if TYPE_CHECKING:
    from superstep.providers.catalog.model import Deployment

__all__ = ["CheckResult", "check"]

MAX_TOKENS = 16  # the least that OpenAI's newer API accepts


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one small call ended.

    Attributes:
        ok: it was answered.
        ms: milliseconds it took.
        why: why it was not answered.
        error: the class of what it failed with.
    """

    ok: bool
    ms: float
    why: str | None = None
    error: str | None = None


async def check(deployment: Deployment) -> CheckResult:
    """Send one small call, once: no retries, no fallback, no regard for its circuit and limits. It costs a few tokens.

    Never raises because of the deployment: its failure is in the result.
    """
    alone = Route(name="check", deployments=(replace(deployment, retries=0, rpm=None, tpm=None),), patience=0.0)
    service = Service(Catalog(routes={}, catch_all=alone))
    request = ChatRequest("check", [HumanMessage("Reply with OK.")], arguments={"max_tokens": MAX_TOKENS})
    began = time.monotonic()
    try:
        await service.answer(request)
    except ProviderExhausted as error:
        why = ", ".join(dict.fromkeys(str(each["why"]) for each in error.tried)) or str(error)
        return CheckResult(ok=False, ms=_since(began), why=why, error=type(error.exceptions[0]).__name__)
    except RuntimeFault as error:
        return CheckResult(ok=False, ms=_since(began), why=str(error), error=type(error).__name__)
    finally:
        await service.clients.aclose()
    return CheckResult(ok=True, ms=_since(began))


def _since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 3)
