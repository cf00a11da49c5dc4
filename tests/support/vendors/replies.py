"""What a vendor says when a test leaves it to answer whole flows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.messages import HumanMessage

from superstep.graphs.underwriting.rules import answer as rule
from superstep.providers import OfflineRequest
from superstep.providers.offline import minimal_instance
from tests.support.vendors.acts import Act, answer, vectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.vendors.request import Request

__all__ = ["REPLIES", "pong", "underwriting"]


def pong(request: Request) -> Act:
    """The smallest answer that the caller can parse."""
    if request.api == "embeddings":
        return vectors()
    return answer("pong" if request.schema is None else minimal_instance(request.schema))


def underwriting(request: Request) -> Act:
    """Answers the questions of `graphs.underwriting` as its offline rules do, and any other as `pong` does."""
    if request.schema_name is None:
        return pong(request)
    asked = OfflineRequest(
        route="vendor", messages=(HumanMessage(request.text),), schema_name=request.schema_name, schema=request.schema
    )
    ruled = rule(asked)
    return pong(request) if ruled is None else answer(ruled)


REPLIES: dict[str, Callable[[Request], Act]] = {"pong": pong, "underwriting": underwriting}
