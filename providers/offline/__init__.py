"""A chat model without a model: deterministic, instant, labelled as offline wherever it shows.

It lets every flow, test and demonstration run on a machine without keys or network. A flow brings its own rules; a
request that no rule answers gets the smallest valid answer.

- `model`: the LangChain chat model. `request`: what rules are asked, and may answer;
- `schema`: the smallest value that a JSON schema accepts.
"""

from __future__ import annotations

from superstep.providers.offline.model import OfflineChatModel, qualified_name
from superstep.providers.offline.request import OfflineReply, OfflineRequest, OfflineRules, ToolCall
from superstep.providers.offline.schema import minimal_instance

__all__ = [
    "OfflineChatModel",
    "OfflineReply",
    "OfflineRequest",
    "OfflineRules",
    "ToolCall",
    "minimal_instance",
    "qualified_name",
]
