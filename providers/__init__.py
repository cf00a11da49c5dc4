"""Language and embedding models behind one small door.

The rooms, each of which imports only those below it:

- `chat`: a call from its request to its record, as a LangChain chat model. `embeddings`: text to vectors;
- `routing`: finds a deployment that answers;
- `transport`: one request to one deployment. Messages, tools and streams are mapped by `langchain-openai` and
  `langchain-anthropic`; what they leave open is here;
- `offline`: a deterministic chat model, so that every flow runs on a machine without keys or network.
  `records`: what is kept of a call, and the ports through which it leaves;
- `policy`: decisions. Pure, and tested under a virtual clock;
- `catalog`: what is configured, from `runtime.toml` or from the keys that are set. `clock`: the time of routing.

The way of a chat message through them:

1. `chat.model`: LangChain's interface; makes the request of messages, tools and parameters.
2. `chat.service`: sees the call through, from its beginning to its record.
3. `routing.budgets`: reserves what the call may spend.
4. `routing.router`: asks one candidate after another, or two at once, until one answers.
5. `routing.candidates`: the deployments that may be asked, in the order of the route's strategy.
6. `routing.deployment_state`: admits the call, or says what it has to wait for.
7. `transport.invoke`: asks one deployment under its time limits.
8. `transport.clients`: its LangChain model, with key and connections.
9. `transport.wire`: its arguments in the provider's dialect. Then the vendor's SDK sends them.
10. `chat.call`: makes the record of the answer, which travels with it.

What is named here is loaded when it is first used, and the SDKs, which take seconds to import, when a route first needs
them: a program that opens a saver and asks no model waits for neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from superstep.providers.chat.chat_model import chat_model
    from superstep.providers.chat.model import RoutedChatModel
    from superstep.providers.chat.registry import close_service, configure, current_catalog, current_service
    from superstep.providers.embeddings import Embedder, embedder
    from superstep.providers.offline import OfflineChatModel, OfflineReply, OfflineRequest, OfflineRules, ToolCall
    from superstep.providers.records.call_record import record_of

_HOMES = {
    "chat.chat_model": ("chat_model",),
    "chat.model": ("RoutedChatModel",),
    "chat.registry": ("close_service", "configure", "current_catalog", "current_service"),
    "embeddings": ("Embedder", "embedder"),
    "offline": ("OfflineChatModel", "OfflineReply", "OfflineRequest", "OfflineRules", "ToolCall"),
    "records.call_record": ("record_of",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "chat_model",
    "close_service",
    "configure",
    "current_catalog",
    "current_service",
    "embedder",
    "record_of",
    "Embedder",
    "OfflineChatModel",
    "OfflineReply",
    "OfflineRequest",
    "OfflineRules",
    "RoutedChatModel",
    "ToolCall",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
